//! The door for runners and balancers: `domain::wire` has the paths and messages.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use domain::wire::{Ask, Assignments, BalancerReport, Committed, Routes, RunnerReport, Seen};
use domain::{ImageHash, Life, SourceHash, Time};
use link::Role;
use objects::ObjectsError;
use store::{StoreError, deploy};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::publish::Published;
use crate::readings::{self, Source};
use crate::{Shared, clock, lead, report};

const REPORT_TIMEOUT: Duration = Duration::from_secs(8);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// 5,000 readings are some 1 MB, as many samples at most three.
const REPORT_BYTES_MAX: usize = 16 << 20;
const IMAGE_BYTES_MAX: u64 = 4 << 30;

pub fn router(shared: Arc<Shared>) -> Router {
    let images = get(object).put(image).layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/v1/assignments", post(assignments))
        .route("/v1/report", post(runner_report))
        .route("/v1/routes", post(routes))
        .route("/v1/counts", post(counts))
        .layer(DefaultBodyLimit::max(REPORT_BYTES_MAX))
        .route("/v1/objects/{kind}/{hash}", images)
        .with_state(shared)
}

#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("not for this role")]
    Role,
    #[error("this coordinator does not lead; ask again")]
    NotLeading,
    #[error("the database does not answer; send it again")]
    Late,
    #[error("there is no such object")]
    NoObject,
    #[error("the database did not take it; send it again")]
    Store {
        #[source]
        cause: StoreError,
    },
    #[error("the object store did not take it")]
    Objects {
        #[source]
        cause: ObjectsError,
    },
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Role => StatusCode::FORBIDDEN,
            Self::NotLeading | Self::Late => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoObject => StatusCode::NOT_FOUND,
            Self::Store { cause } if cause.is_away() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store { cause: StoreError::NotLeading { .. } } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store { .. } => {
                error!(error = %lead::chain(&self), "a report was not taken");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Objects { cause: ObjectsError::WrongHash { .. } } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Objects { cause: ObjectsError::TooBig { .. } } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Objects { .. } => {
                warn!(error = %lead::chain(&self), "the object store failed");
                StatusCode::INSUFFICIENT_STORAGE
            }
        };
        (status, format!("{}\n", lead::chain(&self))).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(cause: StoreError) -> Self {
        Self::Store { cause }
    }
}

impl From<ObjectsError> for ApiError {
    fn from(cause: ObjectsError) -> Self {
        match cause {
            ObjectsError::Missing { .. } => Self::NoObject,
            cause => Self::Objects { cause },
        }
    }
}

fn only(wanted: Role, role: Role) -> Result<(), ApiError> {
    if role == wanted { Ok(()) } else { Err(ApiError::Role) }
}

/// A database that hangs is one that is away: who reports sends it again.
async fn timely<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(REPORT_TIMEOUT, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ApiError::Late),
    }
}

/// What differs from `seen`, as soon as it does; `None` when nothing did in time.
async fn changed<T: Clone>(
    shared: &Shared,
    ask: &Ask,
    document: impl Fn(&Published) -> Option<Arc<T>>,
    seen: impl Fn(&T) -> &Seen,
) -> Option<Arc<T>> {
    // Subscribed before the look, so that nothing falls between.
    let mut published = shared.published.subscribe();
    let until = Instant::now() + Duration::from_millis(ask.wait_ms).min(WAIT_MAX);
    loop {
        let now = document(&published.borrow_and_update());
        if let Some(now) = now.filter(|now| ask.seen.as_ref() != Some(seen(now))) {
            // Before it is taken in: it could lead back from what is held.
            shared.hears_of(ask.held.as_ref());
            if shared.truth().ahead().is_none() {
                return Some(now);
            }
        }
        tokio::select! {
            changed = timeout_at(until, published.changed()) => match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return None,
            },
            () = shared.stop.cancelled() => return None,
        }
    }
}

