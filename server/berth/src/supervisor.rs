//! A `berth up` that runs: hears its operator, puts successors in place of roles, goes on as a newer program.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tracing::{error, info, warn};

use crate::child::Common;
use crate::cli::Up;
use crate::door::{Ask, Caller};
use crate::engines::{Cache, Database};
use crate::keep::Keeper;
use crate::listeners::Listeners;
use crate::resume::{self, ResumeError};
use crate::slice::Slice;
use crate::up::{self, Signals, Told, stop};
use crate::wiring::{Secrets, World};

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
    pub async fn run(&mut self, roles: &[Keeper], signals: &mut Signals) {
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

    async fn answer(&mut self, mut caller: Caller, ask: Ask, roles: &[Keeper]) {
        match ask {
            Ask::Restart { roles: asked } => {
                let names: Vec<&str> = roles.iter().map(Keeper::name).collect();
                if let Some(unknown) = asked.iter().find(|role| !names.contains(&role.as_str())) {
                    return caller.fail(&format!("there is no role {unknown}; there are {}", names.join(", "))).await;
                }
                let is_wanted = |role: &str| asked.is_empty() || asked.iter().any(|one| one == role);
                let wanted: Vec<&Keeper> = roles.iter().filter(|role| is_wanted(role.name())).collect();
                let world = self.world();
                // Of engines that are not our own, who may come in may have been lost with a restart there.
                if !world.given().is_none()
                    && let Err(cause) = up::migrate(&self.parts.common, &world, &self.parts.listeners).await
                {
                    return caller.fail(&crate::chain(&cause)).await;
                }
                match replace(&mut caller, &wanted).await {
                    0 => caller.done().await,
                    failed => caller.fail(&format!("{failed} of {} were not started again", wanted.len())).await,
                }
            }
            Ask::Upgrade { binary } => self.upgrade(caller, binary, roles).await,
            Ask::Database => {
                caller.database(self.world().given().database).await;
            }
        }
    }

    pub fn world(&self) -> World<'_> {
        let parts = &self.parts;
        World::new(self.settings, &self.slice, &self.data, &parts.database, &parts.cache, &parts.secrets)
    }

    /// Returns only when it could not be: then all is as before.
    async fn upgrade(&mut self, mut caller: Caller, binary: Option<PathBuf>, roles: &[Keeper]) {
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

/// Puts successors in place of `wanted`, one by one: how many were not.
pub async fn replace(caller: &mut Caller, wanted: &[&Keeper]) -> usize {
    let mut failed = 0;
    for keeper in wanted {
        let name = keeper.name();
        match keeper.replace().await {
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
