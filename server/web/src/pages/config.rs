//! An app's config vars.

use app::{ConfigForm, Typed};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{CommandError, Kind, Shown, VarSet};
use domain::{AppName, Secret};
use serde::Deserialize;

use super::apps::parse;
use super::form::Form;
use super::{Name, again, said};
use crate::events::{self, Of};
use crate::problem::Failed;
use crate::session::SignedIn;
use crate::state::Shared;

pub async fn config(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
) -> Result<Html<String>, Failed> {
    Ok(Html(shown(&state, &who, &parse(&app)?, ConfigForm::default()).await?))
}

async fn shown(state: &Shared, who: &SignedIn, name: &AppName, form: ConfigForm) -> Result<String, CommandError> {
    let commands = &state.commands;
    let (app, config) = tokio::try_join!(commands.app(&who.actor, name), commands.config(&who.actor, name))?;
    Ok(app::config(state.page(Some(&who.user)), app, config, form))
}

pub async fn events(State(state): State<Shared>, who: SignedIn, Path(app): Path<String>) -> Result<Response, Failed> {
    events::stream(state, who, Of::Config(parse(&app)?), None).await
}

#[derive(Deserialize)]
pub struct One {
    #[serde(default)]
    name: String,
    #[serde(default = "super::none")]
    value: Secret<String>,
    secret: Option<String>,
}

pub async fn set(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
    Form(typed): Form<One>,
) -> Result<Response, Failed> {
    let app = parse(&app)?;
    let shown = if typed.secret.is_some() { Shown::Secret } else { Shown::Plain };
    let var = VarSet { name: typed.name.trim().to_owned(), value: typed.value, shown };
    let wrong = match state.commands.config_set(&who.actor, &app, std::slice::from_ref(&var)).await {
        Ok(_) => return Ok(page_of(&app)),
        Err(cause) => cause,
    };
    let kept = match shown {
        Shown::Plain => var.value.expose().clone(),
        Shown::Secret => String::new(),
    };
    let mut form = ConfigForm { secret: shown == Shown::Secret, ..ConfigForm::default() };
    (form.name, form.value) = match wrong.field() {
        Some("name") => (Typed::wrong(typed.name, said(&wrong)), Typed::new(kept)),
        _ => (Typed::new(typed.name), Typed::wrong(kept, said(&wrong))),
    };
    wrong_again(&state, &who, &app, wrong, form).await
}

#[derive(Deserialize)]
pub struct Many {
    #[serde(default = "super::none")]
    text: Secret<String>,
}

pub async fn many(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
    Form(typed): Form<Many>,
) -> Result<Response, Failed> {
    let app = parse(&app)?;
    let set = async {
        let vars = commands::parse_env(typed.text.expose())?;
        let var = |(name, value)| VarSet { name, value, shown: Shown::Secret };
        let vars: Vec<_> = vars.into_iter().map(var).collect();
        state.commands.config_set(&who.actor, &app, &vars).await
    };
    match set.await {
        Ok(_) => Ok(page_of(&app)),
        Err(wrong) => {
            let form = ConfigForm { text: Some(said(&wrong)), ..ConfigForm::default() };
            wrong_again(&state, &who, &app, wrong, form).await
        }
    }
}

pub async fn unset(
    State(state): State<Shared>,
    who: SignedIn,
    Path(app): Path<String>,
    Form(typed): Form<Name>,
) -> Result<Response, Failed> {
    let app = parse(&app)?;
    state.commands.config_unset(&who.actor, &app, &typed.name).await?;
    Ok(page_of(&app))
}

fn page_of(app: &AppName) -> Response {
    Redirect::to(&format!("/apps/{app}/config")).into_response()
}

/// The form again, if a field was wrong.
async fn wrong_again(
    state: &Shared,
    who: &SignedIn,
    app: &AppName,
    cause: CommandError,
    form: ConfigForm,
) -> Result<Response, Failed> {
    if cause.kind() != Kind::Invalid {
        return Err(cause.into());
    }
    Ok(again(shown(state, who, app, form).await?))
}
