//! What is asked of an app besides a push: stop, start, restart, roll back, deploy again, cancel, scale, delete.

use domain::{AppName, AppState, Cause, DeployState, ProcessName, Reason};
use plan::COUNT_MAX;
use store::Tx;
use store::app::{App, Counts, Memory, Reserved};

use crate::{Actor, CommandError, Commands, ProcessView, timely};

/// How many of a process type, and how big; what is not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scale {
    pub counts: Counts,
    /// Bytes of one instance.
    pub memory: Memory,
}

impl Scale {
    fn told(&self) -> serde_json::Value {
        serde_json::json!({ "counts": self.counts, "memory": self.memory })
    }
}

impl Commands {
    /// Its instances end; its address says that it is stopped.
    pub async fn app_stop(&self, actor: &Actor, app: &AppName) -> Result<(), CommandError> {
        self.app_state(actor, app, AppState::Stopped, "app stop").await
    }

    /// What served serves again.
    pub async fn app_start(&self, actor: &Actor, app: &AppName) -> Result<(), CommandError> {
        self.app_state(actor, app, AppState::Running, "app start").await
    }

    /// Once more is the same, and no event.
    async fn app_state(&self, actor: &Actor, name: &AppName, to: AppState, verb: &str) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            if app.state == to {
                return Ok(());
            }
            store::app::set_state(&mut tx, app.id, to).await?;
            // Config vars may have been changed while it was stopped.
            let serving = store::config::serving(&mut **tx, app.id).await?;
            if to == AppState::Running && serving.is_some_and(|version| version != app.config_version) {
                self.roll_out(&mut tx, actor, &App { state: to, ..app.clone() }).await?;
            }
            let (before, after) = (serde_json::json!(app.state), serde_json::json!(to));
            self.record(&mut tx, actor, verb, name.as_str(), Some(before), Some(after)).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// New instances of what serves replace the old ones, like a deploy: its number.
    pub async fn app_restart(&self, actor: &Actor, name: &AppName) -> Result<i64, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            must_run(&app)?;
            let Some(serving) = app.release_number else {
                return Err(CommandError::not_now("Nothing serves yet.", "Push your code first."));
            };
            // It would take back what is under way.
            none_under_way(&mut tx, &app, "It starts new instances anyway. Wait for it, or cancel it.").await?;
            let number = self.again(&mut tx, actor, &app, serving.0, Cause::Restart).await?;
            tx.commit().await?;
            Ok(number)
        })
        .await
    }

    /// What deploy `number` switched on serves again, image and config, as a new deploy: its number.
    pub async fn deploy_roll_back(&self, actor: &Actor, name: &AppName, number: i64) -> Result<i64, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            must_run(&app)?;
            let deploy = self.of(&mut tx, actor, name, number).await?;
            if deploy.state != DeployState::Live || deploy.image.is_none() {
                return Err(CommandError::not_now(format!("v{number} never served."), "Choose a release that did."));
            }
            must_be_kept(&deploy)?;
            if app.release_number.is_some_and(|serving| serving.0 == number) {
                return Err(CommandError::not_now(
                    format!("v{number} serves."),
                    "Restart the app for new instances of it.",
                ));
            }
            store::config::restore(&mut tx, app.id, number).await?;
            let number = self.again(&mut tx, actor, &app, number, Cause::Rollback).await?;
            tx.commit().await?;
            Ok(number)
        })
        .await
    }

    /// What failed or was canceled is tried once more, with its image if it was built: the new deploy's number.
    pub async fn deploy_again(&self, actor: &Actor, name: &AppName, number: i64) -> Result<i64, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            must_run(&app)?;
            let deploy = self.of(&mut tx, actor, name, number).await?;
            if !matches!(deploy.state, DeployState::Failed | DeployState::Canceled) {
                let message = format!("v{number} did not fail.");
                return Err(CommandError::not_now(message, "Only what failed or was canceled is deployed again."));
            }
            if deploy.cause == Cause::Config {
                // Not what served when it was asked for: what serves now.
                let number = self.roll_out(&mut tx, actor, &app).await?;
                let number = number.ok_or_else(|| CommandError::not_now("Nothing serves.", "Push your code first."))?;
                let after = serde_json::json!({ "deploy": number });
                self.record(&mut tx, actor, "deploy again", name.as_str(), None, Some(after)).await?;
                tx.commit().await?;
                return Ok(number);
            }
            must_be_kept(&deploy)?;
            let number = self.again(&mut tx, actor, &app, number, Cause::Again).await?;
            tx.commit().await?;
            Ok(number)
        })
        .await
    }

    /// A deploy that waits, is built or starts ends; what serves goes on.
    pub async fn deploy_cancel(&self, actor: &Actor, name: &AppName, number: i64) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            self.of(&mut tx, actor, name, number).await?;
            if store::deploy::cancel(&mut tx, app.id, Some(number), "canceled").await? == 0 {
                let message = format!("v{number} cannot be canceled any more.");
                return Err(CommandError::not_now(message, "It serves already, or has ended. You can roll back."));
            }
            let after = serde_json::json!({ "deploy": number });
            self.record(&mut tx, actor, "deploy cancel", name.as_str(), None, Some(after)).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// How many of each process type run, and how big, from now on and in later releases. Another size is
    /// rolled out as a deploy: its number.
    pub async fn app_scale(&self, actor: &Actor, name: &AppName, to: &Scale) -> Result<Option<i64>, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            // One scaling at a time a customer: what all its apps may use is counted.
            store::app::room(&mut tx, actor.customer).await?;
            let app = locked(&mut tx, actor, name).await?;
            let mut reserved = store::app::reserved(&mut **tx, actor.customer).await?;
            let Some(mine) = reserved.iter_mut().find(|r| r.app_id == app.id) else {
                return Err(CommandError::not_now("Nothing serves yet.", "Push your code first."));
            };
            let before = Scale { counts: mine.counts.0.clone(), memory: mine.memory.0.clone() };
            let was = memory(mine);
            for (process, count) in &to.counts {
                known(&app, mine, process)?;
                if *count > COUNT_MAX {
                    let message = format!("{count} are too many. At most {COUNT_MAX} of a process type run.");
                    return Err(CommandError::scale(process, message));
                }
                mine.counts.0.insert(process.clone(), *count);
            }
            let mut resized = None;
            for (process, bytes) in &to.memory {
                known(&app, mine, process)?;
                if !plan::MEMORY_SIZES.contains(bytes) {
                    let all = plan::MEMORY_SIZES.map(plan::memory_words).join(", ");
                    return Err(CommandError::scale(process, format!("Choose one of {all}.")));
                }
                if let Some(size) = mine.formation.0.get_mut(process).filter(|size| size.memory_bytes != *bytes) {
                    size.memory_bytes = *bytes;
                    resized = Some(process);
                }
                mine.memory.0.insert(process.clone(), *bytes);
            }
            let now = memory(mine);
            let after = Scale { counts: mine.counts.0.clone(), memory: mine.memory.0.clone() };
            let others =
                reserved.iter().filter(|r| r.state == AppState::Running && r.app_id != app.id).map(memory).sum();
            let max = u64::try_from(store::app::memory_max(&mut **tx, actor.customer).await?).unwrap_or(0);
            if let Some(over) = plan::over_memory(was, now, others, max) {
                let process = resized.or_else(|| to.counts.keys().next());
                return Err(CommandError::Scale { process: process.cloned(), message: sentence(&over) });
            }
            store::app::set_formation(&mut tx, app.id, &after.counts).await?;
            let mut number = None;
            if resized.is_some() {
                must_run(&app)?;
                none_under_way(&mut tx, &app, "It may start with the sizes of before. Wait for it, or cancel it.")
                    .await?;
                store::app::set_memory(&mut tx, app.id, &after.memory).await?;
                let serving = app.release_number.map_or(0, |n| n.0);
                number = Some(store::deploy::create_again(&mut tx, app.id, serving, Cause::Resize, actor.user).await?);
            }
            self.record(&mut tx, actor, "app scale", name.as_str(), Some(before.told()), Some(after.told())).await?;
            tx.commit().await?;
            Ok(number)
        })
        .await
    }

    /// Its instances end, its address is gone; its name stays its customer's for 90 days.
    /// `typed`: its name once more, so that nobody deletes by mistake.
    pub async fn app_delete(&self, actor: &Actor, name: &AppName, typed: &str) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let app = locked(&mut tx, actor, name).await?;
            if typed.trim() != name.as_str() {
                return Err(CommandError::invalid("name", format!("That is not its name. Type {name} to delete it.")));
            }
            store::deploy::cancel(&mut tx, app.id, None, "the app was deleted").await?;
            store::app::set_state(&mut tx, app.id, AppState::Deleted).await?;
            let before = serde_json::json!({ "app": app.id, "state": app.state, "release": app.release_number });
            self.record(&mut tx, actor, "app delete", name.as_str(), Some(before), None).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn of(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        name: &AppName,
        number: i64,
    ) -> Result<store::deploy::Deploy, CommandError> {
        let deploy = store::deploy::get(&mut ***tx, actor.customer, name, number).await?;
        deploy.ok_or(CommandError::NotFound { what: "deploy" })
    }

    async fn again(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        app: &App,
        origin: i64,
        cause: Cause,
    ) -> Result<i64, CommandError> {
        let number = store::deploy::create_again(tx, app.id, origin, cause, actor.user).await?;
        let verb = match cause {
            Cause::Restart => "app restart",
            Cause::Rollback => "deploy roll back",
            Cause::Again | Cause::Push | Cause::Config | Cause::Resize => "deploy again",
        };
        let before = serde_json::json!({ "release": app.release_number });
        let after = serde_json::json!({ "deploy": number, "of": origin });
        self.record(tx, actor, verb, app.name.as_str(), Some(before), Some(after)).await?;
        Ok(number)
    }
}

