//! Deploys and releases: looked at, and asked for.

use axum::Json;
use axum::extract::State;
use commands::Which;
use commands::api::Deploy;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::{App, Asked, Body, Caller, Number, Paged};
use super::error::ApiError;
use super::{Answer, Part};
use crate::state::Shared;

/// The deploys of an app, the newest first; without their steps
#[utoipa::path(get, path = "/apps/{app}/deploys", tag = "deploys", params(("app" = String, Path), Paged),
    responses((status = 200, body = Part<Deploy>)))]
pub async fn deploys(
    State(state): State<Shared>,
    caller: Caller,
    app: App,
    Asked(paged): Asked<Paged>,
) -> Answer<Part<Deploy>> {
    list(&state, &caller, app, Which::All, &paged).await
}

/// The deploys that went live, the newest first: a release has its deploy's number
#[utoipa::path(get, path = "/apps/{app}/releases", tag = "deploys", params(("app" = String, Path), Paged),
    responses((status = 200, body = Part<Deploy>)))]
pub async fn releases(
    State(state): State<Shared>,
    caller: Caller,
    app: App,
    Asked(paged): Asked<Paged>,
) -> Answer<Part<Deploy>> {
    list(&state, &caller, app, Which::Live, &paged).await
}

async fn list(state: &Shared, caller: &Caller, App(app): App, which: Which, paged: &Paged) -> Answer<Part<Deploy>> {
    let (after, limit) = (paged.after()?, paged.limit()?);
    let rows = state.commands.deploy_list(&caller.actor, &app, which, after, limit + 1).await?;
    Ok(Json(Part::of(rows, limit, usize::MAX, |row| row.number.to_string(), |row| Deploy::from(&row))))
}

/// One deploy, with its steps
#[utoipa::path(get, path = "/apps/{app}/deploys/{number}", tag = "deploys",
    params(("app" = String, Path), ("number" = i64, Path)), responses((status = 200, body = Deploy)))]
pub async fn deploy(State(state): State<Shared>, caller: Caller, App(app): App, Number(n): Number) -> Answer<Deploy> {
    Ok(Json((&state.commands.deploy(&caller.actor, &app, n).await?).into()))
}

/// Ends a deploy that waits, is built or starts; what serves goes on
#[utoipa::path(post, path = "/apps/{app}/deploys/{number}/cancel", tag = "deploys",
    params(("app" = String, Path), ("number" = i64, Path)), responses((status = 204)))]
pub async fn deploy_cancel(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Number(n): Number,
) -> Result<StatusCode, ApiError> {
    state.commands.deploy_cancel(&caller.actor, &app, n).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The deploy that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct Begun {
    /// Its number.
    pub deploy: i64,
}

type Begins = Result<(StatusCode, Json<Begun>), ApiError>;

fn begun(deploy: i64) -> Begins {
    Ok((StatusCode::ACCEPTED, Json(Begun { deploy })))
}

/// What failed or was canceled is tried once more, as a new deploy
#[utoipa::path(post, path = "/apps/{app}/deploys/{number}/again", tag = "deploys",
    params(("app" = String, Path), ("number" = i64, Path)), responses((status = 202, body = Begun)))]
pub async fn deploy_again(State(state): State<Shared>, caller: Caller, App(app): App, Number(n): Number) -> Begins {
    begun(state.commands.deploy_again(&caller.actor, &app, n).await?)
}

/// New instances of what serves, as a new deploy
#[utoipa::path(post, path = "/apps/{app}/restart", tag = "deploys", params(("app" = String, Path)),
    responses((status = 202, body = Begun)))]
pub async fn app_restart(State(state): State<Shared>, caller: Caller, App(app): App) -> Begins {
    begun(state.commands.app_restart(&caller.actor, &app).await?)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollback {
    /// One that served.
    release: i64,
}

/// An earlier release serves again, its config too, as a new deploy
#[utoipa::path(post, path = "/apps/{app}/rollback", tag = "deploys", params(("app" = String, Path)),
    request_body = NewRollback, responses((status = 202, body = Begun)))]
pub async fn deploy_roll_back(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Body(to): Body<NewRollback>,
) -> Begins {
    begun(state.commands.deploy_roll_back(&caller.actor, &app, to.release).await?)
}
