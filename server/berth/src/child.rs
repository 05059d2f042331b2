//! Starts one role: under its own user, with nothing but named descriptors, from an open descriptor of
//! the binary (a path below a private directory cannot be executed by another user).
//!
//! | descriptor | what |
//! | --- | --- |
//! | 0, 1, 2 | an empty input; the supervisor's output and error |
//! | 3 | one JSON: [`Handed`] |
//! | 4 | a pipe of the supervisor: its end ends the role |
//! | 5 | a socket on which the two talk: one byte a [`Word`] |
//! | 6… | the role's listening sockets, in the order of `Spec::descriptors` |

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::Process;

pub const SETTINGS: RawFd = 3;
pub const ALIVE: RawFd = 4;
pub const TALK: RawFd = 5;
pub const FIRST: RawFd = 6;
/// Where roles and engines look for programs.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Descriptors below this are kept free in the supervisor, for what a child is handed.
const RESERVED: RawFd = 24;

/// How a process logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Log {
    pub json: bool,
    pub filter: String,
}

/// What a child reads on descriptor 3.
#[derive(Serialize, Deserialize)]
pub struct Handed {
    pub role: String,
    pub log: Log,
    /// How many listening sockets begin at descriptor 6.
    pub descriptors: usize,
    /// It stands by until it is told to go: its predecessor still holds what only one may hold.
    pub stands_by: bool,
    /// The role's own.
    pub config: serde_json::Value,
}

/// A user by numbers.
#[derive(Debug, Clone)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Identity {
    fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// What a role is started with, at each start.
#[derive(Clone)]
pub struct Spec {
    pub role: &'static str,
    pub user: Identity,
    pub config: serde_json::Value,
    pub descriptors: Vec<Arc<OwnedFd>>,
}

/// A pipe that children watch.
pub struct Alive {
    pub theirs: OwnedFd,
    /// Its writing end is the supervisor's alone, for as long as it lives.
    pub ours: OwnedFd,
}

/// What all roles have in common.
pub struct Common {
    /// The binary, open.
    pub binary: OwnedFd,
    pub log: Log,
    pub alive: Alive,
    /// The files by which a process joins the platform's groups.
    pub joins: Vec<PathBuf>,
}

