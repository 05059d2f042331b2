//! The few calls of the kernel that `hold` needs, each with an `io::Result`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

fn check(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors, which nobody else owns.
    unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}

pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: flags of a descriptor; no memory is touched.
    unsafe {
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK)).map(drop)
    }
}

/// Makes a descriptor's file the app's: what it may open again as `/dev/stdout`.
pub fn give(fd: RawFd, uid: u32) -> io::Result<()> {
    // SAFETY: no memory is touched.
    unsafe { check(libc::fchown(fd, uid, uid)).map(drop) }
}

pub fn set_cloexec(fd: RawFd) -> io::Result<()> {
    // SAFETY: as above.
    unsafe { check(libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC)).map(drop) }
}

pub fn read(fd: RawFd, into: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as said.
    let n = unsafe { libc::read(fd, into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

pub fn write_all(fd: RawFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: the buffer is as long as said.
        let n = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(n) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// In the background, in a session of its own, as the one that orphans fall to.
/// The first process ends at once, so that whoever started it has nothing left to reap.
pub fn detach() -> io::Result<()> {
    // SAFETY: one thread, nothing locked.
    unsafe {
        if check(libc::fork())? != 0 {
            libc::_exit(0);
        }
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
        // Not dumpable: no other process of any user may look into it.
        check(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
    Ok(())
}

fn signals() -> libc::sigset_t {
    // SAFETY: a set is plain memory, made by sigemptyset.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in [libc::SIGTERM, libc::SIGUSR1, libc::SIGCHLD] {
            libc::sigaddset(&mut set, signal);
        }
        set
    }
}

/// SIGTERM, SIGUSR1 and SIGCHLD by descriptor from now on.
pub fn signal_fd() -> io::Result<OwnedFd> {
    let set = signals();
    // SAFETY: `set` lives through both calls; the descriptor is ours.
    unsafe {
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

pub fn next_signal(fd: &OwnedFd) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    let n = read(fd.as_raw_fd(), &mut info).ok()?;
    let number = info.first_chunk::<4>()?;
    (n == info.len()).then(|| i32::from_ne_bytes(*number))
}

/// Waits until one of the descriptors can be read or has ended; a negative one is never.
pub fn poll(fds: &[RawFd], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    let wait = timeout.map_or(-1, |t| i32::try_from(t.as_millis() + 1).unwrap_or(i32::MAX));
    // SAFETY: the slice is as long as said.
    let n = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, wait) };
    if n < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(polled.iter().map(|p| n > 0 && p.revents != 0).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

/// A child that has ended, if there is one.
pub fn reap() -> Option<(i32, Ended)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    if libc::WIFEXITED(status) {
        Some((pid, Ended::Code(libc::WEXITSTATUS(status))))
    } else if libc::WIFSIGNALED(status) {
        Some((pid, Ended::Signal(libc::WTERMSIG(status))))
    } else {
        reap()
    }
}

pub fn kill(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: sends a signal, touches no memory.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Field 22 of `/proc/PID/stat`: with the pid it names a process for good.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Runs a program and waits for it. `unified` is a v2 mount that it must not see (crun refuses a
/// hybrid host): a private mount namespace without it, only for this one program.
/// Never gives it `/dev/null`: crun would chown that to an app.
pub fn run(
    args: &[&str],
    stdio: [RawFd; 3],
    unified: Option<&str>,
    limit: Duration,
    mut other: impl FnMut(i32, Ended),
) -> io::Result<Ended> {
    let nul = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let words = args.iter().map(|a| CString::new(*a).map_err(nul)).collect::<io::Result<Vec<_>>>()?;
    let mut argv: Vec<*const libc::c_char> = words.iter().map(|w| w.as_ptr()).collect();
    argv.push(std::ptr::null());
    let path = CString::new("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").map_err(nul)?;
    let envp = [path.as_ptr(), std::ptr::null()];
    let unified = unified.map(|m| CString::new(m).map_err(nul)).transpose()?;
    let set = signals();
    // SAFETY: no pointer is passed.
    let own = unsafe { libc::getpid() };
    // SAFETY: one thread, so the child may do what it likes until exec; all strings were made
    // before the fork and live until the parent returns.
    let child = unsafe {
        let pid = check(libc::fork())?;
        if pid == 0 {
            // Without this shim nobody wants what it makes, and who clears the unit away would not find it.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 || libc::getppid() != own {
                libc::_exit(126);
            }
            libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            if let Some(unified) = &unified {
                let slave = libc::MS_REC | libc::MS_SLAVE;
                let alone = libc::unshare(libc::CLONE_NEWNS) == 0
                    && libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), slave, std::ptr::null()) == 0
                    && libc::umount2(unified.as_ptr(), libc::MNT_DETACH) == 0;
                if !alone {
                    libc::_exit(126);
                }
            }
            // Above 2 first, so that no target overwrites a source.
            let mut high = [0; 3];
            for (to, from) in high.iter_mut().zip(stdio) {
                *to = libc::fcntl(from, libc::F_DUPFD, 10);
                if *to < 0 {
                    libc::_exit(126);
                }
            }
            for (n, fd) in high.iter().enumerate() {
                libc::dup2(*fd, n as RawFd);
                libc::close(*fd);
            }
            libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
            libc::_exit(127);
        }
        pid
    };
    let until = Instant::now() + limit;
    loop {
        while let Some((pid, ended)) = reap() {
            if pid == child {
                return Ok(ended);
            }
            other(pid, ended);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            kill(child, libc::SIGKILL);
        }
        wait_for_child(left.clamp(Duration::from_millis(1), Duration::from_millis(200)));
    }
}

/// Until a child has ended, at most `limit`. Only SIGCHLD is taken: a SIGTERM that comes meanwhile
/// stays for the loop.
fn wait_for_child(limit: Duration) {
    let limit = libc::timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
    // SAFETY: set and limit live through the call; SIGCHLD is blocked (`signal_fd`).
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGCHLD);
        libc::sigtimedwait(&set, std::ptr::null_mut(), &limit);
    }
}
