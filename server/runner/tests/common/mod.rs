//! A slice for one test: unique names, and everything of it gone at the end, also of a failed one.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use domain::Secret;
use domain::wire::{Limits, Uids};
use runner::{Config, GitConfig, LogRate, Output, Program, Spec, Tie};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Ground {
    pub config: Config,
    dir: Option<tempfile::TempDir>,
}

/// Builds the shim once and says where it is.
fn shim() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT
        .get_or_init(|| {
            let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let target = workspace.join("target/test-shim");
            let status = std::process::Command::new(env!("CARGO"))
                .current_dir(&workspace)
                .args(["build", "--quiet", "--package", "shim", "--target-dir"])
                .arg(&target)
                .status()
                .expect("cargo runs");
            assert!(status.success());
            target.join("debug/shim").canonicalize().expect("the shim was built")
        })
        .clone()
}

impl Ground {
    pub async fn new(changes: &[fn(&mut Config)]) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make sandboxes: run them as root");
        // One slice a test: of 4,000 for each, far from any real one's.
        let n = std::process::id() % 4_000 * 10 + NEXT.fetch_add(1, Ordering::Relaxed) % 10;
        let slice = 100_000 + n;
        let dir = tempfile::Builder::new().prefix("runner-").tempdir().expect("a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).expect("a directory");
        let copy = dir.path().join("shim");
        std::fs::copy(shim(), &copy).expect("the shim");
        // Clear of 10.64.0.0/10, where installations have theirs.
        let third = u8::try_from(n % 256).expect("small");
        let second = u8::try_from(130 + n / 256 % 120).expect("small");
        let mut config = Config {
            slice,
            data_dir: dir.path().join("data"),
            run_dir: dir.path().join("run"),
            shim: copy,
            runtime: None,
            subnet: format!("10.{second}.{third}.0/24").parse().expect("a network"),
            exceptions: vec![],
            public_ports: vec![],
            memory_bytes: None,
            probe_uid: 990_000,
            coordinator: dir.path().join("coordinator.sock"),
            coordinator_token: Secret::new("c".repeat(64)),
            logs: dir.path().join("logs.sock"),
            logs_token: Secret::new("l".repeat(64)),
            log_rate: LogRate::default(),
            disk_reserve_bytes: Some(0),
            tools_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools"),
            build_env: BTreeMap::new(),
            git: GitConfig {
                repos_dir: dir.path().join("repos"),
                hooks_dir: dir.path().join("hooks"),
                receiver_uid: 0,
                receiver_token: Secret::new("r".repeat(64)),
                apps_uid_base: 970_000,
                push_bytes_max: 64 << 20,
            },
        };
        for change in changes {
            change(&mut config);
        }
        Self { config, dir: Some(dir) }
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("until drop").path()
    }

    pub fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.config.subnet.network()) + u32::from(last))
    }

    pub fn spool(&self, name: &str) -> PathBuf {
        self.dir().join("spool").join(name)
    }

    pub fn uids(&self) -> Uids {
        let root = 800_000 + self.config.slice % 100_000 * 2;
        Uids { root, app: root + 1 }
    }

    pub fn limits(&self) -> Limits {
        Limits { memory_bytes: 256 << 20, cpu_millis: 1000, pids: 128, disk_bytes: 64 << 20 }
    }

    pub fn spec(&self, unit: &str, script: &str, spool: &Path) -> Spec {
        Spec {
            unit: unit.to_owned(),
            hostname: unit.to_owned(),
            program: Program {
                args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
                cwd: "/".into(),
            },
            uids: self.uids(),
            limits: self.limits(),
            binds: vec![],
            network: None,
            counted: None,
            stdin: None,
            output: Output::Spool(spool.to_owned()),
            stop_timeout: Duration::from_secs(10),
            tie: Tie::None,
        }
    }

    /// (position, kind, text)
    pub fn lines(&self, spool: &Path) -> Vec<(u64, char, String)> {
        let Ok(dir) = std::fs::read_dir(spool) else { return vec![] };
        let mut files: Vec<_> = dir.filter_map(|e| Some(e.ok()?.path())).collect();
        files.sort();
        files
            .iter()
            .flat_map(|f| {
                String::from_utf8(std::fs::read(f).expect("a segment"))
                    .expect("text")
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .filter_map(|l| {
                let mut parts = l.splitn(4, ' ');
                let position = parts.next()?.parse().ok()?;
                parts.next()?;
                let kind = parts.next()?.chars().next()?;
                Some((position, kind, parts.next()?.to_owned()))
            })
            .collect()
    }

    /// SIGKILL to all in a unit's sandbox.
    pub fn kill_all(&self, unit: &str) {
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let procs = format!("{root}/berth-{}/apps/{unit}/c/cgroup.procs", self.config.slice);
            for pid in std::fs::read_to_string(procs).unwrap_or_default().lines() {
                let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a pid"));
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
            }
        }
    }

    /// What the kernel still has of this slice.
    pub fn left(&self) -> Vec<String> {
        let mut left = vec![];
        let name = format!("berth-{}", self.config.slice);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let here = self.dir().to_string_lossy().into_owned();
        left.extend(mounts.lines().filter(|l| l.contains(&here)).map(str::to_owned));
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            if hierarchy.path().join(&name).exists() {
                left.push(format!("cgroup {}", hierarchy.path().join(&name).display()));
            }
        }
        let prefix = format!("b{}x", self.config.slice);
        for link in std::fs::read_dir("/sys/class/net").expect("links").flatten() {
            let link = link.file_name().to_string_lossy().into_owned();
            if link.starts_with(&prefix) {
                left.push(format!("link {link}"));
            }
        }
        let tables = std::process::Command::new("nft").args(["list", "tables"]).output().expect("nft");
        let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
        left.extend(tables.lines().filter(|l| l.split(' ').any(|w| w == name)).map(str::to_owned));
        for loops in std::fs::read_dir("/sys/block").expect("block devices").flatten() {
            let file = std::fs::read_to_string(loops.path().join("loop/backing_file")).unwrap_or_default();
            if file.contains(&here) {
                left.push(format!("{} of {file}", loops.path().display()));
            }
        }
        for process in std::fs::read_dir("/proc").expect("processes").flatten() {
            let groups = std::fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
            // Whoever reaps orphans here may do it late: a zombie is dead.
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let is_dead = stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'));
            if !is_dead && groups.contains(&format!("/{name}/")) {
                left.push(format!("process {}", process.path().display()));
            }
        }
        left
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let config = self.config.clone();
        // A runtime of its own: the test's may be the one that unwinds.
        let cleared = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(runner::leave_nothing(&config))
        })
        .join();
        // The kernel lets a loop device go when the last who looks at it has closed it: that may be another test.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut left = self.left();
        while !left.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
            left = self.left();
        }
        if !std::thread::panicking() {
            cleared.expect("no panic").expect("leaves nothing");
            assert_eq!(left, Vec::<String>::new());
        }
    }
}

pub fn uplink_address() -> Ipv4Addr {
    // Nothing is sent: the kernel only chooses the source.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("203.0.113.1:9").expect("a default route");
    match socket.local_addr().expect("an address").ip() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(_) => unreachable!("an IPv4 socket"),
    }
}

/// Waits for a state, at most a minute: other tests have the same two cores.
pub async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
