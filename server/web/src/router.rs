//! Every route of the site, and the layers around them.

use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::{Response, StatusCode};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::timeout::TimeoutLayer;

use crate::state::Shared;
use crate::{api, assets, guard, pages, problem, session};

/// A form is a few fields; the largest is an SSH key.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Config vars have 64 KiB; a form writes a byte with three.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;
/// Until the head of an answer; an event stream's is there at once.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub fn router(state: Shared) -> Router {
    let config = get(pages::config::config).post(pages::config::set).layer(DefaultBodyLimit::max(CONFIG_BYTES_MAX));
    let site = Router::new()
        .route("/", get(pages::landing))
        .route("/signup", get(pages::sign::up).post(pages::sign::up_post))
        .route("/signin", get(pages::sign::in_).post(pages::sign::in_post))
        .route("/signin/link/{token}", get(pages::sign::link).post(pages::sign::link_post))
        .route("/signout", post(pages::sign::out))
        .route("/reset", get(pages::reset::ask).post(pages::reset::ask_post))
        .route("/reset/{token}", get(pages::reset::set).post(pages::reset::set_post))
        .route("/confirm/{token}", get(pages::reset::confirm).post(pages::reset::confirm_post))
        .route("/account", get(pages::account::account))
        .route("/account/activity", get(pages::account::activity))
        .route("/account/confirm", post(pages::account::confirm))
        .route("/account/password", post(pages::account::password))
        .route("/account/keys", post(pages::account::key_add))
        .route("/account/keys/{id}/remove", post(pages::account::key_remove))
        .route("/account/tokens", post(pages::account::token_create))
        .route("/account/tokens/{id}/revoke", post(pages::account::token_revoke))
        .route("/account/delete", get(pages::account::delete).post(pages::account::delete_post))
        .route("/account/signout-everywhere", post(pages::account::sign_out_everywhere))
        .route("/apps", get(pages::apps::list))
        // Not below /apps, where an app may have any name.
        .route("/events", get(pages::apps::list_events))
        .route("/apps/new", get(pages::apps::new).post(pages::apps::create))
        .route("/apps/{app}", get(pages::apps::app))
        .route("/apps/{app}/stop", post(pages::verbs::stop))
        .route("/apps/{app}/start", post(pages::verbs::start))
        .route("/apps/{app}/restart", post(pages::verbs::restart))
        .route("/apps/{app}/scale", post(pages::verbs::scale))
        .route("/apps/{app}/config", config)
        .route("/apps/{app}/config/many", post(pages::config::many).layer(DefaultBodyLimit::max(CONFIG_BYTES_MAX)))
        .route("/apps/{app}/config/unset", post(pages::config::unset))
        .route("/apps/{app}/delete", get(pages::verbs::delete).post(pages::verbs::delete_post))
        .route("/apps/{app}/deploys/{number}/roll-back", post(pages::verbs::roll_back))
        .route("/apps/{app}/deploys/{number}/again", post(pages::verbs::again))
        .route("/apps/{app}/deploys/{number}/cancel", post(pages::verbs::cancel))
        .route("/apps/{app}/deploys", get(pages::apps::deploys))
        .route("/apps/{app}/deploys/events", get(pages::apps::deploys_events))
        .route("/apps/{app}/logs", get(pages::logs::logs))
        .route("/apps/{app}/logs/events", get(pages::logs::events))
        .route("/apps/{app}/logs/download", get(pages::logs::download))
        .route("/apps/{app}/config/events", get(pages::config::events))
        .route("/apps/{app}/usage", get(pages::usage::usage))
        .route("/apps/{app}/usage/events", get(pages::usage::events))
        .route("/apps/{app}/activity", get(pages::apps::activity))
        .route("/apps/{app}/events", get(pages::apps::events))
        .route("/apps/{app}/deploys/{number}", get(pages::apps::deploy))
        .route("/apps/{app}/deploys/{number}/log", get(pages::logs::of_deploy))
        .route("/apps/{app}/deploys/{number}/events", get(pages::apps::deploy_events))
        .route("/billing", get(pages::billing::billing))
        .route("/billing/why/{month}", get(pages::billing::why))
        .route("/billing/why/{month}/readings.csv", get(pages::billing::readings))
        .route("/operator/prices", get(pages::billing::prices).post(pages::billing::prices_set))
        .route("/operator/prices/{id}/take-back", post(pages::billing::prices_take_back))
        .route("/operator", get(pages::operator::home))
        .route("/operator/servers", get(pages::operator::servers))
        .route("/operator/customers", get(pages::operator::customers))
        .route("/operator/customers/{id}", get(pages::operator::customer))
        .route("/operator/customers/{id}/approve", post(pages::operator::approve))
        .route("/operator/customers/{id}/refuse", post(pages::operator::refuse))
        .route("/operator/customers/{id}/limits", post(pages::operator::limits))
        .route("/operator/decisions", get(pages::operator::decisions))
        .route("/operator/mail", get(pages::operator::letters))
        .route("/operator/mail/{id}/again", post(pages::operator::letter_again))
        .layer(session::layer(&state))
        .route("/assets/{hash}/{name}", get(assets::file))
        .route("/favicon.ico", get(assets::favicon))
        .fallback(|| async { StatusCode::NOT_FOUND });

    let layers = ServiceBuilder::new()
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn_with_state(state.clone(), problem::draw))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(guard::ours))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIMEOUT))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    // Routes of cookies and routes of tokens share nothing but these.
    let both = ServiceBuilder::new()
        .layer(middleware::from_fn_with_state(state.clone(), guard::harden))
        .layer(middleware::from_fn_with_state(state.clone(), guard::guard));
    site.layer(layers).merge(api::router(&state)).layer(both).with_state(state)
}

pub fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response<axum::body::Body> {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(error = text.unwrap_or("no text"), "a handler panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
