//! Apps and their deploys.

use std::time::Duration;

use app::{AppPage, AppsAsked, AppsPage, DeployPage, DeploysPage, NewApp, Printed, Scaled, Typed};
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{Actor, AppView, DeployView, Kind, LogTurn, LogWhat, Range};
use domain::wire::LogLine;
use domain::{AppName, DeployState, LogFilter, Step};
use futures_util::TryStreamExt;
use serde::Deserialize;

use super::account::{Before, activity_of};
use super::form::Form;
use super::{Name, again, said, small_app};
use crate::events::{self, Cursor, Of};
use crate::problem::{Failed, Problem};
use crate::session::SignedIn;
use crate::state::Shared;

/// Lines that a page comes with.
const LINES: usize = 200;
const BUILD_LINES: usize = 500;
/// Of what failed to start, and how much later its lines may come.
const PRINTED_LINES: usize = 14;
const PRINTED_AFTER: Duration = Duration::from_millis(500);

/// On the page of apps.
const EVENTS: usize = 6;
const SEARCH_CHARS_MAX: usize = 100;

#[derive(Deserialize)]
pub struct Asked {
    #[serde(default)]
    q: String,
    #[serde(default)]
    from: usize,
}

impl Asked {
    fn read(self) -> AppsAsked {
        AppsAsked { q: self.q.trim().chars().take(SEARCH_CHARS_MAX).collect(), from: self.from }
    }
}

pub async fn list(State(state): State<Shared>, who: SignedIn, Query(asked): Query<Asked>) -> Result<Response, Failed> {
    let commands = &state.commands;
    let (apps, sparks, mut events) = tokio::try_join!(
        commands.apps_with_cost(&who.actor),
        commands.sparks(&who.actor),
        commands.events(&who.actor, None, None)
    )?;
    if apps.is_empty() {
        return Ok(Redirect::to("/apps/new").into_response());
    }
    events.truncate(EVENTS);
    let shown = AppsPage { apps, sparks, asked: asked.read(), events };
    Ok(Html(app::apps(state.page(Some(&who.user)), shown)).into_response())
}

pub async fn list_events(
    State(state): State<Shared>,
    who: SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let of = Of::Apps(asked.read(), who.user.customer_name.clone());
    events::stream(state, who, of, None).await
}

pub async fn new(State(state): State<Shared>, who: SignedIn) -> Result<Html<String>, Failed> {
    let (keys, apps) = tokio::try_join!(state.commands.keys(&who.actor), state.commands.apps(&who.actor))?;
    let small = small_app(&state).await;
    let new = NewApp { keys, first: apps.is_empty(), small, ..NewApp::default() };
    Ok(Html(app::new_app(state.page(Some(&who.user)), new)))
}

pub async fn create(State(state): State<Shared>, who: SignedIn, Form(typed): Form<Name>) -> Result<Response, Failed> {
    let cause = match state.commands.app_create(&who.actor, &typed.name).await {
        Ok(name) => return Ok(Redirect::to(&format!("/apps/{name}")).into_response()),
        Err(cause) => cause,
    };
    if !matches!(cause.kind(), Kind::Invalid | Kind::Conflict | Kind::Limit) {
        return Err(cause.into());
    }
    let message = said(&cause);
    let (keys, apps) = tokio::try_join!(state.commands.keys(&who.actor), state.commands.apps(&who.actor))?;
    let name = Typed::wrong(typed.name, message);
    let small = small_app(&state).await;
    let new = NewApp { keys, name, first: apps.is_empty(), small, ..NewApp::default() };
    Ok(again(app::new_app(state.page(Some(&who.user)), new)))
}

/// What is no name is nobody's app.
pub fn parse(app: &str) -> Result<AppName, Failed> {
    app.parse().map_err(|_| Failed::Page(Problem::not_found()))
}

pub fn number(number: &str) -> Result<i64, Failed> {
    number.parse().map_err(|_| Failed::Page(Problem::not_found()))
}

/// An app, and its newest deploy with its steps.
pub async fn look(
    state: &Shared,
    actor: &Actor,
    name: &AppName,
) -> Result<(AppView, Option<DeployView>), commands::CommandError> {
    let app = state.commands.app_with_cost(actor, name).await?;
    let newest = match app.deploys.first() {
        Some(row) => Some(state.commands.deploy(actor, name, row.number).await?),
        None => None,
    };
    Ok((app, newest))
}

/// The last lines; a log that is away leaves a page without lines, not no page.
async fn last(state: &Shared, actor: &Actor, name: &AppName, what: LogWhat, limit: usize) -> Option<Vec<LogLine>> {
    let read = async { state.commands.log(actor, name, what, None, limit, false).await?.try_collect().await };
    let read: Result<_, commands::CommandError> = read.await;
    read.inspect_err(|cause| tracing::warn!(error = %cause, "a page goes without its log")).ok()
}

