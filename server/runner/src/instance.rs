//! One instance from its placing to its end: a task of its own that starts, checks, restarts and
//! stops its sandbox.
//!
//! Knows: its specification and what is wanted of it now. Never: ends for want of a coordinator.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::wire::InstanceSpec;
use domain::{InstanceState, Reason, Wanted};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::bundle::{Bind, Program};
use crate::health::{self, Listening, Probe};
use crate::images::{ImageError, Images, Mounted};
use crate::lines::Lines;
use crate::meters::Meters;
use crate::mount;
use crate::net::Kind;
use crate::sandbox::{Exit, Output, Sandbox, SandboxError, Slice, Spec, Tie, make_dir};
use crate::seat::{Kept, Seat, lines_of, unit_of};

/// A start that goes on longer makes room for the next one.
const START_TURN: Duration = Duration::from_secs(3);
/// For the first assignments, before anything is started that a former runner knew.
const ASSIGNED_WAIT: Duration = Duration::from_secs(5);
/// Crashes before it was ever healthy: more would only delay the answer to a push.
const STARTS_MAX: u32 = 3;
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// Having run so long, a crash counts as the first one again.
const STEADY: Duration = Duration::from_secs(300);
const STARTING_CHECK: Duration = Duration::from_millis(100);
const HEALTHY_CHECK: Duration = Duration::from_secs(10);
const UNHEALTHY_AFTER: u32 = 3;
/// What only listens on loopback for so long will not change its mind.
const LOOPBACK_PATIENCE: Duration = Duration::from_secs(5);
/// A process without a port that still runs after this has started.
const WORKER_STARTED: Duration = Duration::from_secs(1);

/// For the last lines of what runs once, before its end is told.
const LINES_WAIT: Duration = Duration::from_secs(5);

/// What all instances of this server share.
pub struct Server {
    pub slice: Slice,
    pub images: Images,
    pub lines: Lines,
    pub meters: Meters,
    pub probe: Probe,
    /// Bound read-only at `/opt/berth`.
    pub tools: PathBuf,
    /// Which instances that run once were begun.
    pub once: PathBuf,
    /// As many starts at once as there are cores.
    pub starts: Arc<Semaphore>,
    /// The coordinator has said what should run, once at least.
    pub assigned: watch::Sender<bool>,
    /// Something that the next report should say has changed.
    pub changed: Notify,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("{reason}")]
    Locked { reason: Reason },
    #[error("could not prepare {doing}")]
    Prepare {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
}

pub struct Instance {
    pub(crate) server: Arc<Server>,
    seat: Arc<Seat>,
    pub(crate) unit: String,
    pub(crate) kept: Kept,
    image: Option<Mounted>,
    /// Before it is started again.
    back_off: Duration,
    pub(crate) stop: CancellationToken,
}

/// What a runner finds of an instance when it takes it up.
pub enum Found {
    Nothing,
    Running(Sandbox),
    /// It ran, and ended while no runner looked.
    Ended,
}

/// How a sandbox's run ended.
pub(crate) enum Run {
    Ended(Exit),
    /// Stopped since it never answered.
    Refused(Reason),
    /// It was asked to stop, and has.
    Stopped,
    /// It was to run once, and does.
    Begun(Sandbox),
    /// The runner ends; the sandbox goes on.
    Left,
}

impl Instance {
    pub fn new(server: Arc<Server>, seat: Arc<Seat>, kept: Kept, stop: CancellationToken) -> Self {
        let unit = unit_of(seat.spec.id);
        Self { server, seat, unit, kept, image: None, back_off: BACK_OFF_FIRST, stop }
    }

