//! The JSON API: the verbs of the pages for programs, by a token. A handler is one command; what it shows is
//! `commands::api`. Its description is made from the handlers themselves.

mod account;
mod apps;
mod ask;
mod deploys;
mod error;
mod logs;
mod usage;

use std::sync::OnceLock;

use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get};
use axum::{Json, Router, middleware};
use http::header;
use serde::Serialize;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    Schema,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::error::ApiError;
use crate::router::{ANSWER_TIMEOUT, CONFIG_BYTES_MAX, panicked};
use crate::state::Shared;

type Answer<T> = Result<Json<T>, ApiError>;

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Part<T> {
    pub items: Vec<T>,
    /// Where the next part begins (`after`); null: there is no more.
    pub next: Option<String>,
}

impl<T> Part<T> {
    /// The first `limit` of `rows`, which has `all` where there may be more of them.
    fn of<R>(mut rows: Vec<R>, limit: usize, all: usize, cursor: impl Fn(&R) -> String, show: impl Fn(R) -> T) -> Self {
        let more = rows.len() > limit || rows.len() >= all;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(cursor);
        Self { items: rows.into_iter().map(show).collect(), next }
    }
}

fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(account::account))
        .routes(routes!(account::limits))
        .routes(routes!(account::activity))
        .routes(routes!(account::keys, account::key_add))
        .routes(routes!(account::key_remove))
        .routes(routes!(apps::apps, apps::app_create))
        .routes(routes!(apps::app, apps::app_delete))
        .routes(routes!(apps::app_stop))
        .routes(routes!(apps::app_start))
        .routes(routes!(apps::processes, apps::processes_scale))
        .routes(routes!(apps::instances))
        .routes(routes!(apps::config, apps::config_set))
        .routes(routes!(apps::config_unset))
        .routes(routes!(account::app_activity))
        .routes(routes!(deploys::deploys))
        .routes(routes!(deploys::releases))
        .routes(routes!(deploys::deploy))
        .routes(routes!(deploys::deploy_cancel))
        .routes(routes!(deploys::deploy_again))
        .routes(routes!(deploys::app_restart))
        .routes(routes!(deploys::deploy_roll_back))
        .routes(routes!(logs::logs))
        .routes(routes!(logs::deploy_logs))
        .routes(routes!(usage::usage))
        .routes(routes!(usage::app_cost))
        .routes(routes!(usage::bill))
}

const V1: &str = "/api/v1";

/// Its routes and layers; whatever else begins with `/api` is nothing, as JSON.
pub fn router(state: &Shared) -> Router<Shared> {
    let (v1, _) = routes().split_for_parts();
    let v1 = v1.layer(middleware::from_fn_with_state(state.clone(), ask::check));
    let nothing = || async { ApiError::not_found() };
    let layers = ServiceBuilder::new()
        .layer(middleware::from_fn(error::speak))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(TimeoutLayer::with_status_code(http::StatusCode::GATEWAY_TIMEOUT, ANSWER_TIMEOUT))
        .layer(DefaultBodyLimit::max(CONFIG_BYTES_MAX));
    Router::new()
        .nest(V1, v1)
        .route("/api/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], description())))
        .route("/api", any(nothing))
        .route("/api/", any(nothing))
        .route("/api/{*rest}", any(nothing))
        .layer(layers)
}

/// The description, as it is served and checked in.
pub fn description() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| serde_json::to_string_pretty(&openapi()).unwrap_or_default() + "\n")
}

fn openapi() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Berth")
        .version("1")
        .description(Some(INTRODUCTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()));
    let mut components = Components::new();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let error = ContentBuilder::new().schema(Some(Ref::from_schema_name("Error"))).build();
    for (_, name, what) in REFUSALS {
        let response = ResponseBuilder::new().description(*what).content("application/json", error.clone()).build();
        components.responses.insert((*name).to_owned(), response.into());
    }
    let mut schemas = vec![("Error".into(), commands::api::Error::schema())];
    commands::api::Error::schemas(&mut schemas);
    components.schemas.extend(schemas);
    let mut api = OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build();
    let (_, described) = OpenApiRouter::<Shared>::new().nest(V1, routes()).split_for_parts();
    api.merge(described);
    if let Some(components) = &mut api.components {
        for (name, schema) in &mut components.schemas {
            if !name.starts_with(SENT) {
                whole(schema);
            }
        }
    }
    for (path, item) in &mut api.paths.paths {
        let about = path.contains('{');
        let all = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for (change, operation) in all.into_iter().enumerate() {
            if let Some(operation) = operation {
                refusals(operation, about, change > 0);
            }
        }
    }
    api
}

const INTRODUCTION: &str = "The verbs of the site, for programs. Every request carries a token, made on the account \
page: `Authorization: Bearer berth_…`. Moments are RFC 3339 in UTC, sizes are bytes. What is not yours looks like what \
is not there. A list comes in parts: `next` of one is `after` of the following. More fields and more words for a state \
may be added; none is taken away within a version.";

const REFUSALS: &[(&str, &str, &str)] = &[
    ("401", "Unauthenticated", "There is no token, or it lets nobody in."),
    ("403", "Forbidden", "The token only looks, or its user is not confirmed or approved."),
    ("404", "NotFound", "It is not there, or not yours."),
    ("413", "TooLarge", "The body is larger than this takes."),
    (
        "422",
        "Invalid",
        "Something sent was wrong (`field` says which), it clashes with what is, or there are as many as the account may have.",
    ),
    ("429", "TooMany", "That was too often: `Retry-After` says when to try again."),
    ("500", "Internal", "A defect of ours."),
    ("503", "Away", "Something that this needs does not answer: try again."),
];

/// How the schema of what a program sends is called: fields may be left out of it.
const SENT: &str = "New";

/// What is answered has all its fields: what is absent is null.
fn whole(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => object.required = object.properties.keys().cloned().collect(),
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(whole),
        _ => {}
    }
}

/// What every operation may answer instead.
fn refusals(operation: &mut Operation, about_something: bool, changes: bool) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        response.description = match status.as_str() {
            "201" => "It is made.",
            "202" => "It is on its way.",
            "204" => "It is done.",
            _ => "What was asked for.",
        }
        .to_owned();
    }
    for (status, name, _) in REFUSALS {
        let may = match *status {
            "403" => changes,
            "404" => about_something,
            "413" => operation.request_body.is_some(),
            _ => true,
        };
        if may {
            let reference = Ref::from_response_name(*name);
            operation.responses.responses.insert((*status).to_owned(), reference.into());
        }
    }
}
