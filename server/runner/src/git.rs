//! Git sandboxes for this server's receiver: git on one app's bare repository, as that app's UID.
//!
//! The receiver hands over the ends of an SSH channel as descriptors; the runner never reads them.
//! In the sandbox there are the stack's `/usr`, the repository, our configuration, attributes and
//! hook read-only on top of it, and the one socket that the hook talks on. No network, no
//! environment but a checked `GIT_PROTOCOL`.
//! A taken-over receiver gets no further than a git on an app's repository: UIDs are computed here,
//! descriptors must be pipes, and a socket is bound from where only the receiver makes them.

mod ask;
mod repository;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use domain::wire::{GitAnswer, GitAsk, GitBranch, GitVerb, Limits, Uids};
use domain::{AppId, Reason, Secret};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, RwLock, RwLockReadGuard, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::sandbox::{Exit, Output, Sandbox, SandboxError, Slice, Spec, Tie};
use crate::{Bind, Program};

use self::ask::Asked;
use self::repository::Ours;

/// Every unit of ours begins with it.
const UNIT: &str = "git-";
/// For an ask to arrive whole.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between SIGTERM and SIGKILL: git has nothing to save that the next one could not do again.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// `git init`
const INIT_TIMEOUT: Duration = Duration::from_secs(30);
const CLEAR_TRIES: u32 = 5;
const CLEAR_AGAIN: Duration = Duration::from_millis(100);
/// After a kill, which nothing can hold off.
const KILLED_TIMEOUT: Duration = Duration::from_secs(10);
/// Whatever is asked for.
const TIME_MAX: Duration = Duration::from_secs(4 * 3600);
/// For whoever is alone on a repository to end.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// Named in one ask.
const COMMITS_MAX: usize = 2_000;
const AT_ONCE: usize = 64;
const LIMITS: Limits = Limits { memory_bytes: 768 << 20, cpu_millis: 2_000, pids: 64, disk_bytes: 64 << 20 };

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GitConfig {
    /// A folder of root's (0711), in it one repository for each app, owned by the app's UID.
    pub repos_dir: PathBuf,
    /// Where the receiver makes the sockets that are bound into sandboxes.
    pub hooks_dir: PathBuf,
    pub receiver_uid: u32,
    pub receiver_token: Secret<String>,
    /// Where the range of the apps' UIDs begins (`wire::Uids::of`).
    pub apps_uid_base: u32,
    /// What one push may bring, packed.
    pub push_bytes_max: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("could not prepare git sandboxes: {doing}")]
    SetUp {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("a git sandbox of {app} failed")]
    Sandbox {
        app: AppId,
        #[source]
        cause: SandboxError,
    },
    #[error("the repository of {app}: {doing}")]
    Repository {
        app: AppId,
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("git init on the repository of {app} ended with {exit:?}")]
    Init { app: AppId, exit: Exit },
    #[error("what the receiver asked for is refused: {why}")]
    Refused { why: &'static str },
}

/// How an ask ended.
enum Ended {
    /// The receiver knows.
    Told,
    /// The receiver is to be told.
    Exited {
        code: i32,
    },
    Missing,
}

/// Whether nobody else may be at work on the repository meanwhile.
fn alone(verb: &GitVerb) -> bool {
    matches!(verb, GitVerb::Maintain { .. } | GitVerb::Bundle { .. })
}

/// The door: cheap to clone.
#[derive(Clone)]
pub struct Git {
    inner: Arc<Inner>,
}

struct Inner {
    slice: Slice,
    config: GitConfig,
    ours: Ours,
    next: AtomicU64,
    /// One at a time makes the repository of an app.
    making: Mutex<HashMap<AppId, Arc<Mutex<()>>>>,
    used: Mutex<HashMap<AppId, Arc<Used>>>,
    places: Semaphore,
    /// Asks that are being answered.
    open: AtomicUsize,
}

/// Who is at work on a repository.
#[derive(Default)]
struct Used {
    /// Held for reading by git for a person; alone is who holds it for writing.
    lock: RwLock<()>,
    /// A person waits: whoever is alone gives way.
    wanted: Notify,
}

impl Used {
    /// Whoever is alone loses nothing that the next one could not do again.
    async fn read(&self) -> RwLockReadGuard<'_, ()> {
        loop {
            self.wanted.notify_waiters();
            if let Ok(held) = tokio::time::timeout(GIVE_WAY, self.lock.read()).await {
                return held;
            }
        }
    }
}