    fn tell(&self, state: InstanceState, reason: Option<Reason>) {
        let again = if state == InstanceState::Crashed { self.back_off } else { Duration::ZERO };
        let again_ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
        if self.seat.tell(state, reason, self.kept.restarts, again_ms) {
            self.server.changed.notify_one();
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.seat.wanted.borrow() == Wanted::Stop
    }

    /// Until it should stop.
    pub(crate) async fn stopping(&self) {
        let mut wanted = self.seat.wanted.subscribe();
        // The sender lives in the seat that we hold.
        let _ = wanted.wait_for(|w| *w == Wanted::Stop).await;
    }

    /// Runs it until it should stop, from how it was found.
    pub async fn live(mut self, found: Found) {
        let mut adopted = None;
        let mut unseen_end = None;
        match found {
            Found::Nothing => {}
            Found::Running(sandbox) => adopted = Some(sandbox),
            Found::Ended => {
                // It may have ended since it should; with no coordinator it is started again.
                let mut assigned = self.server.assigned.subscribe();
                let _ = tokio::time::timeout(ASSIGNED_WAIT, assigned.wait_for(|is| *is)).await;
                let unknown = Exit { code: None, signal: None, oom: false, cpu_micros: None };
                unseen_end = Some(self.server.slice.exit(&self.unit).unwrap_or(unknown));
            }
        }
        if adopted.is_some() {
            match self.server.images.acquire(&self.kept.spec.image).await {
                Ok(mounted) => self.image = Some(mounted),
                Err(e) => tracing::error!(instance.id = %self.kept.spec.id, "an adopted one has no image: {e}"),
            }
        }
        if let Some(once) = self.kept.spec.once {
            return self.live_once(once, adopted, unseen_end).await;
        }
        let mut starts = 0;
        while !self.is_stopping() {
            let began = Instant::now();
            let run = if let Some(sandbox) = adopted.take() {
                self.watch(sandbox, None).await
            } else if let Some(exit) = unseen_end.take() {
                Ok(Run::Ended(exit))
            } else {
                self.tell(InstanceState::Starting, None);
                starts += 1;
                self.turn().await
            };
            let reason = match run {
                Ok(Run::Left) => return,
                Ok(Run::Stopped) => break,
                Ok(Run::Begun(sandbox)) => {
                    adopted = Some(sandbox);
                    continue;
                }
                Ok(Run::Refused(reason)) => {
                    self.end(InstanceState::Failed, Some(reason)).await;
                    return;
                }
                Ok(Run::Ended(exit)) => self.explain(&exit),
                Err(e) => {
                    if self.stop.is_cancelled() {
                        return;
                    }
                    self.cannot_start(&e)
                }
            };
            self.clear().await;
            if self.is_stopping() {
                break;
            }
            if !self.kept.was_healthy && starts >= STARTS_MAX {
                self.end(InstanceState::Failed, Some(reason)).await;
                return;
            }
            if began.elapsed() >= STEADY {
                self.back_off = BACK_OFF_FIRST;
            }
            self.kept.restarts += 1;
            self.say(&format!("{reason}; starting it again in {} s", self.back_off.as_secs_f32()));
            self.tell(InstanceState::Crashed, Some(reason));
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.stopping() => break,
                () = tokio::time::sleep(self.back_off) => {}
            }
            self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        }
        self.end(InstanceState::Stopped, None).await;
    }

    /// A line in the app's log; only between sandboxes.
    pub(crate) fn say(&self, text: &str) {
        if let Err(e) = self.server.lines.say(&self.unit, text) {
            tracing::error!(instance.id = %self.kept.spec.id, "its lines cannot be kept: {e}");
        }
    }

    /// One start and its run.
    pub(crate) async fn turn(&mut self) -> Result<Run, StartError> {
        let starts = Arc::clone(&self.server.starts);
        let turn = tokio::select! {
            () = self.stop.cancelled() => return Ok(Run::Left),
            () = self.stopping() => return Ok(Run::Stopped),
            turn = starts.acquire_owned() => turn.ok(),
        };
        // Cut short when it should stop: a fetch may take minutes. What was begun is cleared.
        let started = {
            let (stop, mut wanted) = (self.stop.clone(), self.seat.wanted.subscribe());
            tokio::select! {
                started = self.start() => Some(started?),
                _ = wanted.wait_for(|w| *w == Wanted::Stop) => None,
                () = stop.cancelled() => None,
            }
        };
        match started {
            // Nobody asks it anything: it ends by itself.
            Some(sandbox) if self.kept.spec.once.is_some() => Ok(Run::Begun(sandbox)),
            Some(sandbox) => self.watch(sandbox, turn).await,
            None if self.stop.is_cancelled() => Ok(Run::Left),
            None => Ok(Run::Stopped),
        }
    }

