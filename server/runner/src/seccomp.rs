//! What system calls a sandbox may make: the containers project's list, made narrower.
//!
//! The list is flattened for x86-64 and no capabilities; everything else fails with ENOSYS, so that
//! programs fall back to older calls instead of giving up.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Profile {
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    args: Option<Vec<Value>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Deserialize, Default)]
struct Filter {
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    caps: Vec<String>,
}

/// New namespaces, mounts, other processes' memory, kernel keyrings: nothing an app needs.
const REMOVED: &[&str] = &[
    "unshare",
    "setns",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "keyctl",
    "add_key",
    "request_key",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "pidfd_getfd",
    "name_to_handle_at",
    "open_by_handle_at",
    "memfd_secret",
    "reboot",
    "syslog",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    "bpf",
    "perf_event_open",
    // Allowed below, by their arguments only.
    "clone",
    "clone3",
    "socket",
];

const ADDED: &[&str] = &["futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "cachestat", "fchmodat2"];

/// All CLONE_NEW* flags.
const NEW_NAMESPACES: u64 = 0x7E02_0000;
const ENOSYS: u32 = 38;

/// Where Debian's and others' packages put it.
const PATHS: [&str; 2] = ["/usr/share/containers/seccomp.json", "/etc/containers/seccomp.json"];

#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("no seccomp.json in {PATHS:?}; install golang-github-containers-common")]
    Missing,
    #[error("{path} is not the expected list of system calls")]
    Json {
        path: PathBuf,
        #[source]
        cause: serde_json::Error,
    },
    #[error("{path} allows only {count} system calls; a whole list has over 300")]
    TooShort { path: PathBuf, count: usize },
}

/// The list that is used, where there is one.
pub fn file() -> Option<PathBuf> {
    PATHS.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// The `linux.seccomp` part of a sandbox's configuration.
pub fn load() -> Result<Value, SeccompError> {
    let (path, text) = PATHS
        .iter()
        .find_map(|p| std::fs::read(p).ok().map(|text| (PathBuf::from(p), text)))
        .ok_or(SeccompError::Missing)?;
    let profile: Profile =
        serde_json::from_slice(&text).map_err(|cause| SeccompError::Json { path: path.clone(), cause })?;
    let (rules, count) = flatten(profile);
    if count < 200 {
        return Err(SeccompError::TooShort { path, count });
    }
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": rules,
    }))
}

fn flatten(profile: Profile) -> (Vec<Value>, usize) {
    let mut rules = vec![];
    let mut plain: Vec<String> = ADDED.iter().map(|s| (*s).to_owned()).collect();
    for rule in profile.syscalls {
        let ours = rule.includes.arches.is_empty() || rule.includes.arches.iter().any(|a| a == "amd64");
        let theirs = rule.excludes.arches.iter().any(|a| a == "amd64");
        // We have no capability: what needs one is out, what is for those without one is in.
        if rule.action != "SCMP_ACT_ALLOW" || !ours || theirs || !rule.includes.caps.is_empty() {
            continue;
        }
        let names: Vec<String> = rule.names.into_iter().filter(|n| !REMOVED.contains(&n.as_str())).collect();
        match rule.args {
            Some(args) if !args.is_empty() && !names.is_empty() => {
                rules.push(json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": args }));
            }
            _ => plain.extend(names),
        }
    }
    plain.sort();
    plain.dedup();
    let count = plain.len();
    rules.push(json!({ "names": plain, "action": "SCMP_ACT_ALLOW" }));
    rules.push(json!({ "names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] }));
    // UNIX, INET, INET6; of NETLINK only ROUTE (glibc's getaddrinfo asks it).
    for domain in [1, 2, 10] {
        rules.push(json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": domain, "op": "SCMP_CMP_EQ" }] }));
    }
    rules.push(json!({ "names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
        { "index": 0, "value": 16, "op": "SCMP_CMP_EQ" }, { "index": 2, "value": 0, "op": "SCMP_CMP_EQ" }] }));
    (rules, count)
}
