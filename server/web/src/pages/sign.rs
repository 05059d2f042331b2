//! Signing up, in and out.

use app::{Typed, Welcome};
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{Kind, SignUp};
use domain::Secret;
use serde::Deserialize;
use tower_sessions::Session;

use super::form::Form;
use super::{again, later, small_app, too_many};
use crate::limits::{Limit, network};
use crate::problem::{Failed, Problem};
use crate::session::{self, Anybody};
use crate::state::Shared;

pub async fn up(State(state): State<Shared>, who: Anybody) -> Response {
    if who.user.is_some() {
        return Redirect::to("/apps").into_response();
    }
    let none = Typed::default;
    let small = small_app(&state).await;
    Html(app::sign_up(state.page(None), none(), none(), None, None, small)).into_response()
}

#[derive(Deserialize)]
pub struct NewUser {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    #[serde(default = "super::none")]
    password: Secret<String>,
}

pub async fn up_post(
    State(state): State<Shared>,
    who: Anybody,
    Form(typed): Form<NewUser>,
) -> Result<Response, Failed> {
    if !state.site.sign_up {
        return Err(Failed::Page(Problem::not_found()));
    }
    let small = small_app(&state).await;
    let mut name = Typed::new(typed.name.clone());
    let mut email = Typed::new(typed.email.clone());
    let address = network(who.address);
    if let Err(wait) = state.limits.take(Limit::AccountsByAddress, &address).await {
        let html = app::sign_up(state.page(None), name, email, None, Some(too_many(wait)), small);
        return Ok(later(wait, html));
    }
    let new = SignUp { name: typed.name, email: typed.email, password: typed.password };
    let Err(cause) = state.commands.sign_up(new, who.address).await else {
        // The same whether or not the address was known: a stranger learns nothing by it.
        return Ok(Redirect::to("/signin?new=yes").into_response());
    };
    let mut password = None;
    match (cause.kind(), cause.field()) {
        (Kind::Invalid | Kind::Conflict, Some("name")) => name.error = Some(cause.message()),
        (Kind::Invalid | Kind::Conflict, Some("email")) => email.error = Some(cause.message()),
        (Kind::Invalid | Kind::Conflict, Some("password")) => password = Some(cause.message()),
        _ => return Err(cause.into()),
    }
    Ok(again(app::sign_up(state.page(None), name, email, password, None, small)))
}

#[derive(Deserialize)]
pub struct Coming {
    next: Option<String>,
    /// Where from: `yes` is signing up.
    new: Option<String>,
}

pub async fn in_(State(state): State<Shared>, who: Anybody, Query(coming): Query<Coming>) -> Response {
    let next = coming.next.filter(|path| ours(path));
    if who.user.is_some() {
        return Redirect::to(next.as_deref().unwrap_or("/apps")).into_response();
    }
    let welcome = match coming.new.as_deref() {
        Some("yes") => Some(Welcome::New),
        Some("password") => Some(Welcome::Password),
        Some("confirmed") => Some(Welcome::Confirmed),
        _ => None,
    };
    Html(app::sign_in(state.page(None), Typed::default(), None, next, welcome)).into_response()
}

#[derive(Deserialize)]
pub struct SignIn {
    #[serde(default)]
    email: String,
    #[serde(default = "super::none")]
    password: Secret<String>,
    next: Option<String>,
}

pub async fn in_post(State(state): State<Shared>, who: Anybody, Form(typed): Form<SignIn>) -> Result<Response, Failed> {
    let next = typed.next.filter(|path| ours(path));
    let form = |wrong: String| {
        app::sign_in(state.page(None), Typed::new(typed.email.clone()), Some(wrong), next.clone(), None)
    };
    let address = network(who.address);
    for (limit, name) in [(Limit::TriesByAddress, &address), (Limit::TriesByUser, &typed.email)] {
        if let Err(wait) = state.limits.take(limit, name).await {
            return Ok(later(wait, form(too_many(wait))));
        }
    }
    let user = match state.commands.sign_in(&typed.email, &typed.password).await {
        Ok(user) => user,
        Err(cause) if cause.kind() == Kind::Unauthenticated => return Ok(again(form(cause.message()))),
        Err(cause) => return Err(cause.into()),
    };
    state.limits.forgive(Limit::TriesByUser, &typed.email).await;
    session::begin(&who.session, user).await?;
    Ok(Redirect::to(next.as_deref().unwrap_or("/apps")).into_response())
}

/// Only shows a button: whatever opens links in mails must not use them up.
pub async fn link(State(state): State<Shared>, Path(token): Path<String>) -> Html<String> {
    Html(app::link(state.page(None), &Secret::new(token)))
}

pub async fn link_post(
    State(state): State<Shared>,
    who: Anybody,
    Path(token): Path<String>,
) -> Result<Response, Failed> {
    let address = network(who.address);
    if let Err(wait) = state.limits.take(Limit::TriesByAddress, &address).await {
        let html = app::sign_in(state.page(None), Typed::default(), Some(too_many(wait)), None, None);
        return Ok(later(wait, html));
    }
    let user = state.commands.redeem_link(&token).await?;
    session::begin(&who.session, user).await?;
    Ok(Redirect::to("/apps").into_response())
}

pub async fn out(State(state): State<Shared>, session: Session) -> Result<Response, Failed> {
    end(&state, &session).await?;
    Ok(Redirect::to("/").into_response())
}

/// Ends a session, and with it its open streams.
pub async fn end(state: &Shared, session: &Session) -> Result<(), Failed> {
    session.flush().await.map_err(|cause| {
        tracing::warn!(error = %cause, "a session could not be ended");
        Failed::Page(Problem::sessions_away())
    })?;
    state.signed_out.send_modify(|n| *n += 1);
    Ok(())
}

/// A path of this site that signing in may lead to; nothing that a browser takes for another host.
fn ours(path: &str) -> bool {
    let begins = ["/apps", "/account", "/billing"]
        .iter()
        .any(|start| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    begins && path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-')) && !path.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_pages_of_ours_only() {
        for good in ["/apps", "/apps/shop", "/apps/shop/deploys/3", "/account", "/billing/why/2026-03"] {
            assert!(ours(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "//evil.example",
            "/apps//evil",
            "https://evil.example",
            "/appsx",
            "/apps?x",
            "/apps\\@evil",
            "/signout",
            "/apps/\n",
        ] {
            assert!(!ours(bad), "{bad}");
        }
    }
}
