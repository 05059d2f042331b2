//! A control group in each hierarchy of this server, found by its path below the root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a killed process may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The mount points of all hierarchies: one on a pure v2 server, a dozen on v1.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let is_cgroup = kind.starts_with("cgroup ") || kind.starts_with("cgroup2 ");
            is_cgroup.then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
        })
        .collect()
}

#[derive(Debug, Clone)]
pub struct Group {
    path: String,
}

impl Group {
    pub fn new(path: String) -> Self {
        Self { path }
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        hierarchies().into_iter().map(|root| root.join(&self.path)).filter(|folder| folder.is_dir())
    }

    /// Makes it where processes are counted or limited: in v2, and in v1's `memory` and `pids`.
    /// Returns the files that a process joins it by.
    pub fn make(&self) -> io::Result<Vec<PathBuf>> {
        let mut joins = Vec::new();
        for root in hierarchies() {
            let is_v2 = root.join("cgroup.controllers").exists();
            let counts = ["memory", "pids"].iter().any(|name| root.ends_with(name));
            if !is_v2 && !counts {
                continue;
            }
            let folder = root.join(&self.path);
            fs::create_dir_all(&folder)?;
            joins.push(folder.join("cgroup.procs"));
        }
        Ok(joins)
    }

    /// All processes in it and below it.
    pub fn processes(&self) -> Vec<i32> {
        let mut all = Vec::new();
        for folder in self.folders() {
            gather(&folder, &mut all);
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    pub fn is_empty(&self) -> bool {
        self.processes().is_empty()
    }

    /// Asks everything in it to end, for at most `patience`.
    pub fn ask(&self, patience: Duration) {
        for pid in self.processes() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + patience;
        while !self.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills everything in it, frozen or forking, and waits until it is gone.
    pub fn end(&self) {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            for folder in self.folders() {
                thaw(&folder);
                // v2, from Linux 5.14: all at once, also what is being forked.
                let _ = fs::write(folder.join("cgroup.kill"), "1");
            }
            let processes = self.processes();
            if processes.is_empty() || Instant::now() > deadline {
                return;
            }
            for pid in processes {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes it with all below it, in every hierarchy.
    pub fn remove(&self) {
        for folder in self.folders() {
            remove(&folder);
        }
    }
}

fn below(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).filter(|path| path.is_dir())
}

fn gather(folder: &Path, all: &mut Vec<i32>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    // 0: a process of another PID namespace.
    all.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0));
    below(folder).for_each(|folder| gather(&folder, all));
}

/// v1: a frozen process does not die.
fn thaw(folder: &Path) {
    let state = folder.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
    below(folder).for_each(|folder| thaw(&folder));
}

fn remove(folder: &Path) {
    below(folder).for_each(|folder| remove(&folder));
    // A group stays busy for a moment after its last process ended.
    let deadline = Instant::now() + Duration::from_secs(1);
    while fs::remove_dir(folder).is_err() && folder.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}