pub(crate) async fn locked(tx: &mut Tx, actor: &Actor, name: &AppName) -> Result<App, CommandError> {
    let app = store::app::lock(tx, actor.customer, name).await?;
    app.ok_or_else(|| CommandError::NoApp { name: name.clone() })
}

fn must_run(app: &App) -> Result<(), CommandError> {
    if app.state == AppState::Running {
        return Ok(());
    }
    Err(CommandError::not_now("The app is stopped.", "Start it, then try again."))
}

/// Else there is nothing left to run or to build.
fn must_be_kept(deploy: &store::deploy::Deploy) -> Result<(), CommandError> {
    if deploy.forgotten.is_none() {
        return Ok(());
    }
    let message = format!("v{} is too old: its image is not kept any more.", deploy.number);
    Err(CommandError::not_now(message, "Choose a later one, or push its commit again."))
}

async fn none_under_way(tx: &mut Tx, app: &App, hint: &'static str) -> Result<(), CommandError> {
    match store::deploy::open_number(tx, app.id).await? {
        Some(open) => Err(CommandError::not_now(format!("Deploy {open} is under way."), hint)),
        None => Ok(()),
    }
}

fn known(app: &App, mine: &Reserved, process: &ProcessName) -> Result<(), CommandError> {
    if mine.formation.0.contains_key(process) {
        return Ok(());
    }
    let known = mine.formation.0.keys().map(ProcessName::as_str).collect::<Vec<_>>().join(", ");
    let release = app.release_number.map_or(0, |n| n.0);
    let message = format!("v{release} runs no '{process}'. It runs: {known}.");
    Err(CommandError::Scale { process: None, message })
}