impl Git {
    /// Lays out what is bound into every git sandbox, and ends what a former runner left.
    pub async fn new(slice: Slice, config: GitConfig, dir: &Path) -> Result<Self, GitError> {
        let set_up = |doing| move |cause| GitError::SetUp { doing, cause };
        crate::sandbox::make_dir(&config.repos_dir, 0o711).map_err(set_up("the folder of repositories"))?;
        let ours = Ours::make(dir, slice.shim(), config.push_bytes_max).map_err(set_up("its configuration"))?;
        for unit in slice.units().into_iter().filter(|unit| unit.starts_with(UNIT)) {
            clear(&slice, &unit).await;
        }
        let (next, making, places) = (AtomicU64::new(0), Mutex::default(), Semaphore::new(AT_ONCE));
        let (used, open) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Self { inner: Arc::new(Inner { slice, config, ours, next, making, used, places, open }) })
    }

    async fn used(&self, app: AppId) -> Arc<Used> {
        let mut all = self.inner.used.lock().await;
        all.retain(|_, one| Arc::strong_count(one) > 1);
        Arc::clone(all.entry(app).or_default())
    }

    /// The apps that have a repository here.
    pub(crate) fn repositories(&self) -> Vec<AppId> {
        let entries = std::fs::read_dir(&self.inner.config.repos_dir).into_iter().flatten().flatten();
        // `7.new` too: what was left of one.
        let app = |name: &str| name.split('.').next().and_then(|id| id.parse().ok()).map(AppId);
        entries.filter_map(|entry| app(entry.file_name().to_str()?)).collect()
    }

    /// Removes the repository of an app that is gone, unless git is at work on it: then the next look does.
    pub(crate) async fn remove(&self, app: AppId) -> Result<(), GitError> {
        let used = self.used(app).await;
        let Ok(_alone) = used.lock.try_write() else { return Ok(()) };
        let removed = |cause| GitError::Repository { app, doing: "removing it", cause };
        for name in [app.to_string(), format!("{app}.new")] {
            let path = self.inner.config.repos_dir.join(name);
            if std::fs::symlink_metadata(&path).is_ok() {
                repository::remove(&path).await.map_err(removed)?;
                tracing::info!(app.id = %app, "removed the repository of an app that is gone");
            }
        }
        Ok(())
    }

    /// No sandbox is wanted just now.
    pub fn is_idle(&self) -> bool {
        self.inner.open.load(Ordering::Relaxed) == 0
    }

    /// Answers the receiver until `stop`; every sandbox ends with the connection that asked for it.
    pub async fn serve(&self, listener: StdUnixListener, stop: CancellationToken) -> Result<(), GitError> {
        let listen = |cause| GitError::SetUp { doing: "its socket", cause };
        listener.set_nonblocking(true).map_err(listen)?;
        let listener = UnixListener::from_std(listener).map_err(listen)?;
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = calls.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let (git, stop) = (self.clone(), stop.clone());
                        self.inner.open.fetch_add(1, Ordering::Relaxed);
                        calls.spawn(async move {
                            git.call(stream, stop).await;
                            git.inner.open.fetch_sub(1, Ordering::Relaxed);
                        });
                    }
                    Err(cause) => {
                        tracing::warn!("could not accept on the socket for git: {cause}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        while calls.join_next().await.is_some() {}
        Ok(())
    }

    async fn call(&self, mut stream: UnixStream, stop: CancellationToken) {
        let config = &self.inner.config;
        let peer = stream.peer_cred().map(|peer| peer.uid());
        let asked = tokio::time::timeout(ASK_TIMEOUT, ask::read(&stream)).await;
        let Asked { call, stdio } = match asked {
            Ok(Ok(asked)) => asked,
            Ok(Err(cause)) => {
                tracing::warn!("an ask for a git sandbox could not be read: {cause}");
                return;
            }
            Err(_) => return,
        };
        let given = call.token.expose().as_bytes();
        if peer.ok() != Some(config.receiver_uid) || !same(given, config.receiver_token.expose().as_bytes()) {
            tracing::warn!("somebody who is not the receiver asked for a git sandbox");
            return;
        }
        let ask = call.ask;
        match self.run(&ask, stdio, &mut stream, &stop).await {
            Ok(Ended::Told) => {}
            Ok(Ended::Exited { code }) => answer(&mut stream, &GitAnswer::Exited { code }).await,
            Ok(Ended::Missing) => answer(&mut stream, &GitAnswer::Missing).await,
            Err(error) => {
                match &error {
                    GitError::Refused { why } => tracing::info!(app.id = %ask.app, "git did not run: {why}"),
                    _ => tracing::error!(app.id = %ask.app, "{}", chain(&error)),
                }
                let reason = match &error {
                    GitError::Refused { why } => Reason::new(*why),
                    _ => Reason::new("git could not be started").hint("try again; if it stays so, ask the operator"),
                };
                answer(&mut stream, &GitAnswer::Refused { reason }).await;
            }
        }
    }

    async fn run(
        &self,
        ask: &GitAsk,
        stdio: [OwnedFd; 3],
        stream: &mut UnixStream,
        stop: &CancellationToken,
    ) -> Result<Ended, GitError> {
        let inner = &self.inner;
        if Uids::of(inner.config.apps_uid_base, ask.app) != Some(ask.uids) || ask.app.0 < 1 {
            return Err(GitError::Refused { why: "those are not the UIDs of this app" });
        }
        let Ok(_place) = inner.places.try_acquire() else {
            return Err(GitError::Refused { why: "too many pushes and fetches are under way, try again in a minute" });
        };
        let used = self.used(ask.app).await;
        // Heard from here on.
        let mut wanted = pin!(used.wanted.notified());
        wanted.as_mut().enable();
        let alone = alone(&ask.verb);
        let (_alone, _in_use) = if alone {
            let busy = GitError::Refused { why: "git is at work on the repository" };
            (Some(used.lock.try_write().map_err(|_| busy)?), None)
        } else {
            (None, Some(used.read().await))
        };
        let give_way = stop.child_token();
        let mut run = pin!(self.run_in(ask, stdio, stream, &give_way));
        tokio::select! {
            ended = &mut run => return ended,
            () = wanted, if alone => give_way.cancel(),
        }
        run.await
    }

    /// In the app's repository, which is made or restored where that is asked for.
    async fn run_in(
        &self,
        ask: &GitAsk,
        stdio: [OwnedFd; 3],
        stream: &mut UnixStream,
        stop: &CancellationToken,
    ) -> Result<Ended, GitError> {
        let path = self.inner.config.repos_dir.join(ask.app.to_string());
        let failed = |doing| move |cause| GitError::Repository { app: ask.app, doing, cause };
        let restores = matches!(ask.verb, GitVerb::Restore { .. });
        if !restores && repository::is_made(&path).map_err(failed("its state"))? {
            return self.run_on(&path, ask, stdio, stream, stop).await;
        }
        let making = {
            let mut all = self.inner.making.lock().await;
            all.retain(|_, one| Arc::strong_count(one) > 1);
            Arc::clone(all.entry(ask.app).or_default())
        };
        let one = making.lock().await;
        let made = repository::is_made(&path).map_err(failed("its state"))?;
        match &ask.verb {
            GitVerb::Restore { .. } if made => return Err(GitError::Refused { why: "the repository is there" }),
            // What is half done is never in the repository's place.
            GitVerb::Restore { .. } => {
                let new = self.inner.config.repos_dir.join(format!("{}.new", ask.app));
                repository::remove(&new).await.map_err(failed("what was left of it"))?;
                self.make(ask.app, ask.uids, &new).await?;
                return self.run_on(&new, ask, stdio, stream, stop).await;
            }
            _ if made => {}
            _ if ask.make => self.make(ask.app, ask.uids, &path).await?,
            _ => return Ok(Ended::Missing),
        }
        drop(one);
        self.run_on(&path, ask, stdio, stream, stop).await
    }

    async fn run_on(
        &self,
        repository: &Path,
        ask: &GitAsk,
        stdio: [OwnedFd; 3],
        stream: &mut UnixStream,
        stop: &CancellationToken,
    ) -> Result<Ended, GitError> {
        let inner = &self.inner;
        let unit = self.unit(ask.app);
        let ended = async {
            let spec = self.spec(ask, &unit, repository, stdio)?;
            let failed = |cause| GitError::Sandbox { app: ask.app, cause };
            let sandbox = inner.slice.start(spec).await.map_err(failed)?;
            answer(stream, &GitAnswer::Started).await;
            let time = Duration::from_millis(ask.time_ms).min(TIME_MAX);
            let code = watch(&sandbox, time, stream, stop).await;
            if code == 0 && matches!(ask.verb, GitVerb::Restore { .. }) {
                let failed = |cause| GitError::Repository { app: ask.app, doing: "putting it in its place", cause };
                let path = inner.config.repos_dir.join(ask.app.to_string());
                repository::remove(&path).await.map_err(failed)?;
                std::fs::rename(repository, path).map_err(failed)?;
            }
            // Whoever was alone lets the next one in first: the receiver may ask for that at once.
            if alone(&ask.verb) {
                return Ok(Ended::Exited { code });
            }
            // The receiver hears of the end before the unit is cleared away.
            answer(stream, &GitAnswer::Exited { code }).await;
            Ok(Ended::Told)
        }
        .await;
        clear(&inner.slice, &unit).await;
        ended
    }

    fn unit(&self, app: AppId) -> String {
        format!("{UNIT}{app}-{}", self.inner.next.fetch_add(1, Ordering::Relaxed))
    }

    /// An empty bare repository.
    async fn make(&self, app: AppId, uids: Uids, path: &Path) -> Result<(), GitError> {
        let failed = |cause| GitError::Repository { app, doing: "its folder", cause };
        repository::make_dir(path, uids.app).map_err(failed)?;
        let unit = self.unit(app);
        let done = self.init(app, uids, path, &unit).await;
        clear(&self.inner.slice, &unit).await;
        done
    }

    async fn init(&self, app: AppId, uids: Uids, path: &Path, unit: &str) -> Result<(), GitError> {
        let pipe = || io::pipe().map_err(|cause| GitError::Repository { app, doing: "a pipe", cause });
        // What it says is short: it stays in the pipe.
        let ((said, stdout), (_, stderr)) = (pipe()?, pipe()?);
        let mut spec = self.base(uids, unit, path);
        spec.program.args = [
            "/usr/bin/git",
            "init",
            "--quiet",
            "--bare",
            "--initial-branch=main",
            &format!("--template={}", repository::TEMPLATE),
            repository::REPOSITORY,
        ]
        .map(str::to_owned)
        .to_vec();
        spec.output = Output::Given { stdout: stdout.into(), stderr: stderr.into() };
        spec.binds.push(self.inner.ours.template());
        let failed = |cause| GitError::Sandbox { app, cause };
        let sandbox = self.inner.slice.start(spec).await.map_err(failed)?;
        let exit = tokio::time::timeout(INIT_TIMEOUT, sandbox.wait()).await;
        drop(said);
        match exit {
            Ok(exit) if exit.is_success() => Ok(()),
            Ok(exit) => Err(GitError::Init { app, exit }),
            Err(_) => {
                sandbox.kill();
                let cause = io::Error::from(io::ErrorKind::TimedOut);
                Err(GitError::Repository { app, doing: "git init", cause })
            }
        }
    }

    fn spec(&self, ask: &GitAsk, unit: &str, repository: &Path, stdio: [OwnedFd; 3]) -> Result<Spec, GitError> {
        let inner = &self.inner;
        let failed = |doing| move |cause| GitError::Repository { app: ask.app, doing, cause };
        let mut spec = self.base(ask.uids, unit, repository);
        spec.binds.extend(inner.ours.on_top());
        spec.program.args = match &ask.verb {
            GitVerb::ReceivePack => words(&["/usr/bin/git", "receive-pack", repository::REPOSITORY]),
            GitVerb::UploadPack => words(&["/usr/bin/git", "upload-pack", "--strict", repository::REPOSITORY]),
            GitVerb::UpdateRef { name, new, old } => {
                if !is_branch(name) {
                    return Err(GitError::Refused { why: "that is not the name of a branch" });
                }
                spec.program.env.insert("GIT_DIR".to_owned(), repository::REPOSITORY.to_owned());
                let old = old.as_ref().map_or("none", |old| old.as_str());
                words(&[repository::HOOK, "hook", "move", name, new.as_str(), old])
            }
            GitVerb::Maintain { keep: commits } | GitVerb::Bundle { commits } => {
                if commits.len() > COMMITS_MAX {
                    return Err(GitError::Refused { why: "those are too many commits" });
                }
                spec.program.env.insert("GIT_DIR".to_owned(), repository::REPOSITORY.to_owned());
                let verb = if matches!(ask.verb, GitVerb::Maintain { .. }) { "maintain" } else { "bundle" };
                let mut args = words(&[repository::HOOK, "hook", verb]);
                args.extend(commits.iter().map(ToString::to_string));
                args
            }
            GitVerb::Restore { branch, branches } => {
                if branches.len() > COMMITS_MAX {
                    return Err(GitError::Refused { why: "those are too many branches" });
                }
                spec.program.env.insert("GIT_DIR".to_owned(), repository::REPOSITORY.to_owned());
                let head = branch.as_ref().map_or("none", |branch| branch.name.as_str());
                let mut args = words(&[repository::HOOK, "hook", "restore", head]);
                for GitBranch { name, commit } in branches.iter().chain(branch) {
                    if !is_branch(name) {
                        return Err(GitError::Refused { why: "that is not the name of a branch" });
                    }
                    args.extend([name.clone(), commit.to_string()]);
                }
                args
            }
        };
        if let Some(protocol) = &ask.protocol {
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'.');
            if protocol.len() > 64 || !protocol.bytes().all(fits) {
                return Err(GitError::Refused { why: "that is no GIT_PROTOCOL" });
            }
            spec.program.env.insert("GIT_PROTOCOL".to_owned(), protocol.clone());
        }
        if let Some(socket) = &ask.hook_socket {
            let dir = inner.slice.make_unit_dir(unit).map_err(|cause| GitError::Sandbox { app: ask.app, cause })?;
            let at = dir.join("hook.sock");
            let config = &inner.config;
            repository::bind_socket(Path::new(socket), &config.hooks_dir, config.receiver_uid, &at)
                .map_err(failed("its hook's socket"))?;
            spec.binds.push(Bind::read_only(at, repository::HOOK_SOCKET));
            spec.program.env.insert("BERTH_HOOK_SOCKET".to_owned(), repository::HOOK_SOCKET.to_owned());
        }
        if !stdio.iter().all(ask::is_pipe) {
            // The runtime gives its standard descriptors to the app's UID.
            return Err(GitError::Refused { why: "standard descriptors must be pipes" });
        }
        let [stdin, stdout, stderr] = stdio;
        spec.stdin = Some(stdin);
        spec.output = Output::Given { stdout, stderr };
        Ok(spec)
    }

    fn base(&self, uids: Uids, unit: &str, repository: &Path) -> Spec {
        let env = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
        ];
        Spec {
            unit: unit.to_owned(),
            hostname: "git".to_owned(),
            program: Program {
                args: Vec::new(),
                env: env.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
                cwd: PathBuf::from(repository::REPOSITORY),
            },
            uids,
            limits: LIMITS,
            binds: vec![Bind::read_write(repository, repository::REPOSITORY)],
            network: None,
            counted: None,
            stdin: None,
            output: Output::Spool(PathBuf::new()),
            stop_timeout: STOP_TIMEOUT,
            tie: Tie::ToRunner,
        }
    }
}

