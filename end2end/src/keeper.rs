//! A keeper starts a server and ends it when those who use it are gone, however they went.
//!
//! It is a process of its own (a fork, in a session of its own), so a test that is killed, together with
//! its process group, still leaves nothing behind. It learns that its users are gone from the kernel:
//! a lock that they share, or the end of a pipe, both of which end with a process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{ForkResult, Pid, fork, setsid};

/// How long a shared server waits for the next test before it ends.
const GRACE: Duration = Duration::from_secs(2);

/// What a keeper says when its server runs.
const READY: &str = "ready";

/// Until when a server is kept.
pub enum Until {
    /// Nobody holds a lock on this file any more, for [`GRACE`].
    Unlocked(PathBuf),
    /// All writing ends of this pipe are closed.
    Closed(OwnedFd),
}

/// A directory that only this user can list and that others may pass through.
pub fn directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    fs::DirBuilder::new().mode(0o711).create(path).with_context(|| format!("could not make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o711))?;
    Ok(())
}

/// Holds a share of `lock`. Whoever finds the file replaced while it waited tries again.
pub fn share(lock: &Path) -> Result<Flock<File>> {
    loop {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(lock)?;
        let held = Flock::lock(file, FlockArg::LockShared)
            .map_err(|(_, cause)| cause)
            .with_context(|| format!("could not lock {}", lock.display()))?;
        match fs::metadata(lock) {
            Ok(now) if now.ino() == held.metadata()?.ino() => return Ok(held),
            _ => continue,
        }
    }
}

/// Runs `serve` in a process of its own, waits until it has said that the server is ready, and leaves it
/// there. When `until` comes, the server is ended and `directory` is removed.
pub fn keep(directory: &Path, until: Until, serve: impl FnOnce() -> Result<Child>) -> Result<()> {
    let (mut said, say) = io::pipe().context("could not make a pipe")?;
    // SAFETY: the child is this program's copy with this thread only. It uses the allocator (which glibc makes
    // usable after a fork), files and processes, nothing that belongs to another thread, and never returns.
    match unsafe { fork() }.context("could not fork")? {
        ForkResult::Parent { child } => {
            drop(say);
            let mut answer = String::new();
            said.read_to_string(&mut answer).context("the keeper said nothing")?;
            // The keeper proper is a grandchild: this one is reaped here and now.
            nix::sys::wait::waitpid(child, None).context("could not reap the keeper's parent")?;
            if answer != READY {
                bail!("the server did not start: {answer}");
            }
            Ok(())
        }
        ForkResult::Child => {
            drop(said);
            let _ = setsid();
            // SAFETY: as above.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => {}
                // SAFETY: ends this process without running what belongs to the test.
                _ => unsafe { libc::_exit(0) },
            }
            be_alone(&say, &until);
            keeper(directory, until, serve, say);
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Holds no descriptor of the test's: else the test's own readers would wait for the keeper.
fn be_alone(say: &io::PipeWriter, until: &Until) {
    let mut kept: Vec<RawFd> = vec![say.as_raw_fd()];
    if let Until::Closed(pipe) = until {
        kept.push(pipe.as_raw_fd());
    }
    kept.sort_unstable();
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        for standard in 0..3 {
            // SAFETY: both are open descriptors of this process.
            unsafe { libc::dup2(null.as_raw_fd(), standard) };
        }
    }
    let mut from = 3u32;
    for fd in kept {
        let fd = fd as u32;
        if fd > from {
            // SAFETY: closes descriptors that this process does not use.
            unsafe { libc::close_range(from, fd - 1, 0) };
        }
        from = from.max(fd + 1);
    }
    // SAFETY: as above.
    unsafe { libc::close_range(from, u32::MAX, 0) };
}

fn keeper(directory: &Path, until: Until, serve: impl FnOnce() -> Result<Child>, mut say: io::PipeWriter) {
    use std::io::Write;
    let clean = || {
        let _ = fs::remove_dir_all(directory);
        // The lock is still held when its file goes: who waits for it finds it replaced, and starts anew.
        if let Until::Unlocked(lock) = &until {
            let _ = fs::remove_file(lock.with_extension("gate"));
            let _ = fs::remove_file(lock);
        }
    };
    match serve() {
        Ok(mut child) => {
            let _ = say.write_all(READY.as_bytes());
            drop(say);
            let held = wait(&until, &mut child);
            end(&mut child);
            clean();
            drop(held);
        }
        Err(cause) => {
            clean();
            let _ = say.write_all(format!("{cause:#}").as_bytes());
        }
    }
}

fn wait(until: &Until, child: &mut Child) -> Option<Flock<File>> {
    match until {
        Until::Closed(pipe) => {
            let mut pipe = File::from(pipe.try_clone().ok()?);
            let _ = pipe.read(&mut [0]);
            None
        }
        Until::Unlocked(lock) => {
            let mut unused_since = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                match Flock::lock(File::open(lock).ok()?, FlockArg::LockExclusiveNonblock) {
                    Ok(held) if unused_since.elapsed() > GRACE => return Some(held),
                    Ok(_) => {}
                    Err(_) => unused_since = Instant::now(),
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            None
        }
    }
}

/// Politely, then not.
fn end(child: &mut Child) {
    let pid = Pid::from_raw(child.id().cast_signed());
    let _ = kill(pid, Signal::SIGINT);
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Prepares `command` to run as the user `uid`, ended when its keeper ends.
/// With a passwd of its own, a private copy stands at /etc/passwd: PostgreSQL insists on a name.
pub fn as_user(command: &mut Command, uid: u32, passwd: Option<&Path>) {
    let passwd = passwd.map(Path::to_owned);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if let Some(passwd) = &passwd {
                use nix::mount::{MsFlags, mount};
                unshare(CloneFlags::CLONE_NEWNS)?;
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
                mount(Some(passwd.as_path()), "/etc/passwd", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            }
            nix::unistd::setgroups(&[])?;
            nix::unistd::setgid(nix::unistd::Gid::from_raw(uid))?;
            nix::unistd::setuid(nix::unistd::Uid::from_raw(uid))?;
            // Cleared by the change of user.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// The place of a run's directories: those of this process and its siblings under one nextest run are the same.
pub fn run_directory(name: &str) -> PathBuf {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
    std::env::temp_dir().join(format!("berth-test-{name}-{run}"))
}
