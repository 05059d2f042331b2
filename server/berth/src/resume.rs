//! A supervisor goes on as another program: by `exec`, with its number, its children and its descriptors.
//!
//! What the next program must know goes through a sealed file in memory; its version is the first thing
//! that is read. The next program is tried out first, on the same file, in a child of its own: one that
//! cannot start, or does not know the version, never takes over.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{error, info};

use crate::child::{Alive, Child, Log};
use crate::cli::Up;
use crate::door::{self, Caller};
use crate::engines::{self, EngineError};
use crate::keep::{Keeper, Running, Unit};
use crate::listeners::HeldListeners;
use crate::outside::Given;
use crate::process::Process;
use crate::slice::{HeldSlice, Slice, SliceError};
use crate::supervisor::{Parts, Supervisor, replace};
use crate::up::{self, UpError};
use crate::wiring::{self, Secrets};

/// Of [`State`]. A program takes over from its own version and from the one before.
const VERSION: u32 = 1;
const TRY_OUT_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    #[error("could not {doing}")]
    Io {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("what was handed over cannot be read")]
    State {
        #[source]
        cause: serde_json::Error,
    },
    #[error("what was handed over is of version {version}, and this program knows {VERSION}")]
    Version { version: u32 },
    #[error("it did not say within {TRY_OUT_TIMEOUT:?} that it can")]
    Silent,
    #[error("tried out, it said: {said}")]
    Refused { said: String },
    #[error(transparent)]
    Slice(#[from] SliceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Up(#[from] Box<UpError>),
}

fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> ResumeError {
    move |cause| ResumeError::Io { doing, cause }
}

/// Read before anything else.
#[derive(Serialize, Deserialize)]
struct Version {
    version: u32,
}

#[derive(Serialize, Deserialize)]
pub struct State {
    version: u32,
    slice: HeldSlice,
    data: PathBuf,
    secrets: Secrets,
    listeners: HeldListeners,
    door: RawFd,
    caller: Option<RawFd>,
    /// The pipe that children watch: their end, ours.
    alive: [RawFd; 2],
    /// By name; one that was just not running is absent.
    running: Vec<(String, Running)>,
}

impl State {
    fn descriptors(&self) -> Vec<RawFd> {
        let mut all = vec![self.slice.lock, self.door];
        all.extend(self.alive);
        all.extend(self.caller);
        all.extend(self.listeners.numbers());
        for (_, running) in &self.running {
            all.extend(running.talk);
            all.extend(&running.said);
            all.extend(running.leaving.iter().filter_map(|(_, talk)| *talk));
        }
        all
    }
}

/// A descriptor that came through an `exec`; no child inherits it.
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the one before gave each number once, and nobody else has it in this program.
    unsafe {
        if libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// What the next program must know.
pub async fn state(of: &Supervisor<'_>, caller: &Caller, roles: &[Keeper]) -> State {
    let mut running = Vec::new();
    for keeper in roles.iter().chain(&of.engines) {
        if let Some(one) = keeper.describe().await {
            running.push((keeper.name().to_owned(), one));
        }
    }
    let common = &of.parts.common;
    State {
        version: VERSION,
        slice: of.slice.held(),
        data: of.data.clone(),
        secrets: of.parts.secrets.clone(),
        listeners: of.parts.listeners.held(),
        door: of.parts.door.as_raw_fd(),
        caller: caller.descriptor(),
        alive: [common.alive.theirs.as_raw_fd(), common.alive.ours.as_raw_fd()],
        running,
    }
}

fn sealed(state: &State) -> Result<File, ResumeError> {
    let write = || -> io::Result<File> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"supervisor", flags)?);
        file.write_all(&serde_json::to_vec(state)?)?;
        file.rewind()?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file)
    };
    write().map_err(doing("write down what the next program must know"))
}

fn keep_over_exec(fd: RawFd, kept: bool) {
    // SAFETY: a flag of a descriptor that is open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, if kept { 0 } else { libc::FD_CLOEXEC }) };
}

/// The words of this program, for the next one.
fn words(state: RawFd, check: bool) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut given = std::env::args_os();
    while let Some(word) = given.next() {
        match word.to_str() {
            Some("--resume") => drop(given.next()),
            Some("--resume-check") => {}
            _ => words.push(word),
        }
    }
    words.extend(["--resume".into(), state.to_string().into()]);
    words.extend(check.then(|| "--resume-check".into()));
    words
}

/// Whether `program` could take over: what it calls itself.
pub async fn try_out(program: &Path, state: &State) -> Result<String, ResumeError> {
    let file = sealed(state)?;
    let fd = file.as_raw_fd();
    let mut command = std::process::Command::new(program);
    command.args(words(fd, true).into_iter().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: between fork and exec there is one system call.
    unsafe {
        command.pre_exec(move || {
            keep_over_exec(fd, true);
            Ok(())
        });
    }
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn().map_err(doing("start it"))?;
    let output = timeout(TRY_OUT_TIMEOUT, child.wait_with_output()).await.map_err(|_| ResumeError::Silent)?;
    let output = output.map_err(doing("hear what it says"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().chars().take(600).collect::<String>();
    if !output.status.success() {
        let said = [text(&output.stdout), text(&output.stderr), output.status.to_string()].join(" ");
        return Err(ResumeError::Refused { said: said.trim().to_owned() });
    }
    let said = text(&output.stdout);
    // Any program may end well: this one says what it is.
    if !said.starts_with("berth ") {
        return Err(ResumeError::Refused { said: format!("{said:?}, which is nothing that Berth would say") });
    }
    Ok(said)
}

/// In a child of its own: whether this program could take over.
pub fn check(fd: RawFd) -> Result<String, ResumeError> {
    let state = read(fd)?;
    Ok(format!("berth {} (takes over {} roles)", env!("CARGO_PKG_VERSION"), state.running.len()))
}

/// Becomes `program`; returns only what went wrong, and then all is as before.
pub fn go(program: &Path, state: &State) -> Result<Infallible, ResumeError> {
    let file = sealed(state)?;
    let bytes = |word: OsString| CString::new(word.into_vec()).map_err(|cause| doing("name it")(cause.into()));
    let path = bytes(program.as_os_str().to_owned())?;
    let arguments = words(file.as_raw_fd(), false).into_iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    let kept = state.descriptors().into_iter().chain([file.as_raw_fd()]);
    kept.clone().for_each(|fd| keep_over_exec(fd, true));
    // A signal waits until the next program listens.
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None);
    let failed = nix::unistd::execv(&path, &arguments);
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::all()), None);
    kept.for_each(|fd| keep_over_exec(fd, false));
    match failed {
        Ok(never) => Ok(never),
        Err(cause) => Err(doing("become it")(cause.into())),
    }
}

