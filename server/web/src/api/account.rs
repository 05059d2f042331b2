//! Who asks: account, limits, activity, keys.

use axum::Json;
use axum::extract::State;
use commands::api::{Event, Key, Limits, Who};
use commands::{CommandError, EVENTS_A_PAGE};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::{App, Asked, Body, Caller, Name, Paged};
use super::error::ApiError;
use super::{Answer, Part};
use crate::state::Shared;

/// Who asks, and by which token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Account {
    #[serde(flatten)]
    pub who: Who,
    pub token: Token,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    pub name: String,
    /// `read`: it only looks. `write`: it may do whatever its user may.
    pub scope: &'static str,
    #[schema(format = DateTime)]
    pub created: String,
    /// Null: it lasts until it is revoked.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
}

/// Who asks, and by which token
#[utoipa::path(get, path = "/account", tag = "account", responses((status = 200, body = Account)))]
pub async fn account(State(state): State<Shared>, caller: Caller) -> Answer<Account> {
    let who = state.commands.who(&caller.actor).await?;
    let token = caller.token;
    let token = Token {
        name: token.name,
        scope: token.scope.as_str(),
        created: token.created.to_string(),
        expires: token.expires.map(|at| at.to_string()),
    };
    Ok(Json(Account { who: (&who).into(), token }))
}

/// What the account may use, and what is used of it
#[utoipa::path(get, path = "/limits", tag = "account", responses((status = 200, body = Limits)))]
pub async fn limits(State(state): State<Shared>, caller: Caller) -> Answer<Limits> {
    Ok(Json((&state.commands.limits(&caller.actor).await?).into()))
}

/// Who changed what, the newest first
#[utoipa::path(get, path = "/activity", tag = "account", params(Paged), responses((status = 200, body = Part<Event>)))]
pub async fn activity(State(state): State<Shared>, caller: Caller, Asked(paged): Asked<Paged>) -> Answer<Part<Event>> {
    events(&state, &caller, None, &paged).await
}

/// Who changed what of an app, the newest first
#[utoipa::path(get, path = "/apps/{app}/activity", tag = "apps", params(("app" = String, Path), Paged),
    responses((status = 200, body = Part<Event>)))]
pub async fn app_activity(
    State(state): State<Shared>,
    caller: Caller,
    app: App,
    Asked(paged): Asked<Paged>,
) -> Answer<Part<Event>> {
    events(&state, &caller, Some(app), &paged).await
}

async fn events(state: &Shared, caller: &Caller, app: Option<App>, paged: &Paged) -> Answer<Part<Event>> {
    let (after, limit) = (paged.after()?, paged.limit()?.min(EVENTS_A_PAGE));
    let events = state.commands.events(&caller.actor, app.map(|app| app.0).as_ref(), after).await?;
    Ok(Json(Part::of(events, limit, EVENTS_A_PAGE, |event| event.id.to_string(), |event| Event::from(&event))))
}

/// The SSH keys of the token's user
#[utoipa::path(get, path = "/keys", tag = "keys", responses((status = 200, body = Vec<Key>)))]
pub async fn keys(State(state): State<Shared>, caller: Caller) -> Answer<Vec<Key>> {
    Ok(Json(state.commands.keys(&caller.actor).await?.iter().map(Key::from).collect()))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// The line of a `.pub` file.
    #[schema(min_length = 1)]
    public: String,
    /// Without one, the comment in the key.
    #[serde(default)]
    name: String,
}

/// Adds an SSH key
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = NewKey, responses((status = 201, body = Key)))]
pub async fn key_add(
    State(state): State<Shared>,
    caller: Caller,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<Key>), ApiError> {
    let key = state.commands.key_add(&caller.actor, &new.name, &new.public).await?;
    Ok((StatusCode::CREATED, Json((&key).into())))
}

/// Removes an SSH key, by its fingerprint (`SHA256:…`; `+` and `/` may be written `-` and `_`)
#[utoipa::path(delete, path = "/keys/{name}", tag = "keys",
    params(("name" = String, Path, description = "Its fingerprint.")), responses((status = 204)))]
pub async fn key_remove(State(state): State<Shared>, caller: Caller, Name(name): Name) -> Result<StatusCode, ApiError> {
    let plain = |text: &str| text.replace('-', "+").replace('_', "/");
    let keys = state.commands.keys(&caller.actor).await?;
    let key = keys.iter().find(|key| plain(&key.fingerprint) == plain(&name));
    let key = key.ok_or(CommandError::NotFound { what: "key" })?;
    state.commands.key_remove(&caller.actor, key.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
