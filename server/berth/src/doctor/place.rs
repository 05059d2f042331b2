//! The place that a Berth would take: its directory, disk, ports, addresses and names.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::{About, Check};
use crate::cgroup::Group;
use crate::slice::{Slice, cgroup_of, clash};
use crate::up;

/// Below this nothing starts.
const DISK_LEAST: u64 = 16 << 20;

/// The directory itself, or where it will be made.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

pub fn data(about: &About<'_>) -> Check {
    let name = "data directory";
    let at = about.data.display();
    if let Some((folder, mode)) = up::closed(nearest(&about.data), &about.data) {
        let found = format!("{} is closed to other users (mode {mode:o}), and so to Berth's own", folder.display());
        return Check::fail(name, found, "choose one that they can pass to by --data, for instance /var/lib/berth");
    }
    let whose = match (about.runs, about.slice) {
        (true, Some(n)) => format!("a Berth runs on it, in slice {n}"),
        (_, Some(n)) => format!("of slice {n}"),
        (_, None) => "new".to_owned(),
    };
    Check::ok(name, format!("{at}: {whose}"))
}

pub fn disk(about: &About<'_>) -> Check {
    let name = "disk";
    let folder = nearest(&about.data);
    let found = match statvfs(folder) {
        Ok(found) => found,
        Err(cause) => return Check::fail(name, format!("{}: {cause}", folder.display()), "choose another --data"),
    };
    let bytes = found.blocks().saturating_mul(found.fragment_size());
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    let reserve = about.settings.disk_reserve().unwrap_or_else(|| plan::reserve(bytes));
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let said = format!("{} of {} free at {}", gib(free), gib(bytes), folder.display());
    let fix = "make room, or choose another --data";
    match () {
        () if free < DISK_LEAST => Check::fail(name, said, fix),
        () if free < reserve => {
            Check::warn(name, format!("{said}: below {}, pushes and new instances are refused", gib(reserve)), fix)
        }
        () if free < reserve.saturating_mul(2) => Check::warn(name, format!("{said}: little"), fix),
        () => Check::ok(name, said),
    }
}

pub fn port(about: &About<'_>, name: &'static str, flag: &str, address: SocketAddr) -> Check {
    if address.port() == 0 {
        return Check::ok(name, format!("any free one of {}", address.ip()));
    }
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
            let holder = holder(address.port());
            let ours = |pid: i32| {
                about.slice.is_some_and(|n| Group::new(format!("{}/platform", cgroup_of(n))).processes().contains(&pid))
                    || about.slice.is_some_and(|n| Slice::supervisor(n) == Some(pid))
            };
            match holder {
                Some(pid) if ours(pid) => Check::ok(name, format!("{address} is held by this Berth")),
                Some(pid) => {
                    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                    let found = format!("{address} is taken by {} (process {pid})", program.trim());
                    Check::fail(name, found, format!("stop it, or choose another by {flag}"))
                }
                None => Check::fail(name, format!("{address} is taken"), format!("choose another by {flag}")),
            }
        }
        Err(cause) => Check::fail(name, format!("{address}: {cause}"), format!("choose another by {flag}")),
    }
}

/// A process that holds a listening socket of this port.
fn holder(port: u16) -> Option<i32> {
    const LISTENS: &str = "0A";
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let at = fields.get(1)?.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok())?;
        (at == port && fields.get(3) == Some(&LISTENS)).then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
    };
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|path| fs::read_to_string(path).unwrap_or_default().lines().filter_map(listens).collect::<Vec<_>>())
        .collect();
    let mut holders: Vec<i32> = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let held = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let links = held.filter_map(|fd| fs::read_link(fd.path()).ok());
            links.into_iter().any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
        })
        .collect();
    // Of a supervisor and its children, the supervisor.
    holders.sort_unstable();
    holders.first().copied()
}

pub fn subnet(about: &About<'_>) -> Check {
    let name = "subnet";
    let fix = "give a free /16 by --subnet";
    match Slice::subnet_of(&about.data, about.settings.subnet, about.slice) {
        Ok((n, subnet)) => match clash(n, &subnet) {
            None => Check::ok(name, format!("{subnet} is clear of this server's routes")),
            Some(route) => Check::fail(name, format!("{subnet} meets the route {route}"), fix),
        },
        Err(cause) => Check::fail(name, cause.to_string(), fix),
    }
}

pub fn names(about: &About<'_>) -> Check {
    let name = "host names";
    match up::apart(about.settings) {
        Ok(()) => {
            let (site, apps) = (&about.settings.site_host, &about.settings.apps_domain);
            Check::ok(name, format!("site {site}, apps below {apps}"))
        }
        Err(cause) => Check::fail(name, cause.to_string(), "choose others by --site-host and --apps-domain"),
    }
}
