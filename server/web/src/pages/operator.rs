//! The operator's pages. Everybody else finds nothing there.

use app::{CustomerForm, CustomersPage, DecisionsPage, Typed};
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{CustomersAsked, DecisionsAsked, Kind, NewLimits};
use domain::{Approval, CustomerId, MailId, MailState};
use serde::Deserialize;

use super::again;
use super::form::Form;
use crate::problem::{Failed, Problem};
use crate::session::TheOperator;
use crate::state::Shared;

type Shown = Result<Html<String>, Failed>;

/// What was asked for by a word or a number that is none is not there.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, Failed> {
    text.parse().map_err(|_| Failed::Page(Problem::not_found()))
}

/// Of a filter: an empty one is none.
fn filter<T: std::str::FromStr>(text: Option<&str>) -> Result<Option<T>, Failed> {
    text.map(str::trim).filter(|text| !text.is_empty()).map(parsed).transpose()
}

pub async fn home(_who: TheOperator) -> Redirect {
    Redirect::to("/operator/servers")
}

pub async fn servers(State(state): State<Shared>, who: TheOperator) -> Shown {
    let view = state.commands.servers(&who.by).await?;
    Ok(Html(app::servers(state.page(Some(&who.user)), view)))
}

#[derive(Deserialize)]
pub struct CustomersQuery {
    state: Option<String>,
    q: Option<String>,
    before: Option<String>,
}

pub async fn customers(State(state): State<Shared>, who: TheOperator, Query(asked): Query<CustomersQuery>) -> Shown {
    let approval: Option<Approval> = filter(asked.state.as_deref())?;
    let wanted = CustomersAsked { approval, words: asked.q.clone(), before: filter(asked.before.as_deref())? };
    let view = state.commands.customers(&who.by, &wanted).await?;
    let shown = CustomersPage { view, state: approval, words: asked.q.unwrap_or_default() };
    Ok(Html(app::customers(state.page(Some(&who.user)), shown)))
}

pub async fn customer(State(state): State<Shared>, who: TheOperator, Path(id): Path<String>) -> Shown {
    let view = state.commands.customer(&who.by, parsed(&id)?).await?;
    let form = CustomerForm::of(&view.limits);
    Ok(Html(app::customer(state.page(Some(&who.user)), view, form)))
}

pub async fn approve(
    State(state): State<Shared>,
    who: TheOperator,
    Path(id): Path<String>,
) -> Result<Redirect, Failed> {
    decide(&state, &who, &id, Approval::Approved).await
}

pub async fn refuse(State(state): State<Shared>, who: TheOperator, Path(id): Path<String>) -> Result<Redirect, Failed> {
    decide(&state, &who, &id, Approval::Refused).await
}

async fn decide(state: &Shared, who: &TheOperator, id: &str, approval: Approval) -> Result<Redirect, Failed> {
    let customer: CustomerId = parsed(id)?;
    state.commands.customer_approve(&who.by, customer, approval).await?;
    Ok(Redirect::to(&format!("/operator/customers/{customer}")))
}

#[derive(Deserialize)]
pub struct LimitsTyped {
    #[serde(default)]
    apps: String,
    #[serde(default)]
    memory: String,
    #[serde(default)]
    builds: String,
    #[serde(default, rename = "build-minutes")]
    build_minutes: String,
    #[serde(default)]
    disk: String,
}

pub async fn limits(
    State(state): State<Shared>,
    who: TheOperator,
    Path(id): Path<String>,
    Form(typed): Form<LimitsTyped>,
) -> Result<Response, Failed> {
    let customer: CustomerId = parsed(&id)?;
    let LimitsTyped { apps, memory, builds, build_minutes, disk } = typed;
    let new = NewLimits { apps, memory_mib: memory, builds, build_minutes, disk_mib: disk };
    let cause = match state.commands.customer_limits(&who.by, customer, &new).await {
        Ok(()) => return Ok(Redirect::to(&format!("/operator/customers/{customer}")).into_response()),
        Err(cause) if cause.kind() == Kind::Invalid => cause,
        Err(cause) => return Err(cause.into()),
    };
    let typed = |name: &str, value: String| match cause.field() == Some(name) {
        true => Typed::wrong(value, cause.message()),
        false => Typed::new(value),
    };
    let form = CustomerForm {
        apps: typed("apps", new.apps),
        memory: typed("memory", new.memory_mib),
        builds: typed("builds", new.builds),
        build_minutes: typed("build-minutes", new.build_minutes),
        disk: typed("disk", new.disk_mib),
    };
    let view = state.commands.customer(&who.by, customer).await?;
    Ok(again(app::customer(state.page(Some(&who.user)), view, form)))
}

#[derive(Deserialize)]
pub struct DecisionsQuery {
    app: Option<String>,
    customer: Option<String>,
    before: Option<String>,
}

pub async fn decisions(State(state): State<Shared>, who: TheOperator, Query(asked): Query<DecisionsQuery>) -> Shown {
    let wanted = DecisionsAsked {
        app: asked.app.clone(),
        customer: filter(asked.customer.as_deref())?,
        before: filter(asked.before.as_deref())?,
    };
    let view = state.commands.decisions(&who.by, &wanted).await?;
    let (app, customer) = (asked.app.unwrap_or_default(), asked.customer.unwrap_or_default());
    Ok(Html(app::decisions(state.page(Some(&who.user)), DecisionsPage { view, app, customer })))
}

#[derive(Deserialize)]
pub struct LettersQuery {
    state: Option<String>,
    before: Option<String>,
}

pub async fn letters(State(state): State<Shared>, who: TheOperator, Query(asked): Query<LettersQuery>) -> Shown {
    let of: Option<MailState> = filter(asked.state.as_deref())?;
    let view = state.commands.letters(&who.by, of, filter(asked.before.as_deref())?).await?;
    Ok(Html(app::letters(state.page(Some(&who.user)), view, of)))
}

pub async fn letter_again(
    State(state): State<Shared>,
    who: TheOperator,
    Path(id): Path<String>,
) -> Result<Redirect, Failed> {
    let id: MailId = parsed(&id)?;
    state.commands.letter_again(&who.by, id).await?;
    Ok(Redirect::to("/operator/mail"))
}
