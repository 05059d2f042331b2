//! Processes that outlive us: started in the background, found again by pid and start time.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::Command;

const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A process that is not our child, held by a pidfd: never mistaken for a later one of its number.
#[derive(Debug)]
pub struct Process {
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// `None` when it has ended, or when its number belongs to another one now.
    pub fn open(pid: i32, start: u64) -> io::Result<Option<Self>> {
        // SAFETY: plain numbers; the descriptor is new and ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
        }
        let fd = i32::try_from(fd).map_err(|_| io::Error::other("pidfd_open gave no descriptor"))?;
        // SAFETY: as above.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Asked after the pidfd is held: from here on it cannot change.
        if start_time(pid) != Some(start) {
            return Ok(None);
        }
        // SAFETY: an `OwnedFd` gives the same descriptor for as long as it lives.
        let pidfd = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }?;
        Ok(Some(Self { pidfd }))
    }

    /// Until it has ended; a zombie that nobody has reaped yet has ended.
    pub async fn ended(&self) {
        // It stays readable for good, so nothing is cleared; an error means that the runtime ends.
        let _ = self.pidfd.readable().await;
    }

    pub fn signal(&self, signal: i32) {
        let null = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is ours; no information is passed. ESRCH: it has ended already.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.get_ref().as_raw_fd(), signal, null, 0) };
    }
}

/// Field 22 of `/proc/PID/stat`. A zombie has none: it has ended, however late it is reaped.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// `PID START`
pub fn parse(text: &str) -> Option<(i32, u64)> {
    let (pid, start) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

fn c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Starts a program that goes to the background by itself, in the groups whose `cgroup.procs` are
/// given, and with the other end of the returned socket as its descriptor 3.
pub async fn spawn_detached(
    program: &Path,
    args: &[String],
    stdio: [OwnedFd; 3],
    groups: &[PathBuf],
) -> io::Result<UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let groups = groups.iter().map(|g| c_string(g)).collect::<io::Result<Vec<_>>>()?;
    let [stdin, stdout, stderr] = stdio;
    let mut command = Command::new(program);
    command.args(args).env_clear().current_dir("/").stdin(stdin).stdout(stdout).stderr(stderr);
    let fd = theirs.as_raw_fd();
    // SAFETY: only system calls that are safe between fork and exec, on memory made before.
    unsafe {
        command.pre_exec(move || {
            for group in &groups {
                let file = libc::open(group.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                if file < 0 {
                    return Err(io::Error::last_os_error());
                }
                let written = libc::write(file, b"0".as_ptr().cast(), 1);
                let error = io::Error::last_os_error();
                libc::close(file);
                if written != 1 {
                    return Err(error);
                }
            }
            let there = if fd == 3 { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) };
            if there < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    let status = tokio::time::timeout(SPAWN_TIMEOUT, command.status())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    drop(theirs);
    if !status.success() {
        return Err(io::Error::other(format!("{} {status}", program.display())));
    }
    UnixStream::from_std(ours)
}

/// Without `/dev/null` as a standard descriptor, which the OCI runtime would give away.
pub fn quiet(command: &mut Command) -> io::Result<()> {
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").kill_on_drop(true);
    command.stdin(Stdio::from(OwnedFd::from(io::pipe()?.0)));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(())
}

/// In a mount namespace of its own without the v2 cgroups, which crun refuses beside v1.
pub fn hide_unified(command: &mut Command, unified: Option<&Path>) -> io::Result<()> {
    let Some(unified) = unified else { return Ok(()) };
    let unified = c_string(unified)?;
    // SAFETY: only system calls between fork and exec, on memory made before.
    unsafe {
        command.pre_exec(move || {
            let slave = libc::MS_REC | libc::MS_SLAVE;
            let alone = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), slave, std::ptr::null()) == 0
                && libc::umount2(unified.as_ptr(), libc::MNT_DETACH) == 0;
            if alone { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    Ok(())
}