/// Keeps low descriptors for children: what is moved there must not hit one in use.
pub fn reserve() -> io::Result<()> {
    let null = std::fs::File::open("/dev/null")?;
    for fd in 3..RESERVED {
        // SAFETY: descriptors 3 and up are this function's at the start of the program; none is replaced.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) < 0 && libc::dup3(null.as_raw_fd(), fd, libc::O_CLOEXEC) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// What supervisor and role say to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// Role: it has read its settings, and waits for [`Word::Go`].
    StandsBy = b'w',
    /// Role: what it serves is served.
    Ready = b'r',
    Go = b'g',
    /// Its successor serves: take nothing new, finish what is open, end.
    Finish = b'f',
    /// The server's apps end too.
    EndApps = b'e',
}

impl Word {
    pub fn of(byte: u8) -> Option<Self> {
        [Self::StandsBy, Self::Ready, Self::Go, Self::Finish, Self::EndApps].into_iter().find(|w| *w as u8 == byte)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SilentError {
    #[error("it ended before that ({status})")]
    Ended { status: String },
    #[error("it did not say so within {after:?}")]
    Late { after: Duration },
}

/// A process of the platform that runs.
#[derive(Debug)]
pub struct Child {
    pub process: Process,
    /// With a role.
    talk: Option<UnixStream>,
    /// An engine's output, and who reads it.
    pub said: Vec<OwnedFd>,
    pub listening: JoinSet<()>,
}

impl Child {
    pub fn new(process: Process, talk: Option<UnixStream>) -> Self {
        Self { process, talk, said: Vec::new(), listening: JoinSet::new() }
    }

    /// Descriptors that must outlive an `exec` of the supervisor: the talk's, then the output's.
    pub fn descriptors(&self) -> (Option<RawFd>, Vec<RawFd>) {
        (self.talk.as_ref().map(AsRawFd::as_raw_fd), self.said.iter().map(AsRawFd::as_raw_fd).collect())
    }

    /// A role that does not listen ends by a signal.
    pub fn tell(&self, word: Word) {
        if let Some(talk) = &self.talk {
            // Not by the runtime, which may not know yet that there is room.
            let _ = send(talk.as_raw_fd(), &[word as u8], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        }
    }

    /// Until it has said `word`.
    pub async fn says(&mut self, word: Word, after: Duration) -> Result<(), SilentError> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        let process = &self.process;
        let heard = async {
            let mut byte = [0];
            loop {
                let read = tokio::select! {
                    read = talk.read(&mut byte) => read,
                    status = process.end() => return Err(SilentError::Ended { status }),
                };
                match read {
                    Ok(1..) if byte[0] == word as u8 => return Ok(()),
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Err(SilentError::Ended { status: process.end().await }),
                }
            }
        };
        timeout(after, heard).await.unwrap_or(Err(SilentError::Late { after }))
    }

    /// Asks it to end, and ends it when it does not within `patience`: whether it ended by itself.
    pub async fn end(mut self, signal: Signal, patience: Duration) -> bool {
        self.process.signal(signal);
        self.ended(patience).await
    }

    /// Waits for its end, and ends it after `patience`: whether it ended by itself.
    pub async fn ended(&mut self, patience: Duration) -> bool {
        let by_itself = timeout(patience, self.process.wait()).await.is_ok();
        if !by_itself {
            self.process.signal(Signal::SIGKILL);
            let _ = self.process.wait().await;
        }
        self.last_words().await;
        by_itself
    }

    /// What an engine said at its end is read.
    pub async fn last_words(&mut self) {
        let all = async { while self.listening.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_secs(1), all).await;
    }
}

/// How a role begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Now,
    StandBy,
}

/// Starts a role that says when it is ready.
pub fn spawn(common: &Common, spec: &Spec, start: Start) -> io::Result<Child> {
    let (talk, theirs) = StdUnixStream::pair()?;
    let (mut command, settings) = command(common, spec, start, &theirs)?;
    let child = command.spawn();
    drop((settings, theirs));
    let process = Process::of_child(child?.id())?;
    talk.set_nonblocking(true)?;
    Ok(Child::new(process, Some(UnixStream::from_std(talk)?)))
}

/// Runs a short child to its end: what it printed, if it ended well.
pub async fn once(common: &Common, spec: &Spec, limit: Duration) -> io::Result<Option<String>> {
    let (_talk, theirs) = StdUnixStream::pair()?;
    let (mut command, settings) = command(common, spec, Start::Now, &theirs)?;
    command.stdout(Stdio::piped());
    let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
    drop((settings, theirs));
    match timeout(limit, child?.wait_with_output()).await {
        Ok(output) => {
            let output = output?;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok(output.status.success().then_some(said))
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The command, and the settings that must stay open until it is started.
fn command(common: &Common, spec: &Spec, start: Start, talk: &StdUnixStream) -> io::Result<(Command, std::fs::File)> {
    let handed = Handed {
        role: spec.role.to_owned(),
        log: common.log.clone(),
        descriptors: spec.descriptors.len(),
        stands_by: start == Start::StandBy,
        config: spec.config.clone(),
    };
    let mut settings = std::fs::File::from(memfd_create(c"settings", MFdFlags::MFD_CLOEXEC)?);
    settings.write_all(&serde_json::to_vec(&handed)?)?;
    io::Seek::rewind(&mut settings)?;

    let mut given = vec![settings.as_raw_fd(), common.alive.theirs.as_raw_fd(), talk.as_raw_fd()];
    given.extend(spec.descriptors.iter().map(|fd| fd.as_raw_fd()));
    let joins = open_joins(&common.joins)?;
    let exec = Exec::new(common.binary.as_raw_fd(), &["berth", "role", spec.role])?;
    let user = spec.user.clone();

    let mut command = Command::new("berth");
    command.stdin(Stdio::null());
    // SAFETY: between fork and exec only system calls are made, on memory that was prepared before.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            join(&joins)?;
            libc::setsid();
            hand(&given)?;
            become_user(&user)?;
            exec.exec()
        });
    }
    Ok((command, settings))
}

/// A program of the system, under a user of the slice, in the platform's groups; ended with the supervisor.
pub fn prepare(command: &mut Command, joins: &[PathBuf], user: Identity, death: libc::c_int) -> io::Result<()> {
    let joins = open_joins(joins)?;
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    // SAFETY: as above.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, move || {
            join(&joins)?;
            libc::setsid();
            become_user(&user)?;
            // Cleared by the change of user.
            libc::prctl(libc::PR_SET_PDEATHSIG, death);
            Ok(())
        });
    }
    Ok(())
}