fn read(fd: RawFd) -> Result<State, ResumeError> {
    let mut text = Vec::new();
    let mut file = File::from(take(fd).map_err(doing("take over the file of the one before"))?);
    let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
    read.map_err(doing("read the file of the one before"))?;
    let Version { version } = serde_json::from_slice(&text).map_err(|cause| ResumeError::State { cause })?;
    if version > VERSION || version + 1 < VERSION {
        return Err(ResumeError::Version { version });
    }
    serde_json::from_slice(&text).map_err(|cause| ResumeError::State { cause })
}

fn child_of(pid: u32, talk: Option<RawFd>) -> io::Result<Child> {
    let talk = match talk {
        Some(fd) => Some(tokio::net::UnixStream::from_std(take(fd)?.into())?),
        None => None,
    };
    Ok(Child::new(Process::of_child(pid)?, talk))
}

/// A process of the one before; its predecessors, that still finish. None of `name`: it is started.
fn taken(running: &[(String, Running)], name: &'static str) -> (Option<Child>, Vec<Child>) {
    let Some((_, one)) = running.iter().find(|(role, _)| role == name) else { return (None, Vec::new()) };
    let child = if one.talk.is_some() {
        child_of(one.pid, one.talk)
    } else {
        let said: io::Result<Vec<OwnedFd>> = one.said.iter().map(|fd| take(*fd)).collect();
        said.and_then(|said| engines::adopted(one.pid, said, name))
    };
    let leaving = one.leaving.iter().filter_map(|(pid, talk)| child_of(*pid, *talk).ok()).collect();
    match child {
        Ok(child) => (Some(child), leaving),
        Err(cause) => {
            error!(role = name, "{name} could not be taken over: {cause}");
            (None, leaving)
        }
    }
}

/// Goes on where another program left off: takes everything over, then puts its own roles in place.
pub async fn go_on<'a>(
    settings: &'a Up,
    log: &Log,
    fd: RawFd,
    roles: &mut Vec<Keeper>,
) -> Result<Supervisor<'a>, ResumeError> {
    let state = read(fd)?;
    let slice = Slice::resume(&state.slice)?;
    info!(slice = slice.n, "went on as berth {}", env!("CARGO_PKG_VERSION"));
    let joins = slice.platform().make().map_err(doing("find the platform's control group"))?;
    let (given, users) = (Given::by_environment(), state.secrets.redis_users());
    let (database, cache) = engines::set_up(&given, &slice, &state.data, &joins, &users).await?;
    let engines = [database.unit(), cache.unit()].into_iter().flatten().map(|unit| {
        let (child, leaving) = taken(&state.running, unit.name());
        Keeper::new(unit, child, leaving)
    });
    let engines: Vec<Keeper> = engines.collect();
    let alive = || -> io::Result<Alive> { Ok(Alive { theirs: take(state.alive[0])?, ours: take(state.alive[1])? }) };
    let alive = alive().map_err(doing("take over the pipe that children watch"))?;
    let listeners = state.listeners.resume().map_err(doing("take over listening sockets"))?;
    let door = take(state.door).and_then(door::resume).map_err(doing("take over its own socket"))?;
    let common = up::common(settings, &state.data, log, joins, Some(alive)).map_err(Box::new)?;
    let parts = Parts { secrets: state.secrets, database, cache, common: Arc::new(common), listeners, door };
    let mut caller = Caller::resume(state.caller);
    let supervisor = Supervisor::new(settings, slice, state.data, parts, engines);
    let world = supervisor.world();
    let (specs, addresses) = wiring::roles(&world, &supervisor.parts.listeners).map_err(Box::new)?;
    for (spec, _) in specs {
        let (child, leaving) = taken(&state.running, spec.role);
        roles.push(Keeper::new(Unit::Role(supervisor.parts.common.clone(), spec), child, leaving));
    }
    up::publish(&supervisor.data, &addresses).map_err(Box::new)?;
    // What the new roles need, and the old ones bear.
    let prepared = up::migrate(&supervisor.parts.common, &world, &supervisor.parts.listeners).await;
    let failed = match prepared {
        Ok(_) => replace(&mut caller, &roles.iter().collect::<Vec<_>>()).await,
        Err(cause) => {
            error!("the database was not prepared; the old roles run on: {}", crate::chain(&cause));
            caller.say(&crate::chain(&cause)).await;
            roles.len()
        }
    };
    match failed {
        0 => caller.done().await,
        failed => {
            let runs = "the supervisor is the new one; of each that was not replaced, the old one runs on";
            caller.fail(&format!("{failed} of {} roles were not replaced: {runs}", roles.len())).await;
        }
    }
    Ok(supervisor)
}
