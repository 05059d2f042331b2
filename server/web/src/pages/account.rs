//! Keys and sessions of the signed-in user.

use app::{AccountPage, ActivityPage, KeyForm, NewApp, PasswordForm, TokenForm, Typed};
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{Kind, NewToken};
use domain::{AppName, KeyId, Secret, TokenId, TokenScope};
use serde::Deserialize;

use super::form::Form;
use super::{again, later, said, sign, too_many};
use crate::limits::Limit;
use crate::problem::{Failed, Problem};
use crate::session::SignedIn;
use crate::state::Shared;

/// On the account's own page.
const EVENTS: usize = 8;

pub async fn account(State(state): State<Shared>, who: SignedIn) -> Result<Html<String>, Failed> {
    let shown = shown(&state, &who, KeyForm::default(), PasswordForm::default(), TokenForm::default()).await?;
    Ok(Html(app::account(state.page(Some(&who.user)), shown)))
}

async fn shown(
    state: &Shared,
    who: &SignedIn,
    key: KeyForm,
    password: PasswordForm,
    token: TokenForm,
) -> Result<AccountPage, Failed> {
    let commands = &state.commands;
    let (keys, tokens, limits, mut events) = tokio::try_join!(
        commands.keys(&who.actor),
        commands.tokens(&who.actor),
        commands.limits(&who.actor),
        commands.events(&who.actor, None, None)
    )?;
    events.truncate(EVENTS);
    Ok(AccountPage { keys, key, password, tokens, token, limits, events })
}

#[derive(Deserialize)]
pub struct Before {
    pub before: Option<i64>,
}

pub async fn activity(
    State(state): State<Shared>,
    who: SignedIn,
    Query(Before { before }): Query<Before>,
) -> Result<Html<String>, Failed> {
    activity_of(&state, &who, None, before).await
}

/// Who changed what: of all that is theirs, or of one app.
pub async fn activity_of(
    state: &Shared,
    who: &SignedIn,
    app: Option<AppName>,
    before: Option<i64>,
) -> Result<Html<String>, Failed> {
    let events = state.commands.events(&who.actor, app.as_ref(), before).await?;
    // The next page begins where this one is full.
    let next = events.last().filter(|_| events.len() >= commands::EVENTS_A_PAGE).map(|event| event.id);
    let shown = ActivityPage { app: app.map(|app| app.to_string()), events, older: before.is_some(), next };
    Ok(Html(app::activity(state.page(Some(&who.user)), shown)))
}

/// Sends the confirmation once more.
pub async fn confirm(State(state): State<Shared>, who: SignedIn) -> Result<Redirect, Failed> {
    state.commands.confirm_again(&who.actor).await?;
    Ok(Redirect::to("/account"))
}

#[derive(Deserialize)]
pub struct NewPassword {
    #[serde(default = "super::none")]
    old: Secret<String>,
    #[serde(default = "super::none")]
    password: Secret<String>,
}

