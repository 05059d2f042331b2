//! Handlers: parse, who asks, one command, render.

pub mod account;
pub mod apps;
pub mod config;
pub mod operator;
pub mod reset;
pub mod sign;
pub mod verbs;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;

use crate::session::Anybody;
use crate::state::Shared;

pub async fn landing(State(state): State<Shared>, who: Anybody) -> Html<String> {
    Html(app::landing(state.page(who.user.as_ref())))
}

/// The form again: what was typed is kept, what was wrong stands beside it.
fn again(html: String) -> Response {
    (StatusCode::UNPROCESSABLE_ENTITY, Html(html)).into_response()
}

/// What happened and what to do, for beside a field.
fn said(cause: &commands::CommandError) -> String {
    [Some(cause.message()), cause.hint()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