fn end_of(lines: Option<&Vec<LogLine>>) -> u64 {
    lines.and_then(|lines| lines.last()).map_or(0, |line| line.cursor)
}

pub async fn app(State(state): State<Shared>, who: SignedIn, Path(name): Path<String>) -> Result<Html<String>, Failed> {
    let name = parse(&name)?;
    Ok(Html(page_of(&state, &who, &name, Scaled::default()).await?))
}

/// An app's page, with what was typed into it.
pub async fn page_of(state: &Shared, who: &SignedIn, name: &AppName, scaled: Scaled) -> Result<String, Failed> {
    let usage = async { Ok(Some(state.commands.usage(&who.actor, name, Range::Hour).await?)) };
    let ((app, newest), usage) = tokio::try_join!(look(state, &who.actor, name), usage)?;
    let open = newest.as_ref().filter(|deploy| !deploy.row.state.is_final()).map(|deploy| deploy.row.number);
    let build = async {
        match open {
            Some(number) => last(state, &who.actor, name, LogWhat::Deploy(number), BUILD_LINES).await,
            None => None,
        }
    };
    let (lines, build) = tokio::join!(last(state, &who.actor, name, LogWhat::App, LINES), build);
    let cursor = Cursor { lines: end_of(lines.as_ref()), deploy: open.unwrap_or(0), build: end_of(build.as_ref()) };
    let shown = AppPage { app, newest, lines, build, after: cursor.to_string(), usage, scaled };
    Ok(app::app(state.page(Some(&who.user)), shown))
}

pub async fn deploy(
    State(state): State<Shared>,
    who: SignedIn,
    Path((name, n)): Path<(String, String)>,
) -> Result<Html<String>, Failed> {
    let (name, number) = (parse(&name)?, number(&n)?);
    let commands = &state.commands;
    let (app, deploy) =
        tokio::try_join!(commands.app_with_cost(&who.actor, &name), commands.deploy_page(&who.actor, &name, number))?;
    let (lines, printed) = tokio::join!(
        last(&state, &who.actor, &name, LogWhat::Deploy(number), BUILD_LINES),
        printed(&state, &who.actor, &name, &deploy)
    );
    let cursor = Cursor { lines: 0, deploy: number, build: end_of(lines.as_ref()) };
    let shown = DeployPage { app, deploy, lines, printed, after: cursor.to_string() };
    Ok(Html(app::deploy(state.page(Some(&who.user)), shown)))
}

/// The app's last words while a deploy of it was started and failed; a log that is away is not told of here.
pub async fn printed(state: &Shared, actor: &Actor, name: &AppName, deploy: &DeployView) -> Option<Printed> {
    let start = deploy.row.steps.iter().find(|step| step.step == Step::Start)?;
    let to = start.ended.filter(|_| deploy.row.state == DeployState::Failed)?;
    let (from, to) = (start.started, to.plus(PRINTED_AFTER));
    let filter = LogFilter { since: Some(from), until: Some(to), ..LogFilter::default() };
    let page = state.commands.log_page(actor, name, LogWhat::App, LogTurn::Last, &filter, PRINTED_LINES).await;
    Some(Printed { lines: page.ok()?.lines, from, to })
}

pub async fn deploys(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(Before { before }): Query<Before>,
) -> Result<Html<String>, Failed> {
    let name = parse(&name)?;
    let commands = &state.commands;
    let (app, rows) =
        tokio::try_join!(commands.app_with_cost(&who.actor, &name), commands.deploys(&who.actor, &name, before))?;
    // Numbers begin at 1 and are never left out.
    let next = rows.last().map(|row| row.number).filter(|number| *number > 1);
    let shown = DeploysPage { app, rows, older: before.is_some(), next };
    Ok(Html(app::deploys(state.page(Some(&who.user)), shown)))
}

pub async fn deploys_events(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
) -> Result<Response, Failed> {
    events::stream(state, who, Of::Deploys(parse(&name)?), None).await
}

pub async fn activity(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(Before { before }): Query<Before>,
) -> Result<Html<String>, Failed> {
    activity_of(&state, &who, Some(parse(&name)?), before).await
}

#[derive(Deserialize)]
pub struct After {
    pub after: Option<String>,
}

pub async fn events(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(after): Query<After>,
) -> Result<Response, Failed> {
    events::stream(state, who, Of::App(parse(&name)?), after.after).await
}

pub async fn deploy_events(
    State(state): State<Shared>,
    who: SignedIn,
    Path((name, n)): Path<(String, String)>,
    Query(after): Query<After>,
) -> Result<Response, Failed> {
    events::stream(state, who, Of::Deploy(parse(&name)?, number(&n)?), after.after).await
}
