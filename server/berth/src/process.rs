//! A child process by its descriptor: the same for one that this program started, and for one that it
//! took over from itself by `exec`.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub struct Process {
    pid: i32,
    fd: AsyncFd<OwnedFd>,
    ended: OnceLock<ExitStatus>,
}

impl Process {
    /// Of a child that was not waited for: so the number is still its own.
    pub fn of_child(pid: u32) -> io::Result<Self> {
        let pid = pid.cast_signed();
        // SAFETY: a system call that makes a descriptor, which is owned here and nowhere else.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd as i32)
        };
        // SAFETY: it owns the descriptor for as long as it lives.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { pid, fd, ended: OnceLock::new() })
    }

    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Until it has ended; then it is reaped. Cancel-safe.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.ended.get() {
                return Ok(*status);
            }
            let mut ready = self.fd.readable().await?;
            let mut raw = 0;
            // SAFETY: a system call on a child of ours; its answer is written to a number of ours.
            match unsafe { libc::waitpid(self.pid, &mut raw, libc::WNOHANG) } {
                0 => ready.clear_ready(),
                reaped if reaped == self.pid => return Ok(*self.ended.get_or_init(|| ExitStatus::from_raw(raw))),
                _ => return Err(io::Error::last_os_error()),
            }
        }
    }

    /// Until it has ended: how, in words. Cancel-safe.
    pub async fn end(&self) -> String {
        self.wait().await.map_or_else(|cause| cause.to_string(), |status| status.to_string())
    }

    /// Nothing happens to one that has ended.
    pub fn signal(&self, signal: Signal) {
        if self.ended.get().is_none() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.fd.as_raw_fd())
    }
}
