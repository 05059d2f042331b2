//! Releases and deploys: listed, asked for, followed.

use std::io;
use std::time::Instant;

use commands::{Kind, Offer, api};
use domain::AppName;

use super::{DONE, Ended, Out, REFUSED, Run, Stop, show};
use crate::follow::{Follow, Told};

pub(super) async fn releases(run: &mut Run<'_>) -> Ended {
    let view = run.commands.app(&run.actor, &run.app()?).await?;
    if run.json() {
        let all: Vec<_> = view.deploys.iter().map(api::Deploy::from).collect();
        run.json_line(&all).await?;
    } else if view.deploys.is_empty() {
        run.out.note(&format!("Nothing of {} was deployed yet. Push to {}\n", view.name, view.git_url)).await?;
    } else {
        run.out.say(&show::releases(&view.deploys, run.out.columns())).await?;
    }
    Ok(DONE)
}

pub(super) async fn roll_back(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    let number = match run.args.word(1) {
        "" => {
            let view = run.commands.app(&run.actor, &app).await?;
            let serving = view.release.map_or(0, |release| release.0);
            let before = |row: &&commands::DeployRow| row.number < serving && row.offer == Some(Offer::RollBack);
            let before = view.deploys.iter().find(before).map(|row| row.number);
            before.ok_or_else(|| {
                let message = format!("{app} has no earlier release to go back to.");
                Stop::told(Kind::Conflict, message, format!("See what there is by: releases {app}"))
            })?
        }
        word => number(word)?,
    };
    let deploy = run.commands.deploy_roll_back(&run.actor, &app, number).await?;
    follow(run, &app, deploy).await
}

pub(super) async fn restart(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    let number = run.commands.app_restart(&run.actor, &app).await?;
    follow(run, &app, number).await
}

pub(super) async fn again(run: &mut Run<'_>) -> Ended {
    let (app, number) = (run.app()?, number(run.args.word(1))?);
    let number = run.commands.deploy_again(&run.actor, &app, number).await?;
    follow(run, &app, number).await
}

pub(super) async fn cancel(run: &mut Run<'_>) -> Ended {
    let (app, number) = (run.app()?, number(run.args.word(1))?);
    run.commands.deploy_cancel(&run.actor, &app, number).await?;
    run.out.say(&format!("Deploy {number} of {app} is canceled.\n")).await?;
    Ok(DONE)
}

/// `v12` or `12`.
pub(super) fn number(word: &str) -> Result<i64, Stop> {
    let number = word.strip_prefix('v').unwrap_or(word).parse().ok().filter(|number| *number > 0);
    let shown: String = word.chars().take(40).collect();
    number.ok_or_else(|| Stop::Usage(format!("`{shown}` is no release. Write v12, or 12.")))
}

struct Teller<'o> {
    out: &'o Out,
    /// Standard output is the JSON's alone.
    aside: bool,
}

impl Told for Teller<'_> {
    async fn line(&mut self, line: &str) -> io::Result<()> {
        let line = format!("{}\n", self.out.line(line));
        let told = if self.aside { self.out.note(&line).await } else { self.out.say(&line).await };
        told.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A deploy that was asked for: its lines as of a push, and its outcome as the exit code. It goes on by itself when
/// nobody looks any more.
pub(super) async fn follow(run: &Run<'_>, app: &AppName, number: i64) -> Ended {
    let see = format!("See it by: logs {app} --deploy {number} -t\n");
    if run.args.has("detach") {
        if run.json() {
            let view = run.commands.deploy(&run.actor, app, number).await?;
            run.json_line(&api::Deploy::from(&view)).await?;
        } else {
            run.out.say(&format!("Deploy {number} of {app} is on its way. {see}")).await?;
        }
        return Ok(DONE);
    }
    let mut to = Teller { out: run.out, aside: run.json() };
    to.line(&format!("Deploy {number} of {app}")).await.map_err(|_| Stop::Gone)?;
    let follow = Follow { desk: &run.commands, actor: &run.actor, app, number, began: Instant::now() };
    let ended = match tokio::time::timeout(run.until.wait, follow.run(&mut to)).await {
        Ok(ended) => ended.map_err(|_| Stop::Gone)?,
        Err(_) => {
            run.out.note(&format!("Deploy {number} goes on without you. {see}")).await?;
            return Ok(REFUSED);
        }
    };
    if let (true, Some(view)) = (run.json(), &ended.view) {
        run.json_line(&api::Deploy::from(view)).await?;
    }
    Ok(if ended.refused.is_none() { DONE } else { REFUSED })
}
