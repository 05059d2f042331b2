//! Installs what is missing: Debian's packages in one call, the compiler's targets, nextest, npm's part.
//! First of all, since PostgreSQL breaks when it is upgraded under a running server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::work::{cargo, program, read, root, run, target};

/// What for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    Running,
    Testing,
}

/// A file that is there when the package is: a program's name, or a path.
const RUNNING: &[(&str, &str)] = &[
    ("cc", "build-essential"),
    // By their paths: what a sandbox sees of this server is its `/usr`.
    ("/usr/bin/git", "git"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("/usr/lib/postgresql", "postgresql"),
    ("redis-server", "redis-server"),
    ("crun", "crun"),
    ("nft", "nftables"),
    ("mksquashfs", "squashfs-tools"),
    ("mkfs.ext4", "e2fsprogs"),
    ("/usr/share/containers/seccomp.json", "golang-github-containers-common"),
    ("/usr/bin/python3", "python3"),
    ("/usr/share/doc/python3-venv", "python3-venv"),
    ("pip3", "python3-pip"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    ("node", "nodejs"),
    ("npm", "npm"),
];
const TESTING: &[(&str, &str)] =
    &[("chromium", "chromium"), ("wrk", "wrk"), ("curl", "curl"), ("dbclient", "dropbear-bin")];

pub fn install(purpose: For) -> Result<()> {
    packages(purpose)?;
    targets()?;
    uv()?;
    if purpose == For::Testing {
        nextest()?;
        browser()?;
    }
    Ok(())
}

/// Whether a program is in the path of commands, or a file is there.
fn there(name: &str) -> bool {
    if name.starts_with('/') {
        return Path::new(name).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(name).is_file())
}

fn packages(purpose: For) -> Result<()> {
    let needed = RUNNING.iter().chain(if purpose == For::Testing { TESTING } else { &[] });
    let mut missing: Vec<&str> = needed.filter(|(file, _)| !there(file)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    if !there("apt-get") {
        bail!("these are missing, and apt-get, which would install them, too: {}", missing.join(", "));
    }
    eprintln!("          installing {}", missing.join(", "));
    // Berth starts its own PostgreSQL; Debian's would start one at installation.
    let common = Path::new("/etc/postgresql-common");
    let create = common.join("createcluster.conf");
    if missing.contains(&"postgresql") && !create.exists() {
        fs::create_dir_all(common).context("could not make /etc/postgresql-common")?;
        fs::write(&create, "create_main_cluster = false\n").context("could not write createcluster.conf")?;
    }
    let _quiet = NoServices::begin();
    let apt = || {
        let mut apt = program("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt.args(["-q", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confold"]);
        apt
    };
    read(apt().arg("update")).context("could not renew the list of packages")?;
    read(apt().args(["install", "-y", "--no-install-recommends"]).args(&missing))
        .context("could not install what is missing")?;
    Ok(())
}

/// While it lives, an installed service is not started: Redis would take its port.
struct NoServices(Option<PathBuf>);

impl NoServices {
    fn begin() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        let ours = !policy.exists()
            && fs::write(&policy, "#!/bin/sh\nexit 101\n").is_ok()
            && fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)).is_ok();
        Self(ours.then_some(policy))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.0 {
            let _ = fs::remove_file(policy);
        }
    }
}

/// The shim's target: static where Rust has musl for it.
pub fn shim_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

fn targets() -> Result<()> {
    let wanted = ["wasm32-unknown-unknown".to_owned(), shim_target()];
    let sysroot = PathBuf::from(read(program("rustc").args(["--print", "sysroot"]))?.trim());
    let missing: Vec<&String> =
        wanted.iter().filter(|t| !sysroot.join("lib/rustlib").join(t).join("lib").exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("          adding the compiler's targets {missing:?}");
    read(program("rustup").args(["target", "add"]).args(missing)).map(drop).context("could not add a target by rustup")
}

const UV: &str = "0.13.9";

/// What installs Python packages in builds, from PyPI: Debian has none. `berth up --uv` gets it.
pub fn uv_program() -> PathBuf {
    target().join("tools/uv")
}

fn uv() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if uv_program().is_file() {
        return Ok(());
    }
    eprintln!("          fetching uv {UV}");
    let folder = target().join(format!("tools/uv-{UV}.{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"];
    read(program("python3").args(pip).arg(&folder).arg(format!("uv=={UV}"))).context("could not fetch uv from PyPI")?;
    let wheel = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.is_file());
    let wheel = wheel.context("pip fetched no uv")?;
    read(program("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&folder)).context("could not unpack uv")?;
    let unpacked = folder.join(format!("uv-{UV}.data/scripts/uv"));
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755)).context("uv's wheel holds no uv")?;
    fs::rename(&unpacked, uv_program()).context("could not place uv")?;
    fs::remove_dir_all(&folder).with_context(|| format!("could not remove {}", folder.display()))
}

/// The test runner: found, or built once into the target directory.
pub fn nextest_program() -> Option<PathBuf> {
    let built = target().join("tools/bin/cargo-nextest");
    if built.is_file() {
        return Some(built);
    }
    there("cargo-nextest").then(|| PathBuf::from("cargo-nextest"))
}

fn nextest() -> Result<()> {
    if nextest_program().is_some() {
        return Ok(());
    }
    eprintln!("          building the test runner (cargo-nextest), once");
    run(cargo().args(["install", "--locked", "--quiet", "cargo-nextest", "--root"]).arg(target().join("tools")))
}

/// What drives the browser in tests, pinned by its lock file.
fn browser() -> Result<()> {
    let folder = root().join("end2end/browser");
    let (lock, installed) = (folder.join("package-lock.json"), folder.join("node_modules/.package-lock.json"));
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    if !lock.exists() || time(&installed) >= time(&lock) {
        return Ok(());
    }
    eprintln!("          installing the browser tests' packages");
    let mut npm: Command = program("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
    read(&mut npm).map(drop)
}
