//! How a deploy goes, told line by line until it has ended: to who pushed, and to who asked for it by a command.
//!
//! The coordinator carries the deploy: whoever is told may go away at any time.

use std::io;
use std::time::{Duration, Instant};

use commands::{Actor, DeployView, Kind};
use domain::{AppName, Cause, DeployState, Outcome, Step};

use crate::desk::Desk;

mod lines;

use self::lines::Lines;

/// Without a wake-up, a deploy's row is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Who is told. A line is strangers' bytes: who shows it makes it safe.
pub(crate) trait Told: Send {
    fn line(&mut self, line: &str) -> impl Future<Output = io::Result<()>> + Send;
}

pub(crate) struct Follow<'a, D> {
    pub desk: &'a D,
    pub actor: &'a Actor,
    pub app: &'a AppName,
    pub number: i64,
    pub began: Instant,
}

/// How it ended, and was told.
pub(crate) struct Ended {
    /// `None`: it is live, and its branch moved if it has one.
    pub refused: Option<String>,
    /// `None`: the app was deleted meanwhile.
    pub view: Option<DeployView>,
}

impl<D: Desk> Follow<'_, D> {
    /// Until the deploy has ended and its branch was moved, or not.
    pub(crate) async fn run(&self, to: &mut impl Told) -> io::Result<Ended> {
        let Self { desk, actor, app, number, .. } = *self;
        // Subscribe, then look.
        let mut changes = desk.changes();
        let mut lines = Lines::follow(desk, actor, app, number);
        let mut told: Option<DeployState> = None;
        let mut away = false;
        loop {
            changes.mark_unchanged();
            match desk.deploy(actor, app, number).await {
                Ok(view) => {
                    if let Some(refused) = ended(&view) {
                        for line in lines.rest(desk, actor, app, number).await {
                            to.line(&line).await?;
                        }
                        self.tell_end(to, &view).await?;
                        return Ok(Ended { refused: refused.err(), view: Some(view) });
                    }
                    if told != Some(view.row.state) {
                        told = Some(view.row.state);
                        self.tell_state(to, &view).await?;
                    }
                    away = false;
                }
                // Nobody would ever say more.
                Err(error) if error.kind == Kind::NotFound => {
                    to.line(&format!("{app} was deleted meanwhile")).await?;
                    return Ok(Ended { refused: Some("the app was deleted".to_owned()), view: None });
                }
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(app.name = %app, deploy.number = number, %error, "cannot see how a deploy goes");
                    to.line("Berth's database is away; the deploy goes on when it is back").await?;
                }
                Err(_) => {}
            }
            let look = tokio::time::sleep(LOOK_EVERY);
            tokio::pin!(look);
            loop {
                tokio::select! {
                    line = lines.next() => to.line(&line).await?,
                    changed = changes.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => { (&mut look).await; break }
                    },
                    () = &mut look => break,
                }
            }
        }
    }

    async fn tell_state(&self, to: &mut impl Told, view: &DeployView) -> io::Result<()> {
        let app = self.app;
        match view.row.state {
            DeployState::Queued => {
                let before = match view.row.number - 1 {
                    0 => None,
                    n => self.desk.deploy(self.actor, app, n).await.ok(),
                };
                if let Some(before) = before.filter(|before| !before.row.state.is_final()) {
                    to.line(&format!("Waiting: deploy {} of {app} is still under way", before.row.number)).await?;
                }
            }
            DeployState::Starting => to.line("-----> Starting").await?,
            DeployState::Switching => to.line("-----> Healthy, switching over").await?,
            // Of its process `release` the log says all.
            DeployState::Releasing => {}
            DeployState::Building | DeployState::Live | DeployState::Failed | DeployState::Canceled => {}
        }
        Ok(())
    }

    async fn tell_end(&self, to: &mut impl Told, view: &DeployView) -> io::Result<()> {
        let (app, number) = (self.app, view.row.number);
        match view.row.state {
            DeployState::Live => {
                let seconds = self.began.elapsed().as_secs_f64();
                to.line(&format!("Deploy {number} live in {seconds:.1} s: {}", view.app_url)).await?;
                // A deploy does not fail for what cannot be known just now.
                match self.desk.release_cost(self.actor, app, number).await {
                    Ok(Some(words)) => to.line(&format!("cost: {words}")).await?,
                    Ok(None) => {}
                    Err(error) => tracing::warn!(app.name = %app, %error, "a deploy is told without its cost"),
                }
            }
            state => {
                let word = if state == DeployState::Canceled { "was canceled" } else { "failed" };
                let serving = match view.serving {
                    Some(release) => format!("; release {release} still serves"),
                    None => String::new(),
                };
                to.line(&format!("{app}: deploy {number} {word}{serving}")).await?;
                if let Some(reason) = &view.row.reason {
                    for line in reason.message.lines() {
                        to.line(&format!("  {line}")).await?;
                    }
                    if let Some(hint) = &reason.hint {
                        to.line(&format!("  hint: {hint}")).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `None` while there is something to wait for; then why it was refused, or nothing.
fn ended(view: &DeployView) -> Option<Result<(), String>> {
    let number = view.row.number;
    match view.row.state {
        DeployState::Failed => Some(Err(format!("deploy {number} failed"))),
        DeployState::Canceled => Some(Err(format!("deploy {number} was canceled"))),
        // Of what was not pushed no branch is moved.
        DeployState::Live if view.row.cause != Cause::Push => Some(Ok(())),
        DeployState::Live => {
            let branch = view.row.steps.iter().find(|step| step.step == Step::Branch)?;
            let branch_name = &view.row.branch;
            Some(match branch.outcome? {
                Outcome::Done => Ok(()),
                Outcome::Failed => {
                    let why = branch.detail.clone();
                    Err(why.unwrap_or_else(|| format!("{branch_name} {}", crate::branch::MOVED_MEANWHILE)))
                }
            })
        }
        _ => None,
    }
}
