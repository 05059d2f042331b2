//! Keys and sessions of the signed-in user.

use app::{KeyForm, NewApp, Typed};
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::Kind;
use domain::KeyId;
use serde::Deserialize;

use super::{again, sign};
use crate::problem::{Failed, Problem};
use crate::session::SignedIn;
use crate::state::Shared;

pub async fn account(State(state): State<Shared>, who: SignedIn) -> Result<Html<String>, Failed> {
    let keys = state.commands.keys(&who.actor).await?;
    Ok(Html(app::account(state.page(Some(&who.user)), keys, KeyForm::default())))
}

#[derive(Deserialize)]
pub struct NewKey {
    #[serde(default)]
    key: String,
    #[serde(default, rename = "key-name")]
    name: String,
    /// The page that it came from: `new`, or the account.
    to: Option<String>,
}

pub async fn key_add(
    State(state): State<Shared>,
    who: SignedIn,
    Form(typed): Form<NewKey>,
) -> Result<Response, Failed> {
    let from_new = typed.to.as_deref() == Some("new");
    let cause = match state.commands.key_add(&who.actor, &typed.name, &typed.key).await {
        Ok(_) => return Ok(Redirect::to(if from_new { "/apps/new" } else { "/account#keys" }).into_response()),
        Err(cause) => cause,
    };
    if !matches!(cause.kind(), Kind::Invalid | Kind::Conflict) {
        return Err(cause.into());
    }
    // A private key goes no further than here.
    let private = typed.key.contains("PRIVATE KEY");
    let mut form = KeyForm {
        name: Typed::new(typed.name),
        key: Typed::new(if private { String::new() } else { typed.key }),
        general: None,
    };
    let message = [Some(cause.message()), cause.hint()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    match cause.field() {
        Some("name") => form.name.error = Some(message),
        _ => form.key.error = Some(message),
    }
    let keys = state.commands.keys(&who.actor).await?;
    let page = state.page(Some(&who.user));
    Ok(again(match from_new {
        true => app::new_app(page, NewApp { keys, key: form, first: true, ..NewApp::default() }),
        false => app::account(page, keys, form),
    }))
}

pub async fn key_remove(
    State(state): State<Shared>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Redirect, Failed> {
    let id: KeyId = id.parse().map_err(|_| Failed::Page(Problem::not_found()))?;
    state.commands.key_remove(&who.actor, id).await?;
    Ok(Redirect::to("/account#keys"))
}

pub async fn sign_out_everywhere(State(state): State<Shared>, who: SignedIn) -> Result<Redirect, Failed> {
    state.commands.sign_out_everywhere(&who.actor).await?;
    sign::end(&state, &who.session).await?;
    Ok(Redirect::to("/signin"))
}
