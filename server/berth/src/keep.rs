//! Keeps one process of the platform running: starts it, starts it again, replaces it by a successor
//! with the same listening sockets, and ends it.
//!
//! | who | how its successor begins |
//! | --- | --- |
//! | web, receiver, balancer | beside it: both accept from one queue, until the old one stops accepting |
//! | control, logs, runner | after it: what they hold only one may hold; callers wait in the socket's queue |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::child::{self, Child, Common, SilentError, Spec, Start, Word};
use crate::engines::{Postgres, Redis};

const ENGINE_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL.
const ROLE_STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// A balancer finishes its requests (20 s), and hands in its last counts.
const BALANCER_STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// An instance may take 30 s to end by its own settings; all of them end at once. Then the last readings.
pub const APPS_STOP_TIMEOUT: Duration = Duration::from_secs(35);
const END_APPS_TIMEOUT: Duration = Duration::from_secs(60);
/// Pushes that are under way may end.
const PUSHES_TIMEOUT: Duration = Duration::from_secs(600);
const FINISH_TIMEOUT: Duration = Duration::from_secs(60);
/// For a role to read its settings, and to serve.
const STAND_BY_TIMEOUT: Duration = Duration::from_secs(15);
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// Who ran this long starts again without delay.
const STEADY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    #[error("its successor could not be started")]
    Start {
        #[source]
        cause: io::Error,
    },
    #[error("its successor did not become ready, and the old one serves on")]
    Silent {
        #[source]
        cause: SilentError,
    },
    #[error("its successor failed after the old one had ended; it is started again")]
    Late {
        #[source]
        cause: SilentError,
    },
    #[error("Berth is being stopped")]
    Stopping,
    #[error("it is not running; it is being started")]
    NotRunning,
}

/// What is kept running.
pub enum Unit {
    Postgres(Postgres),
    Redis(Redis),
    Role(Arc<Common>, Spec),
}

impl Unit {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Role(_, spec) => spec.role,
        }
    }

    fn spawn(&self, start: Start) -> io::Result<Child> {
        match self {
            Self::Postgres(postgres) => postgres.spawn(),
            Self::Redis(redis) => redis.spawn(),
            Self::Role(common, spec) => child::spawn(common, spec, start),
        }
    }

    fn is_exclusive(&self) -> bool {
        matches!(self.name(), "control" | "logs" | "runner")
    }

    /// How it is asked to end, and how long it may take.
    fn end(&self) -> (Signal, Duration) {
        match self.name() {
            // PostgreSQL's fast shutdown.
            "postgres" => (Signal::SIGINT, ENGINE_STOP_TIMEOUT),
            "redis" => (Signal::SIGTERM, ENGINE_STOP_TIMEOUT),
            "balancer" => (Signal::SIGTERM, BALANCER_STOP_TIMEOUT),
            _ => (Signal::SIGTERM, ROLE_STOP_TIMEOUT),
        }
    }

    /// How long what is open may take when a successor serves.
    fn finish(&self) -> Duration {
        if self.name() == "receiver" { PUSHES_TIMEOUT } else { FINISH_TIMEOUT }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Run,
    Stop,
    /// The runner: with its apps.
    StopApps,
}

enum Order {
    Replace(oneshot::Sender<Result<(), ReplaceError>>),
    /// What of it must outlive an `exec`.
    Describe(oneshot::Sender<Option<Running>>),
}

/// Of a process that runs, by numbers.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Running {
    pub pid: u32,
    pub talk: Option<i32>,
    #[serde(default)]
    pub said: Vec<i32>,
    /// Those whose successor serves already.
    #[serde(default)]
    pub leaving: Vec<(u32, Option<i32>)>,
}

pub struct Keeper {
    name: &'static str,
    orders: mpsc::Sender<Order>,
    wish: watch::Sender<Wish>,
    task: JoinSet<()>,
}

