//! The API on the unix socket (paths: `domain::wire`), and readers that follow.
//!
//! A follower has no queue in memory: its place in the files is its queue, a wake-up carries no
//! data, and what it is sent waits in one chunk until the other side takes it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use domain::wire::{Lines, LogPage, LogSizes, LogStream};
use domain::{AppId, LogFilter, Time};
use link::Role;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, From, chain};
use crate::error::StoreError;
use crate::page::{Towards, Turn};
use crate::read::{Chunk, Place, Wish};

/// A batch: its JSON, its lines.
const BATCH_BYTES_MAX: usize = 8 << 20;
const BATCH_LINES_MAX: usize = 10_000;
const ORIGIN_BYTES_MAX: usize = 128;
/// Batches in memory at once; more wait, as their senders' spools can.
const BATCHES_MAX: usize = 8;
const BATCH_WAIT: Duration = Duration::from_secs(20);
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Reads from the disk at once.
const READS_MAX: usize = 16;
/// Readers at once, most of them asleep.
const READERS_MAX: usize = 4096;
const CHUNK_LINES_MAX: usize = 500;
const CHUNK_BYTES_MAX: usize = 256 << 10;
/// An answer without `follow`.
const LINES_MAX: u64 = 10_000;
const LINES_DEFAULT: u64 = 1_000;
const PAGE_LINES_DEFAULT: usize = 200;
const PAGE_LINES_MAX: usize = 1_000;
/// How far a follower of an app's log may fall behind. (A deploy's log is finite, and wanted whole.)
const BEHIND_MAX: u64 = 10_000;
/// How often an open answer shows that it is open.
const BEAT: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Api {
    archive: Arc<Archive>,
    batches: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    stop: CancellationToken,
}

pub(crate) fn router(archive: Arc<Archive>, stop: CancellationToken) -> Router {
    let api = Api {
        archive,
        batches: Arc::new(Semaphore::new(BATCHES_MAX)),
        reads: Arc::new(Semaphore::new(READS_MAX)),
        readers: Arc::new(Semaphore::new(READERS_MAX)),
        stop,
    };
    Router::new()
        .route("/v1/lines", post(lines))
        .route("/v1/stream", get(stream))
        .route("/v1/page", get(page))
        .route("/v1/sizes", post(sizes))
        .route("/v1/app/{id}", delete(delete_app))
        .with_state(api)
}

enum ApiError {
    NotYours(Role),
    Bad(String),
    TooBig(&'static str),
    Busy(&'static str),
    Store(StoreError),
    Panicked,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotYours(role) => (StatusCode::FORBIDDEN, format!("not for {role:?}")),
            Self::Bad(text) => (StatusCode::BAD_REQUEST, text),
            Self::TooBig(text) => (StatusCode::PAYLOAD_TOO_LARGE, text.to_owned()),
            Self::Busy(text) => (StatusCode::SERVICE_UNAVAILABLE, text.to_owned()),
            Self::Store(error) if error.is_disk_full() => {
                tracing::error!(error = %chain(&error), "the disk of the logs is full: free space, or keep less");
                (StatusCode::INSUFFICIENT_STORAGE, "the disk of the logs is full".to_owned())
            }
            Self::Store(error) => {
                tracing::error!(error = %chain(&error), "a call to logs failed");
                (StatusCode::INTERNAL_SERVER_ERROR, chain(&error))
            }
            Self::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "a call to logs panicked".to_owned()),
        };
        (status, text + "\n").into_response()
    }
}

fn only(role: Role, allowed: &[Role]) -> Result<(), ApiError> {
    if allowed.contains(&role) { Ok(()) } else { Err(ApiError::NotYours(role)) }
}

/// File work on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::Panicked)?.map_err(ApiError::Store)
}

