//! Who asks: their keys, what was done for them, who they are.

use commands::{KeyView, Kind, api};

use super::channel::Echo;
use super::{DONE, Ended, Run, Stop, show};

/// A key is one line.
const KEY_BYTES_MAX: usize = 16 << 10;

pub(super) async fn keys(run: &mut Run<'_>) -> Ended {
    let keys = run.commands.keys(&run.actor).await?;
    if run.json() {
        let all: Vec<_> = keys.iter().map(api::Key::from).collect();
        run.json_line(&all).await?;
    } else {
        run.out.say(&show::keys(&keys, run.out.columns())).await?;
    }
    Ok(DONE)
}

pub(super) async fn key_add(run: &mut Run<'_>) -> Ended {
    let prompt = "Paste the line of your .pub file: ";
    let public = run.typed.read(run.out, prompt, Echo::Shown, KEY_BYTES_MAX).await?;
    if public.trim().is_empty() {
        let hint = "Send it along: … keys add laptop < ~/.ssh/id_ed25519.pub";
        return Err(Stop::told(Kind::Invalid, "There is no key on standard input.", hint));
    }
    let key = run.commands.key_add(&run.actor, run.args.word(0), &public).await?;
    if run.json() {
        run.json_line(&api::Key::from(&key)).await?;
    } else {
        run.out.say(&format!("{} ({}) comes in from now on.\n", run.out.line(&key.name), key.fingerprint)).await?;
    }
    Ok(DONE)
}

pub(super) async fn key_remove(run: &mut Run<'_>) -> Ended {
    let keys = run.commands.keys(&run.actor).await?;
    let key = chosen(&keys, run.args.word(0))?;
    run.commands.key_remove(&run.actor, key.id).await?;
    run.out.say(&format!("{} ({}) does not come in any more.\n", run.out.line(&key.name), key.fingerprint)).await?;
    if keys.len() == 1 {
        let site = &run.commands.urls().site;
        run.out.note(&format!("It was your last one. Add another at {site}/account\n")).await?;
    }
    Ok(DONE)
}

/// By its fingerprint, or by a name that only one has.
fn chosen<'k>(keys: &'k [KeyView], word: &str) -> Result<&'k KeyView, Stop> {
    let mut named = keys.iter().filter(|key| key.fingerprint == word || key.name == word);
    match (named.next(), named.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            let word: String = word.chars().take(60).collect();
            Err(Stop::told(Kind::NotFound, format!("You have no key '{word}'."), "See yours by: keys"))
        }
        (Some(_), Some(_)) => {
            let message = "More than one of your keys has this name.";
            Err(Stop::told(Kind::Conflict, message, "Name it by its fingerprint. See them by: keys"))
        }
    }
}

pub(super) async fn cost(run: &mut Run<'_>) -> Ended {
    if !run.args.word(0).is_empty() {
        if run.args.has("month") {
            return Err(Stop::Usage("A month is of all apps: name none.".to_owned()));
        }
        let view = run.commands.app_cost(&run.actor, &run.app()?).await?;
        if run.json() {
            run.json_line(&api::AppCost::from(&view)).await?;
        } else {
            run.out.say(&show::app_cost(&view)).await?;
        }
        return Ok(DONE);
    }
    let month = match run.args.value("month").map(str::parse) {
        None => None,
        Some(Ok(month)) => Some(month),
        Some(Err(_)) => return Err(Stop::Usage("A month is written as 2026-03.".to_owned())),
    };
    let view = run.commands.bill(&run.actor, month).await?;
    if run.json() {
        run.json_line(&api::Bill::from(&view)).await?;
    } else {
        run.out.say(&show::bill(&view)).await?;
    }
    Ok(DONE)
}

pub(super) async fn activity(run: &mut Run<'_>) -> Ended {
    let app = if run.args.word(0).is_empty() { None } else { Some(run.app()?) };
    let events = run.commands.events(&run.actor, app.as_ref(), None).await?;
    if run.json() {
        let all: Vec<_> = events.iter().map(api::Event::from).collect();
        run.json_line(&all).await?;
    } else if events.is_empty() {
        run.out.note("Nothing was done yet.\n").await?;
    } else {
        run.out.say(&show::events(&events, run.out.columns())).await?;
    }
    Ok(DONE)
}

pub(super) async fn whoami(run: &mut Run<'_>) -> Ended {
    let who = run.commands.who(&run.actor).await?;
    if run.json() {
        run.json_line(&api::Who::from(&who)).await?;
    } else {
        run.out.say(&show::who(&who)).await?;
    }
    Ok(DONE)
}
