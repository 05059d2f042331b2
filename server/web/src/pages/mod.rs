//! Handlers: parse, who asks, one command, render.

pub mod account;
pub mod apps;
pub mod billing;
pub mod config;
mod form;
pub mod logs;
pub mod operator;
pub mod reset;
pub mod sign;
pub mod usage;
pub mod verbs;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use commands::PriceList;
use domain::{Currency, Money, Secret};
use http::{StatusCode, header};
use serde::Deserialize;

use crate::session::Anybody;
use crate::state::Shared;

pub async fn landing(State(state): State<Shared>, who: Anybody) -> Html<String> {
    let prices = prices(&state).await;
    Html(app::landing(state.page(who.user.as_ref()), prices.as_deref()))
}

/// Prices that are away leave a page without them, not no page.
pub async fn prices(state: &Shared) -> Option<Arc<PriceList>> {
    let asked = state.commands.price_list().await;
    asked.inspect_err(|cause| tracing::warn!(error = %cause, "a page goes without prices")).ok().flatten()
}

/// What a small app comes to in 30 days.
pub async fn small_app(state: &Shared) -> Option<(Currency, Money)> {
    let prices = prices(state).await?;
    Some((prices.currency, prices.small()?))
}

/// A form of one field.
#[derive(Deserialize)]
pub struct Name {
    #[serde(default)]
    name: String,
}

/// What was not typed.
fn none() -> Secret<String> {
    Secret::new(String::new())
}

/// The form again: what was typed is kept, what was wrong stands beside it.
fn again(html: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Html(html)).into_response()
}

/// The form again, as [`too_many`] says.
fn later(wait: Duration, html: String) -> Response {
    let after = [(header::RETRY_AFTER, wait.as_secs().max(1).to_string())];
    (StatusCode::TOO_MANY_REQUESTS, after, Html(html)).into_response()
}

fn too_many(wait: Duration) -> String {
    let minutes = wait.as_secs().div_ceil(60);
    match minutes {
        0 | 1 => "Those were too many tries. Wait a minute, then try again.".to_owned(),
        n => format!("Those were too many tries. Wait {n} minutes, then try again."),
    }
}

/// What happened and what to do, for beside a field.
fn said(cause: &commands::CommandError) -> String {
    [Some(cause.message()), cause.hint()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