async fn lines(
    State(api): State<Api>,
    Extension(role): Extension<Role>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    only(role, &[Role::Runner])?;
    // Before the body is taken in: it is what memory is spent on.
    let permit = tokio::time::timeout(BATCH_WAIT, api.batches.acquire_owned()).await;
    let Ok(Ok(permit)) = permit else { return Err(ApiError::Busy("too many batches at once; send it again")) };
    let body = tokio::time::timeout(BATCH_TIMEOUT, to_bytes(request.into_body(), BATCH_BYTES_MAX)).await;
    let body = body
        .map_err(|_| ApiError::Bad("the batch did not arrive in time".to_owned()))?
        .map_err(|_| ApiError::TooBig("a batch is at most 8 MiB"))?;
    let lines: Lines = serde_json::from_slice(&body).map_err(|error| ApiError::Bad(error.to_string()))?;
    drop(body);
    if lines.lines.len() > BATCH_LINES_MAX {
        return Err(ApiError::TooBig("a batch is at most 10,000 lines"));
    }
    let printable = lines.origin.bytes().all(|b| b.is_ascii_graphic());
    if !printable || !(1..=ORIGIN_BYTES_MAX).contains(&lines.origin.len()) {
        return Err(ApiError::Bad("an origin is 1 to 128 printable ASCII characters".to_owned()));
    }
    let archive = Arc::clone(&api.archive);
    blocking(move || {
        let _permit = permit;
        archive.append(&lines, SystemTime::now())
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete_app(
    State(api): State<Api>,
    Extension(role): Extension<Role>,
    Path(id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    only(role, &[Role::Control])?;
    if id <= 0 {
        return Err(ApiError::Bad("that is no app's id".to_owned()));
    }
    blocking(move || api.archive.delete(AppId(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn sizes(State(api): State<Api>, Extension(role): Extension<Role>) -> Result<Json<LogSizes>, ApiError> {
    only(role, &[Role::Control])?;
    Ok(Json(blocking(move || api.archive.sizes()).await?))
}

#[derive(Deserialize)]
struct Ask {
    stream: LogStream,
    after: Option<u64>,
    /// Microseconds since 1970.
    since: Option<Time>,
    until: Option<Time>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    source: String,
    limit: Option<u64>,
    follow: Option<u8>,
    /// Up to the end, however much that is.
    all: Option<u8>,
}

#[derive(Deserialize)]
struct AskPage {
    stream: LogStream,
    before: Option<u64>,
    after: Option<u64>,
    since: Option<Time>,
    until: Option<Time>,
    #[serde(default)]
    text: String,
    #[serde(default)]
    source: String,
    lines: Option<usize>,
}

async fn page(
    State(api): State<Api>,
    Extension(role): Extension<Role>,
    Query(ask): Query<AskPage>,
) -> Result<Json<LogPage>, ApiError> {
    only(role, &[Role::Web, Role::Receiver, Role::Control])?;
    let AskPage { stream, before, after, since, until, text, source, lines } = ask;
    let turn = Turn {
        towards: after.map_or(Towards::Older(before), Towards::Newer),
        lines: lines.unwrap_or(PAGE_LINES_DEFAULT).clamp(1, PAGE_LINES_MAX),
        filter: LogFilter { text, source, since, until },
    };
    let Ok(permit) = Arc::clone(&api.reads).acquire_owned().await else { return Err(ApiError::Busy("stopping")) };
    let page = blocking(move || {
        let _permit = permit;
        api.archive.page(stream, &turn, SystemTime::now())
    });
    Ok(Json(page.await?))
}

async fn stream(
    State(api): State<Api>,
    Extension(role): Extension<Role>,
    Query(ask): Query<Ask>,
) -> Result<Response, ApiError> {
    only(role, &[Role::Web, Role::Receiver, Role::Control])?;
    let Ok(permit) = Arc::clone(&api.readers).try_acquire_owned() else {
        return Err(ApiError::Busy("too many readers at once; try again"));
    };
    let follow = ask.follow.is_some_and(|follow| follow != 0);
    let limit = ask.limit.unwrap_or(LINES_DEFAULT).clamp(1, LINES_MAX);
    let all = ask.all.is_some_and(|all| all != 0) && !follow;
    let from = match (ask.after, ask.since) {
        (None, None) if all => From::After(0),
        (Some(after), _) => From::After(after),
        (None, Some(since)) => From::Since(since),
        (None, None) => From::Last(limit),
    };
    let (archive, name) = (Arc::clone(&api.archive), ask.stream);
    let (place, tail) = blocking(move || archive.open(name, from, SystemTime::now())).await?;
    let wish = Wish {
        lines_max: CHUNK_LINES_MAX,
        bytes_max: CHUNK_BYTES_MAX,
        filter: LogFilter { text: ask.text, source: ask.source, since: ask.since, until: ask.until },
        behind_max: (follow && matches!(name, LogStream::App(_))).then_some(BEHIND_MAX),
    };
    let left = if follow || all { None } else { Some(limit) };
    let tail = follow.then_some(tail);
    let reader = Reader { api, name, place, wish, left, tail, _permit: permit };
    let body = Body::from_stream(futures_util::stream::unfold(reader, |mut reader| async move {
        let bytes = reader.next().await?;
        Some((bytes, reader))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

struct Reader {
    api: Api,
    name: LogStream,
    place: Place,
    wish: Wish,
    /// Lines until the end; `None` with `follow` or `all`.
    left: Option<u64>,
    tail: Option<watch::Receiver<u64>>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next piece of the answer; `None` at its end.
    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        loop {
            if self.left == Some(0) || self.api.stop.is_cancelled() {
                return None;
            }
            let chunk = match self.read().await {
                Ok(chunk) => chunk,
                // The head is long sent: breaking the answer off is the only way to say so.
                Err(error) => {
                    let status = error.into_response().status();
                    return Some(Err(std::io::Error::other(format!("reading {} failed: {status}", self.name))));
                }
            };
            self.place = chunk.place;
            if !chunk.lines.is_empty() {
                self.left = self.left.map(|left| left.saturating_sub(chunk.lines.len() as u64));
                let mut bytes = Vec::new();
                for line in &chunk.lines {
                    if let Err(cause) = serde_json::to_writer(&mut bytes, line) {
                        return Some(Err(cause.into()));
                    }
                    bytes.push(b'\n');
                }
                return Some(Ok(bytes.into()));
            }
            if !chunk.ended {
                // So much was read and nothing found: the other side hears that it goes on.
                return Some(Ok(Bytes::from_static(b"\n")));
            }
            let tail = self.tail.as_mut()?;
            tokio::select! {
                () = self.api.stop.cancelled() => return None,
                // It ends when the app is deleted.
                woken = tail.changed() => woken.ok()?,
                () = tokio::time::sleep(BEAT) => return Some(Ok(Bytes::from_static(b"\n"))),
            }
        }
    }

    async fn read(&self) -> Result<Chunk, ApiError> {
        let Ok(permit) = Arc::clone(&self.api.reads).acquire_owned().await else {
            return Err(ApiError::Busy("stopping"));
        };
        let (archive, name, place, mut wish) =
            (Arc::clone(&self.api.archive), self.name, self.place, self.wish.clone());
        if let Some(left) = self.left {
            wish.lines_max = wish.lines_max.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        blocking(move || {
            let _permit = permit;
            archive.read(name, place, &wish, SystemTime::now())
        })
        .await
    }
}