/// Every session ends by it; this browser signs in anew.
pub async fn password(
    State(state): State<Shared>,
    who: SignedIn,
    Form(typed): Form<NewPassword>,
) -> Result<Response, Failed> {
    let name = who.user.email.to_string();
    if let Err(wait) = state.limits.take(Limit::TriesByUser, &name).await {
        let form = PasswordForm { general: Some(too_many(wait)), ..PasswordForm::default() };
        let shown = shown(&state, &who, KeyForm::default(), form, TokenForm::default()).await?;
        return Ok(later(wait, app::account(state.page(Some(&who.user)), shown)));
    }
    let cause = match state.commands.password_change(&who.actor, &typed.old, &typed.password).await {
        Ok(()) => {
            state.limits.forgive(Limit::TriesByUser, &name).await;
            sign::end(&state, &who.session).await?;
            return Ok(Redirect::to("/signin?new=password").into_response());
        }
        Err(cause) => cause,
    };
    let mut form = PasswordForm::default();
    match (cause.kind(), cause.field()) {
        (Kind::Invalid, Some("old")) => form.old = Some(cause.message()),
        (Kind::Invalid, Some("password")) => form.password = Some(cause.message()),
        _ => return Err(cause.into()),
    }
    let shown = shown(&state, &who, KeyForm::default(), form, TokenForm::default()).await?;
    Ok(again(app::account(state.page(Some(&who.user)), shown)))
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
    let message = said(&cause);
    match cause.field() {
        Some("name") => form.name.error = Some(message),
        _ => form.key.error = Some(message),
    }
    let page = state.page(Some(&who.user));
    if from_new {
        let keys = state.commands.keys(&who.actor).await?;
        let small = super::small_app(&state).await;
        return Ok(again(app::new_app(page, NewApp { keys, key: form, first: true, small, ..NewApp::default() })));
    }
    let shown = shown(&state, &who, form, PasswordForm::default(), TokenForm::default()).await?;
    Ok(again(app::account(page, shown)))
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

#[derive(Deserialize)]
pub struct TokenTyped {
    #[serde(default, rename = "token-name")]
    name: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    lasts: String,
}

/// The page shows the token, this once; sent again, its name is taken.
pub async fn token_create(
    State(state): State<Shared>,
    who: SignedIn,
    Form(typed): Form<TokenTyped>,
) -> Result<Response, Failed> {
    // What was not said is the less that a token may do.
    let scope = typed.scope.parse().unwrap_or(TokenScope::Read);
    let lasts_days = match typed.lasts.trim() {
        "" => Ok(None),
        days => days.parse().map(Some),
    };
    let mut form = TokenForm { scope, ..TokenForm::default() };
    (form.name, form.lasts) = (Typed::new(typed.name.clone()), Typed::new(typed.lasts.clone()));
    let wrong = match lasts_days {
        Err(_) => {
            form.lasts.error = Some("That is no number of days. Left empty, it lasts until you revoke it.".to_owned());
            None
        }
        Ok(lasts_days) => {
            let new = NewToken { name: typed.name, scope, lasts_days };
            match state.commands.token_create(&who.actor, &new).await {
                Ok(made) => {
                    let form = TokenForm { made: Some((made.view.name, made.token)), ..TokenForm::default() };
                    let shown = shown(&state, &who, KeyForm::default(), PasswordForm::default(), form).await?;
                    return Ok(Html(app::account(state.page(Some(&who.user)), shown)).into_response());
                }
                Err(cause) => Some(cause),
            }
        }
    };
    match wrong {
        Some(cause) if cause.field() == Some("name") => form.name.error = Some(said(&cause)),
        Some(cause) if cause.field() == Some("lasts") => form.lasts.error = Some(said(&cause)),
        Some(cause) => return Err(cause.into()),
        None => {}
    }
    let shown = shown(&state, &who, KeyForm::default(), PasswordForm::default(), form).await?;
    Ok(again(app::account(state.page(Some(&who.user)), shown)))
}

pub async fn token_revoke(
    State(state): State<Shared>,
    who: SignedIn,
    Path(id): Path<String>,
) -> Result<Redirect, Failed> {
    let id: TokenId = id.parse().map_err(|_| Failed::Page(Problem::not_found()))?;
    state.commands.token_revoke(&who.actor, id).await?;
    state.signed_out.send_modify(|n| *n += 1);
    Ok(Redirect::to("/account#tokens"))
}

pub async fn sign_out_everywhere(State(state): State<Shared>, who: SignedIn) -> Result<Redirect, Failed> {
    state.commands.sign_out_everywhere(&who.actor).await?;
    sign::end(&state, &who.session).await?;
    Ok(Redirect::to("/signin"))
}

pub async fn delete(State(state): State<Shared>, who: SignedIn) -> Html<String> {
    Html(app::delete_user(state.page(Some(&who.user)), Typed::default(), None))
}

#[derive(Deserialize)]
pub struct Leaving {
    #[serde(default)]
    email: String,
}

pub async fn delete_post(
    State(state): State<Shared>,
    who: SignedIn,
    Form(typed): Form<Leaving>,
) -> Result<Response, Failed> {
    let cause = match state.commands.user_delete(&who.actor, &typed.email).await {
        Ok(()) => {
            sign::end(&state, &who.session).await?;
            return Ok(Redirect::to("/").into_response());
        }
        Err(cause) => cause,
    };
    let page = state.page(Some(&who.user));
    match cause.kind() {
        Kind::Invalid => {
            let typed = Typed::wrong(typed.email, cause.message());
            Ok(again(app::delete_user(page, typed, None)))
        }
        Kind::Conflict => Ok(again(app::delete_user(page, Typed::new(typed.email), Some(said(&cause))))),
        _ => Err(cause.into()),
    }
}
