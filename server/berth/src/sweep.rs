//! What the kernel still holds of a slice that nobody runs: mounts, links, its nftables table, its groups.
//! Every rule names its own slice only. It works by names, not by memory, so it also cleans up after a
//! supervisor that was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};
use tracing::warn;

use crate::cgroup::Group;
use crate::slice::cgroup_of;

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Holds what forwarding was before the first slice.
const FORWARD_BEFORE: &str = "/run/berth/ip_forward";

/// Lets the server forward packets, and remembers what it did before.
pub fn forward() {
    let now = fs::read_to_string(FORWARD).unwrap_or_default();
    if now.trim() == "1" {
        return;
    }
    let _ = fs::write(FORWARD_BEFORE, now.trim());
    if let Err(cause) = fs::write(FORWARD, "1") {
        warn!("this server does not let packets be forwarded ({cause}): apps reach nothing outside");
    }
}

/// Removes everything of slice `n`, whose processes end with it.
pub fn sweep(n: u32, below: &[PathBuf]) {
    let group = Group::new(cgroup_of(n));
    group.end();
    unmount(below);
    links(&format!("b{n}x"));
    quietly("nft", &["delete", "table", "inet", &format!("berth-{n}")]);
    group.remove();
    forward_before();
}

/// Last mounted first; what is busy goes when its last user does.
fn unmount(below: &[PathBuf]) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    for point in points.filter(|point| below.iter().any(|folder| Path::new(point).starts_with(folder))) {
        if umount2(point.as_str(), MntFlags::empty()).is_err()
            && let Err(cause) = umount2(point.as_str(), MntFlags::MNT_DETACH)
        {
            warn!("could not unmount {point}: {cause}");
        }
    }
}

/// `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match (bytes[at], octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                at += 4;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn links(prefix: &str) {
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(prefix)) {
            quietly("ip", &["link", "delete", name]);
        }
    }
}

/// Forwarding is put back when no other slice has a table.
fn forward_before() {
    let tables = Command::new("nft").args(["list", "tables"]).stdin(Stdio::null()).output();
    let others = tables.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("table inet berth-"));
    if let (false, Ok(before)) = (others, fs::read_to_string(FORWARD_BEFORE)) {
        let _ = fs::write(FORWARD, before);
        let _ = fs::remove_file(FORWARD_BEFORE);
    }
}

/// What it says does not matter: it is there no more, or never was.
fn quietly(program: &str, arguments: &[&str]) {
    let _ =
        Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_read_as_the_kernel_writes_it() {
        assert_eq!(unescape(r"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescape(r"/plain\"), r"/plain\");
    }
}
