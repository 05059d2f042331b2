//! A `berth up` that runs: hears its operator, puts successors in place of roles, goes on as a newer program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tracing::{error, info, warn};

use crate::child::Common;
use crate::cli::Up;
use crate::door::{Ask, Caller};
use crate::engines::{Cache, Database};
use crate::keep::{Keeper, Unit};
use crate::listeners::Listeners;
use crate::resume::{self, ResumeError};
use crate::slice::Slice;
use crate::up::{self, Signals, Told, UpError, stop};
use crate::wiring::{self, Secrets, World};

/// In this order a successor finds what it calls.
const ROLES: [&str; 6] = ["logs", "control", "runner", "web", "receiver", "balancer"];

/// What a start makes, beside the slice.
pub struct Parts {
    pub secrets: Secrets,
    pub database: Database,
    pub cache: Cache,
    pub common: Arc<Common>,
    pub listeners: Listeners,
    pub door: UnixListener,
}

pub struct Supervisor<'a> {
    pub settings: &'a Up,
    pub slice: Slice,
    pub data: PathBuf,
    pub parts: Parts,
    pub engines: Vec<Keeper>,
    /// From where this program was started; what is there now is the next one.
    pub program: PathBuf,
}

/// Where this program lies: also when another one lies there by now.
fn program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from)
}

impl<'a> Supervisor<'a> {
    pub fn new(settings: &'a Up, slice: Slice, data: PathBuf, parts: Parts, engines: Vec<Keeper>) -> Self {
        Self { settings, slice, data, parts, engines, program: program() }
    }

    /// Until it should stop.
    pub async fn run(&mut self, roles: &mut [Keeper], signals: &mut Signals) {
        loop {
            let called = tokio::select! {
                told = signals.stop_or_upgrade() => match told {
                    Told::Stop => return,
                    Told::Upgrade => None,
                },
                called = self.parts.door.accept() => match called {
                    Ok((stream, _)) => Some(stream),
                    Err(cause) => {
                        warn!("could not hear an operator: {cause}");
                        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                        continue;
                    }
                },
            };
            // Whatever is under way, a signal stops it: successors that are not ready are ended by their keepers.
            tokio::select! {
                () = signals.stop() => return,
                () = async {
                    match called {
                        Some(stream) => match Caller::hear(stream).await {
                            Ok((caller, ask)) => self.answer(caller, ask, roles).await,
                            Err(cause) => warn!("what was asked at the supervisor's socket was not heard: {cause}"),
                        },
                        None => self.upgrade(Caller::nobody(), None, roles).await,
                    }
                } => {}
            }
        }
    }

    async fn answer(&mut self, mut caller: Caller, ask: Ask, roles: &mut [Keeper]) {
        match ask {
            Ask::Restart { roles: asked } => {
                if let Some(unknown) = asked.iter().find(|role| !ROLES.contains(&role.as_str())) {
                    return caller.fail(&format!("there is no role {unknown}; there are {}", ROLES.join(", "))).await;
                }
                let wanted = |role: &&str| asked.is_empty() || asked.iter().any(|one| one == role);
                let wanted: Vec<&str> = ROLES.into_iter().filter(|role| wanted(role)).collect();
                let common = self.parts.common.clone();
                let outside = matches!(self.parts.database, Database::Outside(_))
                    || matches!(self.parts.cache, Cache::Outside(_));
                // Of engines that are not our own, who may come in may have been lost with a restart there.
                if outside && let Err(cause) = up::migrate(&common, &self.world(), &self.parts.listeners).await {
                    return caller.fail(&crate::chain(&cause)).await;
                }
                match self.replace(&mut caller, roles, &wanted, &common).await {
                    0 => caller.done().await,
                    failed => caller.fail(&format!("{failed} of {} were not started again", wanted.len())).await,
                }
            }
            Ask::Upgrade { binary } => self.upgrade(caller, binary, roles).await,
            Ask::Database => {
                let outside = matches!(self.parts.database, Database::Outside(_));
                caller.database(outside.then(|| self.parts.database.owner_url())).await;
            }
        }
    }

    pub fn world(&self) -> World<'_> {
        let parts = &self.parts;
        World::new(self.settings, &self.slice, &self.data, &parts.database, &parts.cache, &parts.secrets)
    }

    /// Puts successors in place of `wanted`, one by one: how many were not.
    pub async fn replace(
        &self,
        caller: &mut Caller,
        roles: &mut [Keeper],
        wanted: &[&str],
        common: &Arc<Common>,
    ) -> usize {
        let specs = match wiring::roles(&self.world(), &self.parts.listeners) {
            Ok((specs, _)) => specs,
            Err(cause) => {
                caller.say(&crate::chain(&cause)).await;
                return wanted.len();
            }
        };
        let mut failed = 0;
        for name in wanted {
            let spec = specs.iter().find(|(spec, _)| spec.role == *name).map(|(spec, _)| spec.clone());
            let keeper = roles.iter().find(|keeper| keeper.name() == *name);
            let (Some(spec), Some(keeper)) = (spec, keeper) else { continue };
            match keeper.replace(Unit::Role(common.clone(), spec)).await {
                Ok(()) => {
                    info!(role = name, "{name}: its successor serves");
                    caller.say(&format!("{name:<10} its successor serves")).await;
                }
                Err(cause) => {
                    failed += 1;
                    let why = crate::chain(&cause);
                    error!(role = name, "{name}: {why}");
                    caller.say(&format!("{name:<10} {why}")).await;
                }
            }
        }
        failed
    }

    /// Returns only when it could not be: then all is as before.
    async fn upgrade(&mut self, mut caller: Caller, binary: Option<PathBuf>, roles: &mut [Keeper]) {
        let program = binary.unwrap_or_else(|| self.program.clone());
        let failed: ResumeError = match self.hand_over(&program, &mut caller, roles).await {
            Ok(never) => match never {},
            Err(cause) => cause,
        };
        let why = crate::chain(&failed);
        error!("{} does not take over, and everything goes on as it is: {why}", program.display());
        caller.fail(&format!("{} does not take over, and everything goes on as it is: {why}", program.display())).await;
    }

    async fn hand_over(
        &mut self,
        program: &Path,
        caller: &mut Caller,
        roles: &[Keeper],
    ) -> Result<std::convert::Infallible, ResumeError> {
        let state = resume::state(self, caller, roles).await;
        let version = resume::try_out(program, &state).await?;
        info!("going on as {} ({version})", program.display());
        caller.say(&format!("supervisor goes on as {version}")).await;
        resume::go(program, &state)
    }

    pub async fn stop(self, roles: Vec<Keeper>) {
        stop(self.slice, &self.data, roles, self.engines, self.settings.keep_apps).await;
        drop(self.parts);
    }
}

impl From<ResumeError> for UpError {
    fn from(cause: ResumeError) -> Self {
        Self::Resume { cause }
    }
}
