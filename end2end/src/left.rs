//! What a `berth up` that was stopped may not leave: a process, mount, loop device, cgroup, link, table, socket
//! or file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

pub fn nothing_left(slice: u32, data: &Path) -> Result<()> {
    let mut left = Vec::new();
    let run = PathBuf::from(format!("/run/berth/{slice}.d"));
    for path in [data.to_owned(), run.clone(), PathBuf::from(format!("/run/berth/{slice}"))] {
        if path.exists() {
            left.push(format!("the path {}", path.display()));
        }
    }
    let first = (slice + 1) << 20;
    processes(first..first + 65_536, &mut left);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let below = |point: &str| Path::new(point).starts_with(&run) || Path::new(point).starts_with(data);
    left.extend(
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|p| below(p)).map(|p| format!("the mount {p}")),
    );
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if below(file.trim_end_matches(" (deleted)\n").trim()) {
            left.push(format!("the loop device {} on {}", entry.file_name().to_string_lossy(), file.trim()));
        }
    }
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("b{slice}x")) {
            left.push(format!("the link {name}"));
        }
    }
    for root in groups(&mounts) {
        let group = root.join(format!("berth-{slice}"));
        if group.exists() {
            left.push(format!("the control group {}", group.display()));
        }
    }
    let tables = Command::new("nft").args(["list", "tables"]).stdin(Stdio::null()).output()?;
    let table = format!("table inet berth-{slice}");
    if String::from_utf8_lossy(&tables.stdout).lines().any(|line| line == table) {
        left.push(format!("the nftables {table}"));
    }
    if !left.is_empty() {
        bail!("left behind:\n  {}", left.join("\n  "));
    }
    Ok(())
}

/// The mount points of all control group hierarchies.
pub fn groups(mountinfo: &str) -> Vec<PathBuf> {
    let group = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    mountinfo.lines().filter_map(group).collect()
}

fn processes(uids: std::ops::Range<u32>, left: &mut Vec<String>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
        let uid = field("Uid:").split_whitespace().next().and_then(|uid| uid.parse::<u32>().ok());
        if uid.is_some_and(|uid| uids.contains(&uid)) {
            left.push(format!("the process {} ({})", entry.file_name().to_string_lossy(), field("Name:")));
        }
    }
}