    async fn start(&mut self) -> Result<Sandbox, StartError> {
        let server = Arc::clone(&self.server);
        let spec = self.kept.spec.clone();
        if let Some(reason) = spec.locked {
            return Err(StartError::Locked { reason });
        }
        let prepare = |doing| move |cause| StartError::Prepare { doing, cause };
        // What an earlier start left: a half-made one, or that of a runner that was killed.
        server.slice.clear(&self.unit, Some(spec.address)).await?;
        if !self.seat.has_begun() {
            server.salvage(&self.unit).await.map_err(prepare("its counters"))?;
            server.slice.remove_unit(&self.unit)?;
            self.seat.begin();
        }
        if self.image.is_none() {
            self.image = Some(server.images.acquire(&spec.image).await?);
        }
        let Some(image) = &self.image else { unreachable!("acquired above") };
        let dir = server.slice.make_unit_dir(&self.unit)?;
        self.keep()?;
        let (fs, app) = (dir.join("fs"), dir.join("app"));
        for dir in [&fs, &app] {
            make_dir(dir, 0o711).map_err(prepare("its file system"))?;
        }
        mount::mount_tmpfs(&fs, &format!("size={},mode=711", spec.limits.disk_bytes))
            .map_err(prepare("its file system"))?;
        let (upper, work) = (fs.join("u"), fs.join("w"));
        make_dir(&upper, 0o755).map_err(prepare("its file system"))?;
        make_dir(&work, 0o700).map_err(prepare("its file system"))?;
        std::os::unix::fs::chown(&upper, Some(spec.uids.app), Some(spec.uids.app))
            .map_err(prepare("its file system"))?;
        mount::mount_overlay(&app, &image.path, &upper, &work).map_err(prepare("its file system"))?;

        let mut binds = vec![Bind::read_write(&app, "/app")];
        if server.tools.is_dir() {
            binds.push(Bind::read_only(&server.tools, "/opt/berth"));
        }
        let mut env = spec.env.clone();
        env.extend(spec.config.iter().map(|(name, value)| (name.clone(), value.expose().clone())));
        for (name, value) in [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/app"), ("LANG", "C.UTF-8")] {
            env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        if let Some(port) = spec.port {
            env.insert("PORT".to_owned(), port.to_string());
        }
        let spool = server.lines.open(&self.unit, &lines_of(&spec)).map_err(prepare("the place of its lines"))?;
        if spec.once.is_some() {
            crate::once::claim(&server.once, spec.id).map_err(prepare("the note that it was begun"))?;
            self.say(&format!("-----> Running {}: {}", spec.process, spec.command));
        }
        let sandbox = server
            .slice
            .start(Spec {
                unit: self.unit.clone(),
                hostname: format!("{}-{}", spec.process, spec.index).to_lowercase(),
                program: Program {
                    // The app's own shell reads the Procfile's line: the only shell there is.
                    args: vec!["/bin/sh".to_owned(), "-c".to_owned(), spec.command.clone()],
                    env,
                    cwd: "/app".into(),
                },
                uids: spec.uids,
                limits: spec.limits,
                binds,
                network: Some((spec.address, Kind::App)),
                counted: Some(server.counted(&self.seat.life)),
                stdin: None,
                output: Output::Spool(spool),
                stop_timeout: Duration::from_millis(spec.stop_timeout_ms),
                tie: Tie::None,
            })
            .await?;
        Ok(sandbox)
    }

    /// For the next runner.
    fn keep(&self) -> Result<(), StartError> {
        let prepare = |cause| StartError::Prepare { doing: "what the next runner must know", cause };
        self.kept.write(&self.server.slice).map_err(prepare)
    }

    /// Checks it until it ends. `turn` is given back when it has started.
    async fn watch(
        &mut self,
        sandbox: Sandbox,
        mut turn: Option<tokio::sync::OwnedSemaphorePermit>,
    ) -> Result<Run, StartError> {
        let began = Instant::now();
        let spec = self.kept.spec.clone();
        let limit = Duration::from_millis(spec.health.start_timeout_ms);
        let is_adopted = turn.is_none();
        let mut is_healthy = is_adopted && self.kept.was_healthy;
        let mut loopback_since: Option<Instant> = None;
        let mut failed = 0;
        let mut next = Instant::now();
        let end = sandbox.wait();
        tokio::pin!(end);
        loop {
            let told = tokio::select! {
                exit = &mut end => return Ok(Run::Ended(exit)),
                () = self.stop.cancelled() => return Ok(Run::Left),
                () = self.stopping() => {
                    sandbox.stop();
                    end.await;
                    return Ok(Run::Stopped);
                }
                told = self.check(&spec, began, next) => told,
            };
            if began.elapsed() >= START_TURN {
                drop(turn.take());
            }
            match told {
                Ok(()) => {
                    failed = 0;
                    if !is_healthy {
                        is_healthy = true;
                        drop(turn.take());
                        if !self.kept.was_healthy {
                            self.kept.was_healthy = true;
                            self.keep()?;
                        }
                        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                        tracing::info!(instance.id = %spec.id, app.name = %spec.app_name, took_ms,
                            "{}.{}.{} is healthy", spec.app_name, spec.process, spec.index);
                    }
                    self.tell(InstanceState::Healthy, None);
                    next = Instant::now() + HEALTHY_CHECK;
                }
                Err(why) if is_healthy => {
                    failed += 1;
                    if failed >= UNHEALTHY_AFTER {
                        let reason = Reason::new(format!("{}.{}: {why}", spec.process, spec.index));
                        self.tell(InstanceState::Unhealthy, Some(reason));
                    }
                    next = Instant::now() + HEALTHY_CHECK / if failed < UNHEALTHY_AFTER { 5 } else { 1 };
                }
                Err(why) => {
                    next = Instant::now() + STARTING_CHECK;
                    let listening = Listening::of(sandbox.pid());
                    let port = spec.port.unwrap_or(0);
                    if listening.only_on_loopback(port) {
                        loopback_since.get_or_insert_with(Instant::now);
                    } else {
                        loopback_since = None;
                    }
                    let is_late = began.elapsed() >= limit;
                    let hopeless = loopback_since.is_some_and(|since| since.elapsed() >= LOOPBACK_PATIENCE);
                    if is_late || hopeless {
                        let name = spec.process.as_str();
                        let reason = match &spec.health.path {
                            _ if hopeless => health::on_loopback(name),
                            Some(path) if !why.contains("does not accept") => {
                                Reason::new(format!("{name} was not healthy within {} s: {why}", limit.as_secs())).hint(
                                    format!(
                                        "answer {path} with a status below 400, or change `web.health` in berth.toml"
                                    ),
                                )
                            }
                            _ => listening.explain(name, port, limit),
                        };
                        // One that served before is never given up: it may still come.
                        if self.kept.was_healthy {
                            self.tell(InstanceState::Unhealthy, Some(reason));
                            next = Instant::now() + HEALTHY_CHECK / 5;
                            continue;
                        }
                        sandbox.kill();
                        end.await;
                        return Ok(Run::Refused(reason));
                    }
                }
            }
        }
    }

    async fn check(&self, spec: &InstanceSpec, began: Instant, at: Instant) -> Result<(), String> {
        tokio::time::sleep_until(at).await;
        match spec.port {
            Some(port) => self.server.probe.check(spec, port).await,
            None if began.elapsed() >= WORKER_STARTED => Ok(()),
            None => Err("has only just begun".to_owned()),
        }
    }

    /// Why it ended, with the last thing that it said.
    pub(crate) fn explain(&self, exit: &Exit) -> Reason {
        let spec = &self.kept.spec;
        let name = format!("{}.{}", spec.process, spec.index);
        let last = self.server.lines.last_printed(&self.unit).map(|l| l.chars().take(300).collect::<String>());
        let said = last.map(|l| format!(": {l}")).unwrap_or_default();
        let is_killed = exit.signal == Some(libc::SIGKILL) || exit.code == Some(128 + libc::SIGKILL);
        if exit.oom && (is_killed || exit.code != Some(0)) {
            return Reason::new(format!("{name} ran out of memory ({} MiB)", spec.limits.memory_bytes >> 20))
                .hint("make it use less memory, or give it more");
        }
        match (exit.code, exit.signal) {
            (Some(0), _) => Reason::new(format!("{name} ended by itself (code 0)"))
                .hint("a process of the formation must keep running"),
            (Some(126 | 127), _) => {
                Reason::new(format!("{name} could not run its command{said}")).hint("check the command in the Procfile")
            }
            (Some(code), _) => Reason::new(format!("{name} ended with code {code}{said}")),
            (None, Some(signal)) => Reason::new(format!("{name} was ended by signal {signal}{said}")),
            (None, None) => Reason::new(format!("{name} ended, and nobody saw how")),
        }
    }

    /// The whole chain for the operator, its head for the customer.
    pub(crate) fn cannot_start(&self, error: &StartError) -> Reason {
        if let StartError::Locked { reason } = error {
            return reason.clone();
        }
        let mut chain = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(e) = cause {
            chain.push_str(&format!(": {e}"));
            cause = e.source();
        }
        let spec = &self.kept.spec;
        tracing::error!(instance.id = %spec.id, app.name = %spec.app_name, "could not start an instance: {chain}");
        Reason::new(format!("{}.{} could not be started: {error}", spec.process, spec.index))
            .hint("that is a fault of this installation; the operator sees the cause in the runner's log")
    }

    /// Removes the sandbox, keeps the group and its counter.
    pub(crate) async fn clear(&self) {
        if let Err(e) = self.server.slice.clear(&self.unit, Some(self.kept.spec.address)).await {
            tracing::error!(instance.id = %self.kept.spec.id, "could not clear what is left of a sandbox: {e}");
        }
    }

    /// The last reading on disk, then everything goes; and then it is told.
    pub(crate) async fn end(mut self, state: InstanceState, reason: Option<Reason>) {
        self.clear().await;
        // What runs once is never tried again, and its deploy says why.
        if let Some(reason) = reason.as_ref().filter(|_| self.kept.spec.once.is_none()) {
            self.say(&format!("{reason}; not tried again"));
        }
        let spec = &self.kept.spec;
        match self.server.read_last(&self.seat).await {
            // The group stays until the disk takes its value.
            Err(e) => tracing::error!(instance.id = %spec.id, "could not keep a last reading: {e}"),
            Ok(last) => {
                self.seat.ended(last);
                if let Err(e) = self.kept.forget(&self.server.slice) {
                    tracing::error!(instance.id = %spec.id, "the next runner will think that it runs: {e}");
                }
                if let Err(e) = self.server.slice.remove_unit(&self.unit) {
                    tracing::error!(instance.id = %spec.id, "could not remove its group: {e}");
                }
            }
        }
        if let Some(image) = self.image.take()
            && let Err(e) = self.server.images.release(&image).await
        {
            tracing::error!(instance.id = %self.kept.spec.id, "could not release its image: {e}");
        }
        self.server.lines.close(&self.unit);
        if self.kept.spec.once.is_some() {
            // Who reads that it has ended finds its last lines.
            self.server.lines.sent(&self.unit, LINES_WAIT).await;
        }
        self.tell(state, reason);
    }
}