impl Keeper {
    /// Keeps `unit` running; `taken` is a process of it that runs already, `leaving` are its predecessors.
    pub fn new(unit: Unit, taken: Option<Child>, leaving: Vec<Child>) -> Self {
        let name = unit.name();
        let (orders, heard) = mpsc::channel(4);
        let wish = watch::Sender::new(Wish::Run);
        let mut task = JoinSet::new();
        let mut kept = Kept { unit, wish: wish.subscribe(), leaving: JoinSet::new(), left: Vec::new() };
        leaving.into_iter().for_each(|old| kept.leave(old));
        task.spawn(kept.keep(taken, heard));
        Self { name, orders, wish, task }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Puts a successor in its place; returns when the successor serves.
    pub async fn replace(&self) -> Result<(), ReplaceError> {
        let (answer, heard) = oneshot::channel();
        match self.orders.send(Order::Replace(answer)).await {
            Ok(()) => heard.await.unwrap_or(Err(ReplaceError::Stopping)),
            Err(_) => Err(ReplaceError::Stopping),
        }
    }

    pub async fn describe(&self) -> Option<Running> {
        let (answer, heard) = oneshot::channel();
        self.orders.send(Order::Describe(answer)).await.ok()?;
        heard.await.ok().flatten()
    }

    /// Ends it, and returns when it has ended.
    pub async fn stop(&mut self, wish: Wish) {
        self.wish.send_replace(wish);
        while self.task.join_next().await.is_some() {}
    }
}

struct Kept {
    unit: Unit,
    wish: watch::Receiver<Wish>,
    leaving: JoinSet<u32>,
    left: Vec<(u32, Option<i32>)>,
}

/// Until it should stop.
async fn stopped(mut wish: watch::Receiver<Wish>) -> Wish {
    match wish.wait_for(|wish| *wish != Wish::Run).await {
        Ok(wish) => *wish,
        Err(_) => Wish::Stop,
    }
}

impl Kept {
    /// Starts it again, later each time that it does not last, until it should stop.
    async fn keep(mut self, mut taken: Option<Child>, mut orders: mpsc::Receiver<Order>) {
        let mut delay = RESTART_DELAY_MIN;
        loop {
            let since = Instant::now();
            let begun = match taken.take() {
                Some(child) => Ok(child),
                None => self.unit.spawn(Start::Now).inspect(|child| self.say_runs(child)),
            };
            match begun {
                Ok(child) => {
                    if self.watch(child, &mut orders).await.is_some() {
                        return self.end().await;
                    }
                }
                Err(cause) => error!(role = self.unit.name(), "{} could not be started: {cause}", self.unit.name()),
            }
            if since.elapsed() > STEADY {
                delay = RESTART_DELAY_MIN;
            }
            tokio::select! {
                () = sleep(delay) => {}
                _ = stopped(self.wish.clone()) => return self.end().await,
                Some(order) = orders.recv() => match order {
                    Order::Replace(answer) => {
                        // It is started at once.
                        let _ = answer.send(Err(ReplaceError::NotRunning));
                    }
                    Order::Describe(answer) => {
                        let _ = answer.send(None);
                    }
                },
            }
            delay = (delay * 2).min(RESTART_DELAY_MAX);
        }
    }

    fn say_runs(&self, child: &Child) {
        let (name, pid) = (self.unit.name(), child.process.pid());
        info!(role = name, pid, "{name} runs");
    }

