//! What the kernel offers.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use nix::sched::{CloneFlags, unshare};

use super::Check;
use crate::cgroup::hierarchies;

/// What instances are limited and counted by.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];

pub fn cgroups() -> Check {
    let name = "cgroups";
    let roots = hierarchies();
    let unified = roots.iter().find(|root| root.join("cgroup.controllers").exists());
    let offered = unified.and_then(|root| fs::read_to_string(root.join("cgroup.controllers")).ok()).unwrap_or_default();
    let in_v2 = |wanted: &&str| offered.split_whitespace().any(|one| one == *wanted);
    // A v1 hierarchy is mounted at its controllers' names, joined by commas.
    let v1 = |wanted: &&str| {
        roots.iter().filter(|root| !root.join("cgroup.controllers").exists()).any(|root| {
            root.file_name().is_some_and(|name| name.to_string_lossy().split(',').any(|one| one == *wanted))
        })
    };
    let fix = "start the kernel with `systemd.unified_cgroup_hierarchy=1`, and `cgroup_enable=memory` where memory is missing";
    if roots.is_empty() {
        return Check::fail(name, "no control groups are mounted", fix);
    }
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|one| !in_v2(one) && !v1(one)).collect();
    if !missing.is_empty() {
        return Check::fail(name, format!("no controller for {}", missing.join(", ")), fix);
    }
    let version = match (CONTROLLERS.iter().all(in_v2), unified.is_some()) {
        (true, _) => "version 2",
        (false, true) => "version 1, with a version 2 beside it",
        (false, false) => "version 1",
    };
    let writable = roots.iter().any(|root| nix::unistd::access(root, nix::unistd::AccessFlags::W_OK).is_ok());
    if !writable {
        return Check::fail(
            name,
            format!("{version}, mounted read-only"),
            "give this container its own, writable control groups",
        );
    }
    Check::ok(name, format!("{version}, with {}", CONTROLLERS.join(", ")))
}

pub fn user_namespaces() -> Check {
    let name = "user namespaces";
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec there is one system call.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            Ok(unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID)?)
        });
    }
    match command.status() {
        Ok(status) if status.success() => Check::ok(name, "can be made"),
        Ok(status) => Check::warn(name, format!("/bin/true in one ended with {status}"), "see the kernel's log"),
        Err(cause) => Check::fail(
            name,
            format!("cannot be made: {cause}"),
            "`sysctl -w user.max_user_namespaces=65536`; in a container, allow nested ones",
        ),
    }
}

pub fn forwarding() -> Check {
    let name = "ip_forward";
    let path = "/proc/sys/net/ipv4/ip_forward";
    let writable = nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).is_ok();
    match fs::read_to_string(path).as_deref().map(str::trim) {
        Ok("1") => Check::ok(name, "on"),
        Ok(_) if writable => Check::ok(name, "off; Berth turns it on while it runs"),
        Ok(_) => Check::fail(name, "off, and it cannot be turned on", "`sysctl -w net.ipv4.ip_forward=1`"),
        Err(cause) => Check::fail(name, format!("{path}: {cause}"), "mount /proc with its sys part"),
    }
}

pub fn loop_devices() -> Check {
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
    let name = "loop devices";
    let fix = "`modprobe loop`; in a container, allow /dev/loop-control and /dev/loop*";
    let control = match fs::File::options().read(true).write(true).open("/dev/loop-control") {
        Ok(control) => control,
        Err(cause) => return Check::fail(name, format!("/dev/loop-control: {cause}"), fix),
    };
    // SAFETY: the request takes no argument and changes nothing but that a free device is there.
    let free = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&control), LOOP_CTL_GET_FREE) };
    match free {
        0.. => Check::ok(name, format!("loop{free} is free")),
        _ => Check::fail(name, format!("none is free: {}", std::io::Error::last_os_error()), fix),
    }
}

pub fn file_systems() -> Check {
    let name = "file systems";
    let known = |known: &str, wanted: &str| known.lines().any(|line| line.split_whitespace().last() == Some(wanted));
    let read = || fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let wanted = ["squashfs", "overlay", "ext4", "tmpfs"];
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    let listed = ["modules.dep", "modules.builtin"]
        .map(|file| fs::read_to_string(modules.join(file)).unwrap_or_default())
        .concat();
    let now = read();
    let missing: Vec<&str> = wanted
        .into_iter()
        // A module is loaded at the first mount.
        .filter(|one| !known(&now, one) && !listed.contains(&format!("/{one}.ko")))
        .collect();
    match missing.as_slice() {
        [] => Check::ok(name, wanted.join(", ")),
        missing => Check::fail(
            name,
            format!("the kernel knows no {}", missing.join(", ")),
            format!("`modprobe {}`, or a kernel that has it", missing.join(" ")),
        ),
    }
}

pub fn pressure() -> Check {
    let name = "pressure (PSI)";
    match fs::read_to_string("/proc/pressure/memory") {
        Ok(_) => Check::ok(name, "measured"),
        Err(_) => {
            Check::warn(name, "not measured: a server that is short is noticed late", "start the kernel with `psi=1`")
        }
    }
}

pub fn seccomp() -> Check {
    let name = "seccomp.json";
    match runner::seccomp_file() {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::fail(name, "not found", "`apt-get install golang-github-containers-common`"),
    }
}

/// Prices are by the hour, tokens and leases by time: a wrong clock is a wrong bill.
pub fn clock() -> Check {
    let name = "clock";
    let now = SystemTime::now();
    let built = std::env::current_exe().and_then(fs::metadata).and_then(|program| program.modified());
    let fix = "`timedatectl set-ntp true`, or another time service";
    if built.is_ok_and(|built| now < built) {
        return Check::fail(name, "it is earlier than this program is old", fix);
    }
    if let Ok(zone) = std::env::var("TZ")
        && let path = zone.trim_start_matches(':')
        && !path.is_empty()
        && path.contains('/')
        && !Path::new("/usr/share/zoneinfo").join(path).exists()
    {
        return Check::warn(name, format!("TZ names no time zone: {zone}"), "unset TZ; Berth counts in UTC anyway");
    }
    // SAFETY: all zeros are a question that changes nothing; the answer is written to memory of ours.
    let state = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        libc::adjtimex(&mut asked)
    };
    match state {
        libc::TIME_ERROR => Check::warn(name, "nobody keeps it right", fix),
        _ => Check::ok(name, "synchronised"),
    }
}
