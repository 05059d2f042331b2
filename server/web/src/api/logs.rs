//! Lines: so many from a place on, or on and on as they come.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::ready;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use commands::api::LogLine;
use commands::{Kind, LogWhat};
use domain::AppName;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Interval;
use utoipa::IntoParams;

use super::Part;
use super::ask::{App, Asked, Caller, Number};
use super::error::ApiError;
use crate::events::{self, Log, Place};
use crate::state::Shared;

const LIMIT: u64 = 200;
const LIMIT_MAX: u64 = 10_000;
/// Of text in one answer, which is made whole: a line has up to 16 KiB.
const BYTES_MAX: usize = 4 << 20;
const SSE: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// A line's cursor: lines after it. Without it, the last ones.
    after: Option<u64>,
    /// At most so many, and fewer where they are long; of what is followed, so many of before.
    #[param(minimum = 1, maximum = 10000, default = 200)]
    limit: Option<u64>,
    /// Goes on with what comes: as events if `text/event-stream` is accepted (a line's cursor is its id, by which
    /// `Last-Event-ID` goes on), else as a JSON line each. Empty lines say that the stream lives.
    #[param(default = false)]
    follow: Option<bool>,
}

/// What an app says: its instances, and what Berth says of them
#[utoipa::path(get, path = "/apps/{app}/logs", tag = "logs", params(("app" = String, Path), Which),
    responses((status = 200, content((Part<LogLine> = "application/json"), (LogLine = "application/x-ndjson"),
        (String = "text/event-stream")))))]
pub async fn logs(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Asked(which): Asked<Which>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    read(state, caller, app, LogWhat::App, which, &headers).await
}

/// What a deploy says: its build, and how it goes
#[utoipa::path(get, path = "/apps/{app}/deploys/{number}/logs", tag = "logs",
    params(("app" = String, Path), ("number" = i64, Path), Which),
    responses((status = 200, content((Part<LogLine> = "application/json"), (LogLine = "application/x-ndjson"),
        (String = "text/event-stream")))))]
pub async fn deploy_logs(
    State(state): State<Shared>,
    caller: Caller,
    App(app): App,
    Number(n): Number,
    Asked(which): Asked<Which>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Else any number would have a log, an empty one.
    state.commands.deploy(&caller.actor, &app, n).await?;
    read(state, caller, app, LogWhat::Deploy(n), which, &headers).await
}

async fn read(
    state: Shared,
    caller: Caller,
    app: AppName,
    what: LogWhat,
    which: Which,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let limit = which.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::invalid(Some("limit".into()), format!("Give 1 to {LIMIT_MAX}.")));
    }
    if which.after.is_some_and(|after| i64::try_from(after).is_err()) {
        return Err(ApiError::invalid(Some("after".into()), "No line has that cursor."));
    }
    let limit = usize::try_from(limit).unwrap_or(0);
    if !which.follow.unwrap_or(false) {
        let lines = state.commands.log(&caller.actor, &app, what, which.after, limit, false).await?;
        let mut bytes = 0;
        let fits = move |line: &domain::wire::LogLine| {
            let fits = bytes < BYTES_MAX;
            bytes += line.text.len();
            ready(Ok(fits))
        };
        let lines = lines.take(limit).try_take_while(fits);
        let lines: Vec<_> = lines.map_ok(|line| LogLine::from(&line)).try_collect().await?;
        // There is always a place to go on from: a log has no end.
        let next = lines.last().map(|line| line.cursor).or(which.after).map(|cursor| cursor.to_string());
        return Ok(Json(Part { items: lines, next }).into_response());
    }
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let as_events = text(header::ACCEPT).is_some_and(|kinds| kinds.contains(SSE));
    let resumed = text(http::HeaderName::from_static("last-event-id")).and_then(|id| id.parse().ok());
    let Some(place) = state.streams.take(caller.actor.user) else { return Err(ApiError::streams()) };
    let mut follower = Follower {
        after: resumed.or(which.after),
        ended: state.signed_out.subscribe(),
        state,
        caller,
        app,
        limit,
        log: Log::of(what),
        waiting: VecDeque::new(),
        heartbeat: events::heartbeat(),
        _place: place,
    };
    // Whatever is wrong is said while it can be.
    follower.open().await?;
    let followed = stream::unfold(follower, |mut follower| async move { Some((follower.next().await?, follower)) });
    Ok(match as_events {
        true => Sse::new(followed.map(|said| Ok::<_, Infallible>(event(said)))).into_response(),
        false => {
            let bytes = followed.map(|said| Ok::<_, Infallible>(line(said)));
            ([(header::CONTENT_TYPE, LINES)], Body::from_stream(bytes)).into_response()
        }
    })
}

/// `None`: nothing but that the stream lives.
type Said = Option<LogLine>;

fn event(said: Said) -> Event {
    match said {
        Some(line) => Event::default().id(line.cursor.to_string()).data(json(&line)),
        None => Event::default().comment(""),
    }
}

fn line(said: Said) -> String {
    said.map(|line| json(&line)).unwrap_or_default() + "\n"
}

fn json(line: &LogLine) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// One log being followed. Nothing is kept for a slow reader but the lines of one chunk.
struct Follower {
    state: Shared,
    caller: Caller,
    app: AppName,
    after: Option<u64>,
    limit: usize,
    log: Log,
    waiting: VecDeque<LogLine>,
    /// Says that the stream lives, and whether its token still holds.
    heartbeat: Interval,
    /// Ticks when somebody signed out, or a token was revoked.
    ended: watch::Receiver<u64>,
    _place: Place,
}

impl Follower {
    async fn open(&mut self) -> Result<(), commands::CommandError> {
        let (commands, actor) = (&self.state.commands, &self.caller.actor);
        self.log.open(commands, actor, &self.app, self.after, self.limit).await
    }

    async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(line) = self.waiting.pop_front() {
                self.after = Some(line.cursor);
                return Some(Some(line));
            }
            tokio::select! {
                () = self.state.stop.cancelled() => return None,
                _ = self.heartbeat.tick() => {
                    if !holds(&self.state, &self.caller).await {
                        return None;
                    }
                    return Some(None);
                }
                Ok(()) = self.ended.changed() => {
                    if !holds(&self.state, &self.caller).await {
                        return None;
                    }
                }
                lines = self.log.next() => match lines {
                    Some(lines) => self.waiting.extend(lines.iter().map(LogLine::from)),
                    None => match self.open().await {
                        // Deleted, or no longer theirs.
                        Err(cause) if cause.kind() == Kind::NotFound => return None,
                        _ => {}
                    },
                },
            }
        }
    }
}

/// Whether the token still is one. Not knowing ends nothing.
async fn holds(state: &Shared, caller: &Caller) -> bool {
    match state.commands.tokens(&caller.actor).await {
        Ok(tokens) => tokens
            .iter()
            .any(|token| token.id == caller.token.id && token.expires.is_none_or(|at| at > crate::state::now())),
        Err(_) => true,
    }
}