    /// Until it ends by itself (`None`), or has been ended as wished.
    async fn watch(&mut self, mut child: Child, orders: &mut mpsc::Receiver<Order>) -> Option<Wish> {
        let name = self.unit.name();
        loop {
            tokio::select! {
                status = child.process.end() => {
                    child.last_words().await;
                    warn!(role = name, status, "{name} ended by itself ({status}); it is started again");
                    return None;
                }
                wish = stopped(self.wish.clone()) => {
                    self.end_one(child, wish).await;
                    return Some(wish);
                }
                Some(gone) = self.leaving.join_next(), if !self.leaving.is_empty() => {
                    self.left.retain(|(pid, _)| gone.as_ref().ok() != Some(pid));
                }
                Some(order) = orders.recv() => match order {
                    Order::Describe(answer) => {
                        let (talk, said) = child.descriptors();
                        let running = Running { pid: child.process.pid(), talk, said, leaving: self.left.clone() };
                        let _ = answer.send(Some(running));
                    }
                    Order::Replace(answer) => {
                        let (next, outcome) = self.replace(child).await;
                        let _ = answer.send(outcome);
                        child = next?;
                    }
                },
            }
        }
    }

    /// The process that serves afterwards: the old one as long as its successor did not.
    async fn replace(&mut self, mut old: Child) -> (Option<Child>, Result<(), ReplaceError>) {
        let name = self.unit.name();
        let start = if self.unit.is_exclusive() { Start::StandBy } else { Start::Now };
        let mut new = match self.unit.spawn(start) {
            Ok(new) => new,
            Err(cause) => return (Some(old), Err(ReplaceError::Start { cause })),
        };
        let (word, limit) = match start {
            Start::StandBy => (Word::StandsBy, STAND_BY_TIMEOUT),
            Start::Now => (Word::Ready, READY_TIMEOUT),
        };
        let heard = tokio::select! {
            heard = new.says(word, limit) => heard.map_err(|cause| ReplaceError::Silent { cause }),
            _ = stopped(self.wish.clone()) => Err(ReplaceError::Stopping),
        };
        if let Err(cause) = heard {
            new.end(Signal::SIGKILL, ROLE_STOP_TIMEOUT).await;
            return (Some(old), Err(cause));
        }
        if start == Start::Now {
            self.say_runs(&new);
            self.leave(old);
            return (Some(new), Ok(()));
        }
        old.tell(Word::Finish);
        if !old.ended(self.unit.finish()).await {
            warn!(role = name, "{name} did not finish in its time; it was killed");
        }
        new.tell(Word::Go);
        match new.says(Word::Ready, READY_TIMEOUT).await {
            Ok(()) => {
                self.say_runs(&new);
                (Some(new), Ok(()))
            }
            Err(cause) => {
                new.end(Signal::SIGKILL, ROLE_STOP_TIMEOUT).await;
                (None, Err(ReplaceError::Late { cause }))
            }
        }
    }

    /// Lets a predecessor finish, for a bounded time.
    fn leave(&mut self, old: Child) {
        let (pid, (talk, _)) = (old.process.pid(), old.descriptors());
        self.left.push((pid, talk));
        let (name, patience) = (self.unit.name(), self.unit.finish());
        let (signal, end) = self.unit.end();
        let wish = self.wish.clone();
        self.leaving.spawn(async move {
            old.tell(Word::Finish);
            tokio::select! {
                _ = old.process.wait() => {}
                () = sleep(patience) => {
                    info!(role = name, pid, "what was still open at the old {name} after {patience:?} is ended");
                    old.end(signal, end).await;
                }
                _ = stopped(wish) => {
                    old.end(signal, end).await;
                }
            }
            pid
        });
    }

    async fn end_one(&self, mut child: Child, wish: Wish) {
        let (name, (signal, patience)) = (self.unit.name(), self.unit.end());
        if wish == Wish::StopApps {
            child.tell(Word::EndApps);
            if child.ended(END_APPS_TIMEOUT).await {
                return;
            }
            warn!(role = name, "{name} did not end the apps within {END_APPS_TIMEOUT:?}; it was killed");
        } else if !child.end(signal, patience).await {
            warn!(role = name, "{name} did not end within {patience:?}; it was killed");
        }
    }

    /// Its predecessors end too.
    async fn end(mut self) {
        while self.leaving.join_next().await.is_some() {}
    }
}
