//! What a `berth up` that was stopped may not leave: a process, mount, loop device, cgroup, link, table, socket
//! or file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

pub fn nothing_left(slice: u32, data: &Path) -> Result<()> {
    let mut left = Vec::new();
    let run = PathBuf::from(format!("/run/berth/{slice}.d"));
    let mounts = mounts()?;
    of_data(data, &mounts, &mut left);
    // A slice that is free is taken by the next that starts, maybe just now: then all of it is that one's.
    let owner = PathBuf::from(format!("/run/berth/{slice}"));
    let is_taken = || fs::read_to_string(&owner).is_ok_and(|other| Path::new(&other) != data);
    let mut of_slice = Vec::new();
    if !is_taken() {
        of_the_slice(slice, &mounts, &mut of_slice)?;
        of_slice.extend(
            [&owner, &run].into_iter().filter(|path| path.exists()).map(|p| format!("the path {}", p.display())),
        );
    }
    if !is_taken() {
        left.append(&mut of_slice);
    }
    if !left.is_empty() {
        bail!("left behind:\n  {}", left.join("\n  "));
    }
    Ok(())
}

fn mounts_below<'a>(mounts: &'a str, folder: &'a Path) -> impl Iterator<Item = String> + 'a {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(move |point| Path::new(point).starts_with(folder)).map(|point| format!("the mount {point}"))
}

fn of_data(data: &Path, mounts: &str, left: &mut Vec<String>) {
    if data.exists() {
        left.push(format!("the path {}", data.display()));
    }
    left.extend(mounts_below(mounts, data));
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(file.trim_end().trim_end_matches(" (deleted)")).starts_with(data) {
            left.push(format!("the loop device {} on {}", entry.file_name().to_string_lossy(), file.trim()));
        }
    }
}

fn of_the_slice(slice: u32, mounts: &str, left: &mut Vec<String>) -> Result<()> {
    left.extend(mounts_below(mounts, &PathBuf::from(format!("/run/berth/{slice}.d"))));
    let first = (slice + 1) << 20;
    processes(first..first + 65_536, left);
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("b{slice}x")) {
            left.push(format!("the link {name}"));
        }
    }
    for root in groups(mounts) {
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
    Ok(())
}

/// The processes of a group of a slice, `platform` or below `apps`.
pub fn processes_of(slice: u32, group: &str) -> Result<BTreeSet<u32>> {
    let files = groups(&mounts()?).into_iter().map(|root| root.join(format!("berth-{slice}/{group}/cgroup.procs")));
    let text: String = files.filter_map(|file| fs::read_to_string(file).ok()).collect();
    Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
}

pub fn mounts() -> Result<String> {
    fs::read_to_string("/proc/self/mountinfo").context("the kernel does not say what is mounted")
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
        // A zombie is dead: its new parent, the server's own first process, has not looked yet.
        if uid.is_some_and(|uid| uids.contains(&uid)) && !field("State:").starts_with('Z') {
            left.push(format!("the process {} ({})", entry.file_name().to_string_lossy(), field("Name:")));
        }
    }
}
