//! Config vars: shown, set, removed. A secret comes by standard input, so that it is in nobody's history.

use commands::{Kind, Shown, VarSet, api};
use domain::{AppName, Secret};

use super::channel::Echo;
use super::{DONE, Ended, Run, Stop, deploys, show};

/// As long as a value may be (`commands` says so too, in its own words).
const VALUE_BYTES_MAX: usize = 32 << 10;

pub(super) async fn list(run: &mut Run<'_>) -> Ended {
    let view = run.commands.config(&run.actor, &run.app()?).await?;
    if run.json() {
        run.json_line(&api::Config::from(&view)).await?;
        return Ok(DONE);
    }
    if view.vars.is_empty() {
        run.out.note(&format!("{0} has no config vars. Set one by: config set {0} KEY=VALUE\n", view.app)).await?;
    } else {
        run.out.say(&show::vars(&view.vars, run.out.columns())).await?;
    }
    if view.stale {
        run.out.note("What serves was started with others: they come with the next start or deploy.\n").await?;
    }
    Ok(DONE)
}

pub(super) async fn set(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    // Before anything is typed.
    run.commands.push_target(&run.actor, &app).await?;
    let shown = if run.args.has("plain") { Shown::Plain } else { Shown::Secret };
    let mut vars = Vec::new();
    let mut asked = None;
    for word in run.args.words_from(1) {
        let Some((name, value)) = word.split_once('=') else {
            let word: String = word.chars().take(40).collect();
            let message = format!("`{word}` is no KEY=VALUE.");
            return Err(match vars.is_empty() {
                true => Stop::Usage(message),
                // Most likely the rest of a value, whose quotes the person's own shell took away.
                false => Stop::told(Kind::Invalid, message, super::QUOTING),
            });
        };
        if value == "-" && asked.replace(vars.len()).is_some() {
            return Err(Stop::Usage("Standard input has one value: `KEY=-` can be there once.".to_owned()));
        }
        vars.push(VarSet { name: name.to_owned(), value: Secret::new(value.to_owned()), shown });
    }
    if let Some(var) = asked.and_then(|at| vars.get_mut(at)) {
        let name: String = var.name.chars().take(128).collect();
        let prompt = format!("{} (not shown): ", run.out.line(&name));
        var.value = Secret::new(run.typed.read(run.out, &prompt, Echo::Hidden, VALUE_BYTES_MAX).await?);
    }
    let names = vars.iter().map(|var| var.name.as_str()).collect::<Vec<_>>().join(", ");
    let deploy = run.commands.config_set(&run.actor, &app, &vars).await?;
    rolled_out(run, &app, &format!("Set {names}."), deploy).await
}

pub(super) async fn unset(run: &mut Run<'_>) -> Ended {
    let (app, name) = (run.app()?, run.args.word(1));
    let deploy = run.commands.config_unset(&run.actor, &app, name).await?;
    rolled_out(run, &app, &format!("Removed {}.", run.out.line(name)), deploy).await
}

async fn rolled_out(run: &Run<'_>, app: &AppName, done: &str, deploy: Option<i64>) -> Ended {
    if !run.json() {
        let then = if deploy.is_some() { "" } else { " Nothing is rolled out: it is there when the app starts." };
        run.out.say(&format!("{done}{then}\n")).await?;
    }
    match deploy {
        Some(number) => deploys::follow(run, app, number).await,
        None if run.json() => {
            let view = run.commands.config(&run.actor, app).await?;
            run.json_line(&api::Config::from(&view)).await?;
            Ok(DONE)
        }
        None => Ok(DONE),
    }
}