/// A plan's reason, as sentences for a page.
fn sentence(reason: &Reason) -> String {
    let upper = |text: &str| {
        let mut letters = text.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    let hint = reason.hint.as_deref().map(|hint| format!(" {}.", upper(hint))).unwrap_or_default();
    format!("{}.{hint}", upper(&reason.message))
}

/// What an app runs, by what its release says and its customer wants.
pub(crate) fn processes(app: &Reserved) -> Vec<ProcessView> {
    let counts = &app.counts.0;
    let view = |(process, size): (&ProcessName, &store::deploy::all::Size)| ProcessView {
        process: process.clone(),
        count: counts.get(process).copied().unwrap_or(size.count),
        memory_bytes: i64::try_from(size.memory_bytes).unwrap_or(i64::MAX),
        command: None,
    };
    app.formation.0.iter().map(view).collect()
}

pub(crate) fn memory(app: &Reserved) -> u64 {
    let of = |size: &store::deploy::all::Size| plan::Size {
        count: size.count,
        memory_bytes: size.memory_bytes,
        cpu_millis: size.cpu_millis,
    };
    let mut formation = app.formation.0.iter().map(|(process, size)| (process.clone(), of(size))).collect();
    plan::scaled(&mut formation, &app.counts.0);
    plan::memory(&formation)
}
