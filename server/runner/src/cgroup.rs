//! Control groups of one slice, on a host with v1, v2 or both: `berth-<n>/apps/<unit>`, in which
//! the runtime makes the sandbox's own group `c`.
//!
//! A unit's group outlives its sandboxes, so its CPU counter goes on counting over restarts; it is
//! removed when its last value is spooled.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How this host counts and limits.
#[derive(Debug, Clone)]
enum Host {
    V2 {
        root: PathBuf,
    },
    V1 {
        /// Every v1 hierarchy's mount point with its controllers.
        hierarchies: Vec<(PathBuf, Vec<String>)>,
        /// The v2 mount beside them, which crun must not see.
        unified: Option<PathBuf>,
    },
}

#[derive(Debug, Clone)]
pub struct Cgroups {
    host: Host,
    /// `berth-<n>`
    slice: String,
}

const WANTED_V1: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];
const WANTED_V2: [&str; 3] = ["cpu", "memory", "pids"];

impl Cgroups {
    /// Finds out what the host has. Nothing is made yet.
    pub fn find(slice: u32) -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let mut hierarchies: Vec<(PathBuf, Vec<String>)> = vec![];
        let mut unified = None;
        for line in mounts.lines() {
            let Some((place, kind)) = line.split_once(" - ") else { continue };
            let mut kind = kind.split(' ');
            let (kind, options) = (kind.next().unwrap_or_default(), kind.nth(1).unwrap_or_default());
            let Some(path) = place.split(' ').nth(4).map(PathBuf::from) else { continue };
            match kind {
                "cgroup2" => unified = Some(path),
                "cgroup" => hierarchies.push((path, options.split(',').map(str::to_owned).collect())),
                _ => {}
            }
        }
        let has = |c: &&str| hierarchies.iter().any(|(_, cs)| cs.iter().any(|x| x == c));
        let host = if WANTED_V1.iter().all(has) {
            Host::V1 { hierarchies, unified }
        } else if let Some(root) = unified {
            let there = fs::read_to_string(root.join("cgroup.controllers"))?;
            if let Some(missing) = WANTED_V2.iter().find(|c| !there.split_whitespace().any(|t| t == **c)) {
                return Err(io::Error::other(format!("the kernel's cgroups lack the controller {missing}")));
            }
            Host::V2 { root }
        } else {
            return Err(io::Error::other("no cgroups are mounted with cpu, cpuacct, memory, pids and devices"));
        };
        Ok(Self { host, slice: format!("berth-{slice}") })
    }

    /// What crun must not see on this host.
    pub fn unified_to_hide(&self) -> Option<&Path> {
        match &self.host {
            Host::V1 { unified, .. } => unified.as_deref(),
            Host::V2 { .. } => None,
        }
    }

    /// For the runtime's configuration.
    pub fn sandbox_path(&self, unit: &str) -> String {
        format!("/{}/apps/{unit}/c", self.slice)
    }

    fn roots(&self) -> Vec<&Path> {
        match &self.host {
            Host::V2 { root } => vec![root],
            Host::V1 { hierarchies, unified } => {
                hierarchies.iter().map(|(p, _)| p.as_path()).chain(unified.as_deref()).collect()
            }
        }
    }

    fn v1(&self, controller: &str) -> Option<&Path> {
        match &self.host {
            Host::V1 { hierarchies, .. } => {
                hierarchies.iter().find(|(_, cs)| cs.iter().any(|c| c == controller)).map(|(p, _)| p.as_path())
            }
            Host::V2 { .. } => None,
        }
    }

    /// `berth-<n>/apps`, limited to what apps may use together, and `apps/shims`.
    pub fn set_up(&self, memory_bytes: u64) -> io::Result<()> {
        let apps = format!("{}/apps", self.slice);
        self.make(&apps)?;
        match &self.host {
            Host::V2 { root } => fs::write(root.join(&apps).join("memory.max"), memory_bytes.to_string())?,
            Host::V1 { .. } => {
                if let Some(memory) = self.v1("memory") {
                    fs::write(memory.join(&apps).join("memory.limit_in_bytes"), memory_bytes.to_string())?;
                }
            }
        }
        self.make(&format!("{apps}/shims"))
    }

    /// What apps use together, without files that the kernel only keeps in memory while nobody wants it.
    pub fn memory_used_bytes(&self) -> u64 {
        self.memory_of(&format!("{}/apps", self.slice))
    }

    /// The same of one unit.
    pub fn unit_memory_bytes(&self, unit: &str) -> u64 {
        self.memory_of(&format!("{}/apps/{unit}", self.slice))
    }

    fn memory_of(&self, group: &str) -> u64 {
        let (group, now, idle) = match &self.host {
            Host::V2 { root } => (root.join(group), "memory.current", "inactive_file "),
            Host::V1 { .. } => match self.v1("memory") {
                Some(memory) => (memory.join(group), "memory.usage_in_bytes", "total_inactive_file "),
                None => return 0,
            },
        };
        let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
        let kept = read("memory.stat").lines().find_map(|line| line.strip_prefix(idle)?.parse::<u64>().ok());
        read(now).trim().parse::<u64>().unwrap_or(0).saturating_sub(kept.unwrap_or(0))
    }

    /// A unit's own group, above its sandboxes' ones. Made anew or already there.
    pub fn make_unit(&self, unit: &str) -> io::Result<()> {
        self.make(&format!("{}/apps/{unit}", self.slice))
    }

    fn make(&self, path: &str) -> io::Result<()> {
        for root in self.roots() {
            let mut at = root.to_owned();
            for part in path.split('/') {
                if matches!(self.host, Host::V2 { .. }) {
                    let all = WANTED_V2.map(|c| format!("+{c}")).join(" ");
                    fs::write(at.join("cgroup.subtree_control"), all)?;
                }
                at.push(part);
                match fs::create_dir(&at) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                    _ => {}
                }
                // v1 cpuset begins empty, and then no process may enter.
                if at.join("cpuset.cpus").exists() && self.v1("cpuset").is_some_and(|c| c == root) {
                    for file in ["cpuset.cpus", "cpuset.mems"] {
                        let above = at.parent().unwrap_or(&at).join(file);
                        fs::write(at.join(file), fs::read(above)?)?;
                    }
                }
            }
        }
        // On v2 a unit passes the controllers on to its sandbox.
        if let Host::V2 { root } = &self.host
            && !path.ends_with("/shims")
        {
            let all = WANTED_V2.map(|c| format!("+{c}")).join(" ");
            fs::write(root.join(path).join("cgroup.subtree_control"), all)?;
        }
        Ok(())
    }

    /// Files that take a process id and put it among the shims.
    pub fn shim_procs(&self) -> Vec<PathBuf> {
        self.roots().into_iter().map(|r| r.join(&self.slice).join("apps/shims/cgroup.procs")).collect()
    }

    /// On a hybrid host crun leaves a sandbox in its shim's v2 group; its own makes it freeze and
    /// end as one.
    pub fn join_unified(&self, unit: &str, pid: i32) -> io::Result<()> {
        let Some(unified) = self.unified_to_hide() else { return Ok(()) };
        fs::write(unified.join(&self.slice).join("apps").join(unit).join("cgroup.procs"), pid.to_string())
    }

    /// For the shim: the counter of CPU time and its unit, the file that tells of an out-of-memory
    /// kill, and the list of the sandbox's processes.
    pub fn shim_files(&self, unit: &str) -> ShimFiles {
        let of = |root: &Path| root.join(&self.slice).join("apps").join(unit);
        match &self.host {
            Host::V2 { root } => ShimFiles {
                cpu: of(root).join("cpu.stat"),
                cpu_unit: "us",
                oom: of(root).join("c/memory.events"),
                procs: of(root).join("c/cgroup.procs"),
            },
            Host::V1 { .. } => {
                let at = |c: &str| self.v1(c).map(of).unwrap_or_default();
                ShimFiles {
                    cpu: at("cpuacct").join("cpuacct.usage"),
                    cpu_unit: "ns",
                    oom: at("memory").join("c/memory.oom_control"),
                    procs: at("pids").join("c/cgroup.procs"),
                }
            }
        }
    }

    /// CPU time of all that ever ran in the unit, in microseconds. Only grows.
    pub fn cpu_micros(&self, unit: &str) -> io::Result<u64> {
        let files = self.shim_files(unit);
        let text = fs::read_to_string(&files.cpu)?;
        let value = match files.cpu_unit {
            "ns" => text.trim().parse::<u64>().ok().map(|ns| ns / 1000),
            _ => text.lines().find_map(|l| l.strip_prefix("usage_usec ")?.trim().parse().ok()),
        };
        value.ok_or_else(|| io::Error::other(format!("{} holds no number", files.cpu.display())))
    }

    /// Whether a process belongs to this slice's shims.
    pub fn holds_shim(&self, pid: i32) -> bool {
        let wanted = format!("/{}/apps/shims", self.slice);
        fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|groups| groups.lines().any(|l| l.rsplit(':').next() == Some(wanted.as_str())))
    }

    /// The names of the units that have a group.
    pub fn units(&self) -> Vec<String> {
        let mut units: Vec<String> = self
            .roots()
            .into_iter()
            .filter_map(|root| fs::read_dir(root.join(&self.slice).join("apps")).ok())
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                entry.file_type().ok()?.is_dir().then(|| entry.file_name().into_string().ok())?
            })
            .filter(|name| name != "shims")
            .collect();
        units.sort();
        units.dedup();
        units
    }

    /// Ends every process below the unit (all of the slice's apps for `None`) and waits for it.
    pub fn end(&self, unit: Option<&str>, limit: Duration) -> io::Result<()> {
        let path = match unit {
            Some(unit) => format!("{}/apps/{unit}", self.slice),
            None => format!("{}/apps", self.slice),
        };
        let until = std::time::Instant::now() + limit;
        loop {
            let mut left = 0;
            for root in self.roots() {
                for group in tree(&root.join(&path)) {
                    // A frozen process does not die (v1); v2 kills it all the same.
                    if group.join("freezer.state").exists() {
                        let _ = fs::write(group.join("freezer.state"), "THAWED");
                    }
                    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                    for pid in procs.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|p| *p > 1) {
                        left += 1;
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
            }
            if left == 0 {
                return Ok(());
            }
            if std::time::Instant::now() > until {
                return Err(io::Error::other(format!("{left} processes of {path} did not end")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes the unit's groups, deepest first. Its processes must have ended.
    pub fn remove_unit(&self, unit: &str) -> io::Result<()> {
        self.remove(&format!("{}/apps/{unit}", self.slice))
    }

    /// Removes all of `apps`, and the slice's group where nothing else is left in it.
    pub fn remove_all(&self) -> io::Result<()> {
        self.remove(&format!("{}/apps", self.slice))?;
        for root in self.roots() {
            let _ = fs::remove_dir(root.join(&self.slice));
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut failed = Ok(());
        for root in self.roots() {
            let mut groups = tree(&root.join(path));
            groups.reverse();
            for group in groups {
                // The last exit may still be on its way out of the group.
                let removed = (0..100).find_map(|_| match fs::remove_dir(&group) {
                    Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(Duration::from_millis(10));
                        None
                    }
                    other => Some(other),
                });
                match removed {
                    Some(Ok(())) => {}
                    Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => {}
                    Some(Err(e)) => failed = Err(e),
                    None => failed = Err(io::Error::other(format!("{} is busy", group.display()))),
                }
            }
        }
        failed
    }
}

#[derive(Debug, Clone)]
pub struct ShimFiles {
    pub cpu: PathBuf,
    pub cpu_unit: &'static str,
    pub oom: PathBuf,
    pub procs: PathBuf,
}

/// A group and all below it, each before its children.
fn tree(group: &Path) -> Vec<PathBuf> {
    let mut all = vec![];
    if group.is_dir() {
        all.push(group.to_owned());
        for entry in fs::read_dir(group).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                all.extend(tree(&entry.path()));
            }
        }
    }
    all
}