fn open_joins(paths: &[PathBuf]) -> io::Result<Vec<std::fs::File>> {
    paths.iter().map(|path| std::fs::OpenOptions::new().write(true).open(path)).collect()
}

/// Joins each group: 0 is who writes.
fn join(files: &[std::fs::File]) -> io::Result<()> {
    files.iter().try_for_each(|mut file| file.write_all(b"0"))
}

/// Puts the descriptors at 3, 4, …, and closes all others at exec.
fn hand(given: &[RawFd]) -> io::Result<()> {
    // SAFETY: system calls on numbers; the targets are reserved, or were given.
    unsafe {
        for (at, fd) in given.iter().enumerate() {
            // Clears close-on-exec. A source is never a target: targets are reserved.
            if libc::dup2(*fd, SETTINGS + at as RawFd) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let first = (SETTINGS as usize + given.len()) as libc::c_uint;
        if libc::close_range(first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Becomes `user`; anyone but root also loses every capability, for good.
pub fn become_user(user: &Identity) -> io::Result<()> {
    // SAFETY: system calls on this process only.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::setrlimit(libc::RLIMIT_CORE, &none))?;
        let mut files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut files))?;
        files.rlim_cur = files.rlim_max;
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &files))?;
        if user.is_root() {
            // What the runner lays under sandboxes is for other users to read.
            libc::umask(0o022);
            return Ok(());
        }
        libc::umask(0o027);
        for capability in 0..64 {
            // Fails for numbers that this kernel does not know.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        check(libc::setgroups(user.groups.len(), user.groups.as_ptr()))?;
        check(libc::setresgid(user.gid, user.gid, user.gid))?;
        check(libc::setresuid(user.uid, user.uid, user.uid))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    }
}

/// An exec prepared before the fork: afterwards nothing may be allocated.
struct Exec {
    binary: RawFd,
    _words: Vec<CString>,
    arguments: Vec<*const libc::c_char>,
    _settings: Vec<CString>,
    environment: Vec<*const libc::c_char>,
}

// SAFETY: the pointers are into the vectors beside them, which are never changed.
unsafe impl Send for Exec {}
// SAFETY: as above.
unsafe impl Sync for Exec {}

impl Exec {
    fn new(binary: RawFd, words: &[&str]) -> io::Result<Self> {
        let owned = |words: &[&str]| words.iter().map(|word| CString::new(*word)).collect::<Result<Vec<_>, _>>();
        let pointers = |words: &[CString]| -> Vec<*const libc::c_char> {
            words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let words = owned(words)?;
        let settings = owned(&[&format!("PATH={PATH}"), "LC_ALL=C.UTF-8", "RUST_BACKTRACE=1"])?;
        let (arguments, environment) = (pointers(&words), pointers(&settings));
        Ok(Self { binary, _words: words, arguments, _settings: settings, environment })
    }

    /// Returns only what went wrong.
    fn exec(&self) -> io::Result<()> {
        // SAFETY: both vectors end with a null pointer.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                self.binary,
                c"".as_ptr(),
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        Err(io::Error::last_os_error())
    }
}
