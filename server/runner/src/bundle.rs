//! A sandbox's OCI configuration. Holds an app's environment: written root 0600, on tmpfs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::wire::{Limits, Uids};
use serde_json::{Value, json};

/// A directory or file of the server inside a sandbox. Nothing else of the server is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    /// Below `/app`, `/cache`, `/home`, `/mnt`, `/opt/berth`, `/repo`, `/run`, `/srv` or `/work`;
    /// below `/run` it may be a new name.
    pub target: PathBuf,
    pub access: BindAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindAccess {
    ReadOnly,
    ReadWrite,
}

impl Bind {
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), access: BindAccess::ReadOnly }
    }

    pub fn read_write(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { source: source.into(), target: target.into(), access: BindAccess::ReadWrite }
    }
}

/// What runs in a sandbox: as user 1000 (the app's own UID on the server), without any right.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; no shell is added.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
}

pub(crate) struct Parts<'a> {
    pub root: &'a Path,
    pub hostname: &'a str,
    pub program: &'a Program,
    pub uids: Uids,
    pub limits: Limits,
    pub binds: &'a [Bind],
    pub cgroup: String,
    pub seccomp: &'a Value,
    pub files_max: u64,
    pub oom_score_adj: i32,
}

const CPU_PERIOD_MICROS: u64 = 100_000;

pub(crate) fn config(parts: &Parts<'_>) -> Value {
    let env: Vec<String> = parts.program.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let memory = i64::try_from(parts.limits.memory_bytes).unwrap_or(i64::MAX);
    let millis = u64::from(parts.limits.cpu_millis.max(10));
    let maps = json!([
        { "containerID": 0, "hostID": parts.uids.root, "size": 1 },
        { "containerID": 1000, "hostID": parts.uids.app, "size": 1 },
    ]);
    let namespaces = ["pid", "mount", "ipc", "uts", "cgroup", "network", "user"].map(|kind| json!({ "type": kind }));
    let none: [&str; 0] = [];
    json!({
        "ociVersion": "1.0.2",
        "hostname": parts.hostname,
        "process": {
            "terminal": false,
            "user": { "uid": 1000, "gid": 1000, "umask": 0o022 },
            "args": parts.program.args,
            "env": env,
            "cwd": parts.program.cwd,
            "noNewPrivileges": true,
            "oomScoreAdj": parts.oom_score_adj,
            "capabilities": { "bounding": none, "effective": none, "permitted": none, "inheritable": none,
                "ambient": none },
            "rlimits": [
                { "type": "RLIMIT_NOFILE", "soft": parts.files_max, "hard": parts.files_max },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ],
        },
        "root": { "path": parts.root, "readonly": true },
        "mounts": mounts(parts),
        "linux": {
            "uidMappings": maps,
            "gidMappings": maps,
            "namespaces": namespaces,
            "sysctl": {
                "net.ipv6.conf.all.disable_ipv6": "1",
                "net.ipv4.ip_unprivileged_port_start": "0",
                "net.ipv4.ping_group_range": "1000 1000",
            },
            "cgroupsPath": parts.cgroup,
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" }],
                "memory": { "limit": memory, "swap": memory },
                "cpu": { "shares": (millis * 1024 / 1000).max(2), "quota": millis * CPU_PERIOD_MICROS / 1000,
                    "period": CPU_PERIOD_MICROS },
                "pids": { "limit": parts.limits.pids },
            },
            "seccomp": parts.seccomp,
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/sched_debug", "/proc/scsi", "/proc/sysrq-trigger"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    })
}

fn mounts(parts: &Parts<'_>) -> Vec<Value> {
    let tmp = format!("size={}", parts.limits.disk_bytes.min(parts.limits.memory_bytes));
    let mount = |to: &str, kind: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
    let mut all = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=64k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec", "mode=1777", &tmp]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", &tmp]),
        mount("/run", "tmpfs", &["nosuid", "nodev", "mode=755", "size=1m"]),
        json!({ "destination": "/usr", "type": "bind", "source": "/usr",
            "options": ["rbind", "ro", "nosuid", "nodev"] }),
    ];
    all.extend(parts.binds.iter().map(|bind| {
        let access = if bind.access == BindAccess::ReadOnly { "ro" } else { "rw" };
        json!({ "destination": bind.target, "type": "bind", "source": bind.source,
            "options": ["rbind", access, "nosuid", "nodev"] })
    }));
    all
}