fn answer<T: serde::Serialize>(document: Option<Arc<T>>) -> Response {
    match document {
        Some(document) => Json(&*document).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn assignments(
    State(shared): State<Arc<Shared>>,
    Extension(role): Extension<Role>,
    Json(ask): Json<Ask>,
) -> Result<Response, ApiError> {
    only(Role::Runner, role)?;
    let mine = |published: &Published| published.assignments.get(&published.server).cloned();
    if let Some((_, server)) = shared.leading() {
        shared.known().heard_server(server, clock::boottime());
    }
    Ok(answer(changed::<Assignments>(&shared, &ask, mine, |a| &a.seen).await))
}

async fn runner_report(
    State(shared): State<Arc<Shared>>,
    Extension(role): Extension<Role>,
    Json(report): Json<RunnerReport>,
) -> Result<Json<Committed>, ApiError> {
    only(Role::Runner, role)?;
    let (epoch, server) = shared.leading().ok_or(ApiError::NotLeading)?;
    shared.hears_of(report.seen.as_ref());
    Ok(Json(timely(report::take(&shared, epoch, server, &report)).await?))
}

async fn routes(
    State(shared): State<Arc<Shared>>,
    Extension(role): Extension<Role>,
    Json(ask): Json<Ask>,
) -> Result<Response, ApiError> {
    only(Role::Balancer, role)?;
    shared.known().balancer_asks(clock::boottime());
    Ok(answer(changed::<Routes>(&shared, &ask, |p| p.routes.clone(), |r| &r.seen).await))
}

async fn counts(
    State(shared): State<Arc<Shared>>,
    Extension(role): Extension<Role>,
    Json(report): Json<BalancerReport>,
) -> Result<Json<Committed>, ApiError> {
    only(Role::Balancer, role)?;
    shared.hears_of(report.seen.as_ref());
    // First what was counted: whoever acts on the rest of the report finds it in the database.
    if !report.switches.is_empty() && shared.truth().ahead().is_none() {
        timely(deploy::all::count(shared.db.pool(), &report.switches)).await?;
    }
    let now = Time::from(std::time::SystemTime::now());
    let is_news = {
        let mut known = shared.known();
        let gone =
            report.gone.iter().filter(|life| known.balancer_is_gone(&balancer_name(&shared, Some(life)))).count();
        let name = balancer_name(&shared, report.life.as_ref());
        known.balancer_reports(&name, &report, clock::boottime(), now) || gone > 0
    };
    if is_news {
        shared.wake.notify_one();
    }
    let taken = readings::take(&shared, Source::Balancer, &report.readings, &report.samples, now);
    Ok(Json(timely(taken).await?))
}

/// On a unix socket, the balancer is this server's. Whoever counts in a life is the only one of it.
fn balancer_name(shared: &Shared, life: Option<&Life>) -> String {
    format!("{}/{}", shared.config.server_name, life.map_or("", Life::as_str))
}

async fn object(
    State(shared): State<Arc<Shared>>,
    Extension(role): Extension<Role>,
    Path((kind, hash)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    only(Role::Runner, role)?;
    let object = match kind.as_str() {
        "sources" => shared.objects.get(&hash.parse::<SourceHash>().map_err(|_| ApiError::NoObject)?).await?,
        "images" => shared.objects.get(&hash.parse::<ImageHash>().map_err(|_| ApiError::NoObject)?).await?,
        _ => return Err(ApiError::NoObject),
    };
    let length = [(header::CONTENT_LENGTH, object.bytes.to_string())];
    Ok((length, Body::from_stream(object.stream)).into_response())
}

async fn image(
    State(shared): State<Arc<Shared>>,
    Extension(role): Extension<Role>,
    Path((kind, hash)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    only(Role::Runner, role)?;
    let hash = match kind.as_str() {
        "images" => hash.parse::<ImageHash>().map_err(|_| ApiError::NoObject)?,
        _ => return Err(ApiError::NoObject),
    };
    shared.objects.put(body.into_data_stream(), Some(&hash), IMAGE_BYTES_MAX).await?;
    Ok(StatusCode::NO_CONTENT)
}
