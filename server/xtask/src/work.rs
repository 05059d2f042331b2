//! Steps with their number and the time since the start, and programs that are run in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use harness::{read, run};

pub struct Work {
    started: Instant,
    step: usize,
    steps: usize,
}

impl Work {
    pub fn new(steps: usize) -> Self {
        Self { started: Instant::now(), step: 0, steps }
    }

    /// Says what is done now.
    pub fn step(&mut self, what: &str) {
        self.step += 1;
        eprintln!("[{}/{}] {:>6}  {what}", self.step, self.steps, clock(self.started.elapsed()));
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// `1m07s`
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{:02}s", seconds / 60, seconds % 60) }
}

/// The repository's root.
pub fn root() -> PathBuf {
    let here =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.ancestors().nth(2).map_or(here.clone(), Path::to_owned)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A program, started in the root, without what cargo told *this* program about itself:
/// it would make build scripts run again.
pub fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    for (key, _) in std::env::vars_os() {
        let key_text = key.to_string_lossy();
        let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if told.iter().any(|prefix| key_text.starts_with(prefix)) {
            command.env_remove(&key);
        }
    }
    command
}

pub fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

pub fn need_linux() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("Berth runs on Linux only: it needs its namespaces, cgroups and nftables");
    }
    Ok(())
}

/// Whether this user is root, asked of the kernel without a dependency.
pub fn need_root(what: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let me = std::fs::metadata("/proc/self").context("/proc is not mounted")?;
    if me.uid() != 0 {
        bail!(
            "{what} needs root: it makes users' processes, sandboxes and a network of its own. Try it as root, or with sudo -E"
        );
    }
    Ok(())
}
