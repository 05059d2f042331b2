//! A forgotten password, and what the links in letters open.

use app::Typed;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{CommandError, Kind};
use domain::Secret;
use serde::Deserialize;

use super::form::Form;
use super::{again, later, sign, too_many};
use crate::limits::{Limit, network};
use crate::problem::Failed;
use crate::session::Anybody;
use crate::state::Shared;

pub async fn ask(State(state): State<Shared>, who: Anybody) -> Html<String> {
    Html(app::reset_ask(state.page(who.user.as_ref()), Typed::default(), None, false))
}

#[derive(Deserialize)]
pub struct Address {
    #[serde(default)]
    email: String,
}

/// The same answer, in the same time, whether or not the address is known.
pub async fn ask_post(
    State(state): State<Shared>,
    who: Anybody,
    Form(Address { email }): Form<Address>,
) -> Result<Response, Failed> {
    let page = || state.page(who.user.as_ref());
    for (limit, name) in [(Limit::ResetsByAddress, &network(who.address)), (Limit::ResetsOfUser, &email)] {
        if let Err(wait) = state.limits.take(limit, name).await {
            let html = app::reset_ask(page(), Typed::new(email.clone()), Some(too_many(wait)), false);
            return Ok(later(wait, html));
        }
    }
    match state.commands.reset_ask(&email, who.address).await {
        Ok(()) => Ok(Html(app::reset_ask(page(), Typed::default(), None, true)).into_response()),
        Err(cause) if cause.kind() == Kind::Invalid => {
            Ok(again(app::reset_ask(page(), Typed::wrong(email, cause.message()), None, false)))
        }
        Err(cause) => Err(cause.into()),
    }
}

pub async fn set(State(state): State<Shared>, who: Anybody, Path(token): Path<String>) -> Result<Html<String>, Failed> {
    if !state.commands.reset_holds(&token).await? {
        return Err(CommandError::LinkSpent.into());
    }
    Ok(Html(app::reset_set(state.page(who.user.as_ref()), &Secret::new(token), None, None)))
}

#[derive(Deserialize)]
pub struct NewPassword {
    #[serde(default = "super::none")]
    password: Secret<String>,
}

pub async fn set_post(
    State(state): State<Shared>,
    who: Anybody,
    Path(token): Path<String>,
    Form(typed): Form<NewPassword>,
) -> Result<Response, Failed> {
    let token = Secret::new(token);
    let page = || state.page(who.user.as_ref());
    if let Err(wait) = state.limits.take(Limit::TriesByAddress, &network(who.address)).await {
        let html = app::reset_set(page(), &token, None, Some(too_many(wait)));
        return Ok(later(wait, html));
    }
    match state.commands.reset(token.expose(), &typed.password, who.address).await {
        Ok(_) => {
            sign::end(&state, &who.session).await?;
            Ok(Redirect::to("/signin?new=password").into_response())
        }
        Err(cause) if cause.kind() == Kind::Invalid => {
            Ok(again(app::reset_set(page(), &token, Some(cause.message()), None)))
        }
        Err(cause) => Err(cause.into()),
    }
}

/// Only shows a button: whatever opens links in mails must not use them up.
pub async fn confirm(State(state): State<Shared>, who: Anybody, Path(token): Path<String>) -> Html<String> {
    Html(app::confirm(state.page(who.user.as_ref()), &Secret::new(token)))
}

pub async fn confirm_post(
    State(state): State<Shared>,
    who: Anybody,
    Path(token): Path<String>,
) -> Result<Response, Failed> {
    let user = state.commands.confirm(&token, who.address).await?;
    let same = who.user.is_some_and(|signed_in| signed_in.id == user);
    Ok(Redirect::to(if same { "/apps/new" } else { "/signin?new=confirmed" }).into_response())
}
