//! What is asked of an app and its deploys: each handler one command, then the app's page again.

use std::collections::BTreeMap;

use app::{Scaled, Typed};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{CommandError, Kind, Scale};
use domain::{AppName, ProcessName};

use super::Name;
use super::apps::{number, parse};
use super::form::Form;
use crate::problem::Failed;
use crate::session::SignedIn;
use crate::state::Shared;

type Answer = Result<Redirect, Failed>;

fn page_of(app: &AppName) -> Redirect {
    Redirect::to(&format!("/apps/{app}"))
}

pub async fn stop(State(state): State<Shared>, who: SignedIn, Path(app): Path<String>) -> Answer {
    let app = parse(&app)?;
    state.commands.app_stop(&who.actor, &app).await?;
    Ok(page_of(&app))
}

pub async fn start(State(state): State<Shared>, who: SignedIn, Path(app): Path<String>) -> Answer {
    let app = parse(&app)?;
    state.commands.app_start(&who.actor, &app).await?;
    Ok(page_of(&app))
}

pub async fn restart(State(state): State<Shared>, who: SignedIn, Path(app): Path<String>) -> Answer {
    let app = parse(&app)?;
    state.commands.app_restart(&who.actor, &app).await?;
    Ok(page_of(&app))
}

/// Of each process type a field `NAME` with how many, and `memory.NAME` with how big; either may be absent.
pub async fn scale(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
    Form(typed): Form<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let app = parse(&app)?;
    let wrong = match read(&typed) {
        Ok(to) => match state.commands.app_scale(&who.actor, &app, &to).await {
            Ok(_) => return Ok(page_of(&app).into_response()),
            Err(CommandError::Scale { process, message }) => (process, message),
            Err(cause) => return Err(cause.into()),
        },
        Err(wrong) => wrong,
    };
    let scaled = Scaled { typed, wrong: Some(wrong) };
    Ok(super::again(super::apps::page_of(&state, &who, &app, scaled).await?))
}

fn read(typed: &BTreeMap<String, String>) -> Result<Scale, (Option<ProcessName>, String)> {
    let mut to = Scale::default();
    for (field, value) in typed {
        let name = field.strip_prefix(&app::memory_field("")).unwrap_or(field);
        let shown: String = value.chars().take(20).collect();
        let Ok(process) = name.parse::<ProcessName>() else {
            return Err((None, format!("'{}' is no process type.", name.chars().take(40).collect::<String>())));
        };
        if name == field {
            let Ok(count) = value.trim().parse() else {
                return Err((Some(process), format!("'{shown}' is no number of instances. Give 0 or more.")));
            };
            to.counts.insert(process, count);
        } else {
            let Some(bytes) = plan::MEMORY_SIZES.into_iter().find(|size| plan::memory_words(*size) == *value) else {
                return Err((Some(process), format!("'{shown}' is no size of memory.")));
            };
            to.memory.insert(process, bytes);
        }
    }
    Ok(to)
}

pub async fn roll_back(State(state): State<Shared>, who: SignedIn, Path((app, n)): Path<(String, String)>) -> Answer {
    let (app, n) = (parse(&app)?, number(&n)?);
    state.commands.deploy_roll_back(&who.actor, &app, n).await?;
    Ok(page_of(&app))
}

pub async fn again(State(state): State<Shared>, who: SignedIn, Path((app, n)): Path<(String, String)>) -> Answer {
    let (app, n) = (parse(&app)?, number(&n)?);
    state.commands.deploy_again(&who.actor, &app, n).await?;
    Ok(page_of(&app))
}

pub async fn cancel(State(state): State<Shared>, who: SignedIn, Path((app, n)): Path<(String, String)>) -> Answer {
    let (app, n) = (parse(&app)?, number(&n)?);
    state.commands.deploy_cancel(&who.actor, &app, n).await?;
    Ok(page_of(&app))
}

pub async fn delete(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
) -> Result<Html<String>, Failed> {
    let app = parse(&app)?;
    let view = state.commands.app(&who.actor, &app).await?;
    Ok(Html(app::delete(state.page(Some(&who.user)), view.name.as_str(), Typed::default())))
}

pub async fn delete_post(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
    Form(typed): Form<Name>,
) -> Result<Response, Failed> {
    let app = parse(&app)?;
    match state.commands.app_delete(&who.actor, &app, &typed.name).await {
        Ok(()) => Ok(Redirect::to("/apps").into_response()),
        Err(cause) if cause.kind() == Kind::Invalid => {
            let typed = Typed::wrong(typed.name, cause.message());
            Ok(super::again(app::delete(state.page(Some(&who.user)), app.as_str(), typed)))
        }
        Err(cause) => Err(cause.into()),
    }
}
