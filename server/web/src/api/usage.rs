//! What is used, and what it costs.

use axum::Json;
use axum::extract::State;
use commands::Range;
use commands::api::{AppCost, Bill, Usage};
use domain::Month;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Answer;
use super::ask::{App, Asked, Caller};
use super::error::ApiError;
use crate::state::Shared;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Since {
    /// `1h`, `1d` or `30d`.
    #[param(pattern = "^(1h|1d|30d)$", default = "1h")]
    range: Option<String>,
}

/// What an app uses and how it answers, over an hour, a day or a month
#[utoipa::path(get, path = "/apps/{app}/usage", tag = "usage", params(("app" = String, Path), Since),
    responses((status = 200, body = Usage)))]
pub async fn usage(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Asked(since): Asked<Since>,
) -> Answer<Usage> {
    let range = since.range.as_deref().map(str::parse::<Range>).transpose();
    let range = range.map_err(|()| ApiError::invalid(Some("range".into()), "Give 1h, 1d or 30d."))?.unwrap_or_default();
    Ok(Json((&state.commands.usage(&caller.actor, &app, range).await?).into()))
}

/// What an app costs: this month, and a day of what serves
#[utoipa::path(get, path = "/apps/{app}/cost", tag = "usage", params(("app" = String, Path)),
    responses((status = 200, body = AppCost)))]
pub async fn app_cost(State(state): State<Shared>, caller: Caller, App(app): App) -> Answer<AppCost> {
    Ok(Json((&state.commands.app_cost(&caller.actor, &app).await?).into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// `2026-03`; without one, this month.
    #[param(pattern = "^[1-9][0-9]{3}-(0[1-9]|1[0-2])$")]
    month: Option<String>,
}

/// What a month costs so far, by app and by meter, before tax
#[utoipa::path(get, path = "/bill", tag = "usage", params(Which), responses((status = 200, body = Bill)))]
pub async fn bill(State(state): State<Shared>, caller: Caller, Asked(which): Asked<Which>) -> Answer<Bill> {
    let month = which.month.as_deref().map(str::parse::<Month>).transpose();
    let month = month.map_err(|_| ApiError::invalid(Some("month".into()), "A month is written 2026-03."))?;
    Ok(Json((&state.commands.bill(&caller.actor, month).await?).into()))
}
