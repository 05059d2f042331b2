//! Apps: what they are, what they run, their config.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use commands::api::{App as AppShown, AppDetail, Config, Instance, Process};
use commands::{Scale, Shown, VarSet};
use domain::{AppName, ProcessName, Secret};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ask::{App, Asked, Body, Caller, Name, Paged};
use super::error::ApiError;
use super::{Answer, Part};
use crate::state::Shared;

type Done = Result<StatusCode, ApiError>;

/// The apps, by name
#[utoipa::path(get, path = "/apps", tag = "apps", params(Paged), responses((status = 200, body = Part<AppShown>)))]
pub async fn apps(State(state): State<Shared>, caller: Caller, Asked(paged): Asked<Paged>) -> Answer<Part<AppShown>> {
    let (after, limit) = (paged.after::<AppName>()?, paged.limit()?);
    let mut apps = state.commands.apps(&caller.actor).await?;
    apps.sort_by(|a, b| a.name.cmp(&b.name));
    apps.retain(|app| after.as_ref().is_none_or(|after| app.name > *after));
    Ok(Json(Part::of(apps, limit, usize::MAX, |app| app.name.to_string(), |app| AppShown::from(&app))))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    /// Lower-case letters, digits and hyphens; it is the first part of its address. What is a part of Berth's own
    /// addresses is refused.
    #[schema(pattern = "^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length = 40)]
    name: String,
}

/// Makes an app
#[utoipa::path(post, path = "/apps", tag = "apps", request_body = NewApp, responses((status = 201, body = AppDetail)))]
pub async fn app_create(
    State(state): State<Shared>,
    caller: Caller,
    Body(new): Body<NewApp>,
) -> Result<(StatusCode, Json<AppDetail>), ApiError> {
    let name = state.commands.app_create(&caller.actor, &new.name).await?;
    Ok((StatusCode::CREATED, Json((&state.commands.app(&caller.actor, &name).await?).into())))
}

/// One app
#[utoipa::path(get, path = "/apps/{app}", tag = "apps", params(("app" = String, Path)),
    responses((status = 200, body = AppDetail)))]
pub async fn app(State(state): State<Shared>, caller: Caller, App(app): App) -> Answer<AppDetail> {
    Ok(Json((&state.commands.app(&caller.actor, &app).await?).into()))
}

/// Deletes an app; its name stays yours for 90 days
#[utoipa::path(delete, path = "/apps/{app}", tag = "apps", params(("app" = String, Path)), responses((status = 204)))]
pub async fn app_delete(State(state): State<Shared>, caller: Caller, App(app): App) -> Done {
    state.commands.app_delete(&caller.actor, &app, app.as_str()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops an app; once more is the same
#[utoipa::path(post, path = "/apps/{app}/stop", tag = "apps", params(("app" = String, Path)),
    responses((status = 204)))]
pub async fn app_stop(State(state): State<Shared>, caller: Caller, App(app): App) -> Done {
    state.commands.app_stop(&caller.actor, &app).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What served serves again; once more is the same
#[utoipa::path(post, path = "/apps/{app}/start", tag = "apps", params(("app" = String, Path)),
    responses((status = 204)))]
pub async fn app_start(State(state): State<Shared>, caller: Caller, App(app): App) -> Done {
    state.commands.app_start(&caller.actor, &app).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the release that serves runs, and how many of each
#[utoipa::path(get, path = "/apps/{app}/processes", tag = "processes", params(("app" = String, Path)),
    responses((status = 200, body = Vec<Process>)))]
pub async fn processes(State(state): State<Shared>, caller: Caller, App(app): App) -> Answer<Vec<Process>> {
    Ok(Json(state.commands.app(&caller.actor, &app).await?.processes.iter().map(Process::from).collect()))
}

/// The instances that run, or should
#[utoipa::path(get, path = "/apps/{app}/instances", tag = "processes", params(("app" = String, Path)),
    responses((status = 200, body = Vec<Instance>)))]
pub async fn instances(State(state): State<Shared>, caller: Caller, App(app): App) -> Answer<Vec<Instance>> {
    Ok(Json(state.commands.app(&caller.actor, &app).await?.instances.iter().map(Instance::from).collect()))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScale {
    /// By process type; what is not named stays as it is.
    #[schema(value_type = BTreeMap<String, NewSize>)]
    processes: BTreeMap<ProcessName, NewSize>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSize {
    #[schema(maximum = 32)]
    count: Option<u16>,
    /// Of each: 268435456 (256 MiB), 536870912, 1073741824, 2147483648 or 4294967296.
    memory_bytes: Option<u64>,
}

/// The deploy that brings what was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct RollOut {
    /// Null: none is needed.
    pub deploy: Option<i64>,
}

/// How many of each process type run, and how big; another size is rolled out as a deploy
#[utoipa::path(patch, path = "/apps/{app}/processes", tag = "processes", params(("app" = String, Path)),
    request_body = NewScale, responses((status = 200, body = RollOut)))]
pub async fn processes_scale(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Body(new): Body<NewScale>,
) -> Answer<RollOut> {
    let mut to = Scale::default();
    for (process, size) in new.processes {
        to.counts.extend(size.count.map(|count| (process.clone(), count)));
        to.memory.extend(size.memory_bytes.map(|bytes| (process, bytes)));
    }
    Ok(Json(RollOut { deploy: state.commands.app_scale(&caller.actor, &app, &to).await? }))
}

/// The config vars; the value of a secret is never told
#[utoipa::path(get, path = "/apps/{app}/config", tag = "config", params(("app" = String, Path)),
    responses((status = 200, body = Config)))]
pub async fn config(State(state): State<Shared>, caller: Caller, App(app): App) -> Answer<Config> {
    Ok(Json((&state.commands.config(&caller.actor, &app).await?).into()))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVars {
    /// One release takes them all.
    vars: Vec<NewVar>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVar {
    #[schema(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")]
    name: String,
    #[schema(value_type = String)]
    value: Secret<String>,
    /// Nobody can read it again but the app; so it is, unless this says otherwise.
    #[serde(default = "yes")]
    secret: bool,
}

fn yes() -> bool {
    true
}

/// Sets config vars, all at once, and rolls them out as a deploy; others stay as they are
#[utoipa::path(patch, path = "/apps/{app}/config", tag = "config", params(("app" = String, Path)),
    request_body = NewVars, responses((status = 200, body = RollOut)))]
pub async fn config_set(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Body(new): Body<NewVars>,
) -> Answer<RollOut> {
    let shown = |secret| if secret { Shown::Secret } else { Shown::Plain };
    let var = |var: NewVar| VarSet { name: var.name, value: var.value, shown: shown(var.secret) };
    let vars: Vec<_> = new.vars.into_iter().map(var).collect();
    Ok(Json(RollOut { deploy: state.commands.config_set(&caller.actor, &app, &vars).await? }))
}

/// Unsets a config var, and rolls that out as a deploy
#[utoipa::path(delete, path = "/apps/{app}/config/{name}", tag = "config",
    params(("app" = String, Path), ("name" = String, Path, description = "Of the variable.")),
    responses((status = 200, body = RollOut)))]
pub async fn config_unset(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Name(name): Name,
) -> Answer<RollOut> {
    Ok(Json(RollOut { deploy: state.commands.config_unset(&caller.actor, &app, &name).await? }))
}