/// Until git ends by itself; ended when its time is over, when the receiver closes its connection,
/// and when the runner stops.
async fn watch(sandbox: &Sandbox, time: Duration, stream: &mut UnixStream, stop: &CancellationToken) -> i32 {
    let closed = async {
        // Nothing more is said on it.
        let mut piece = [0; 64];
        while !matches!(stream.read(&mut piece).await, Ok(0) | Err(_)) {}
    };
    let exit = tokio::select! {
        exit = sandbox.wait() => Some(exit),
        () = tokio::time::sleep(time) => None,
        () = closed => None,
        () = stop.cancelled() => None,
    };
    match exit {
        // As a shell counts: 128 and the signal.
        Some(exit) => exit.code.unwrap_or_else(|| 128 + exit.signal.unwrap_or(libc::SIGKILL)),
        None => {
            sandbox.kill();
            // Whatever does not end now is ended by clearing its unit; the repository must not wait for it.
            if tokio::time::timeout(KILLED_TIMEOUT, sandbox.wait()).await.is_err() {
                tracing::error!("a git sandbox that was killed does not end");
            }
            128 + libc::SIGKILL
        }
    }
}

/// Best effort: what stays is ended at the runner's next start.
async fn clear(slice: &Slice, unit: &str) {
    let mut tries = 0;
    loop {
        let cleared = slice.clear(unit, None).await;
        let Err(error) = cleared.and_then(|()| slice.remove_unit(unit)) else { return };
        tries += 1;
        if tries == CLEAR_TRIES {
            return tracing::error!(sandbox = unit, "could not clear a git sandbox: {}", chain(&error));
        }
        // Of a shim that was killed, the runtime may have put a process there meanwhile.
        tokio::time::sleep(CLEAR_AGAIN).await;
    }
}

async fn answer(stream: &mut UnixStream, answer: &GitAnswer) {
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    // Whoever is gone does not need it; nobody who stays is slow to take a line.
    let _ = tokio::time::timeout(ASK_TIMEOUT, stream.write_all(&line)).await;
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// git checks the rest; this keeps it from being an option, or a ref of ours.
fn is_branch(name: &str) -> bool {
    name.strip_prefix("refs/heads/").is_some_and(|rest| !rest.is_empty() && rest.len() < 250)
        && !name.bytes().any(|b| b.is_ascii_control() || b == b' ')
        && !name.contains("..")
}

/// Compares without telling by its time where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
