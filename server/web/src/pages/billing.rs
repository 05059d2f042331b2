//! Money: the month, why, and the operator's prices.

use std::collections::BTreeMap;

use app::PriceForm;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Redirect, Response};
use commands::{MeterTyped, NewPrices, WhyAsked};
use domain::{Meter, Month, Time};
use futures_util::StreamExt;
use http::header;
use serde::Deserialize;

use super::again;
use super::form::Form;
use super::operator::parsed;
use crate::problem::{Failed, Problem};
use crate::session::{SignedIn, TheOperator};
use crate::state::{Shared, now};

#[derive(Deserialize)]
pub struct Asked {
    month: Option<String>,
}

pub async fn billing(
    State(state): State<Shared>,
    who: SignedIn,
    Query(asked): Query<Asked>,
) -> Result<Html<String>, Failed> {
    let month = asked.month.as_deref().map(month_of).transpose()?;
    let bill = state.commands.bill(&who.actor, month).await?;
    Ok(Html(app::billing(state.page(Some(&who.user)), bill)))
}

/// One that is no month, or has not begun, is not there.
fn month_of(text: &str) -> Result<Month, Failed> {
    let month: Month = parsed(text)?;
    if month > Month::of(now()) { Err(Failed::Page(Problem::not_found())) } else { Ok(month) }
}

#[derive(Deserialize)]
pub struct Figure {
    app: Option<String>,
    meter: Option<String>,
    day: Option<String>,
    since: Option<String>,
    after: Option<String>,
}

impl Figure {
    fn asked(self, month: &str) -> Result<WhyAsked, Failed> {
        let meter = self.meter.as_deref().map(parsed::<Meter>).transpose()?;
        let day = self.day.as_deref().map(parsed::<u8>).transpose()?;
        let missing = || Failed::Page(Problem::not_found());
        let since = |text: &str| Time::from_field(text).map(|(first, _)| first).ok_or_else(missing);
        let since = self.since.as_deref().map(since).transpose()?;
        Ok(WhyAsked { month: Some(month_of(month)?), app: self.app, meter, day, since, after: self.after })
    }
}

pub async fn why(
    State(state): State<Shared>,
    who: SignedIn,
    Path(month): Path<String>,
    Query(figure): Query<Figure>,
) -> Result<Html<String>, Failed> {
    let view = state.commands.why(&who.actor, &figure.asked(&month)?).await?;
    Ok(Html(app::why(state.page(Some(&who.user)), view)))
}

pub async fn readings(
    State(state): State<Shared>,
    who: SignedIn,
    Path(month): Path<String>,
    Query(figure): Query<Figure>,
) -> Result<Response, Failed> {
    let asked = figure.asked(&month)?;
    let missing = || Failed::Page(Problem::not_found());
    let place = state.streams.take(who.actor.user).ok_or_else(|| Failed::Page(Problem::streams()))?;
    let lines = state.commands.why_file(&who.actor, &asked).await?.ok_or_else(missing)?;
    let name = format!("readings-{month}.csv");
    let head = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    // What cannot be read ends the answer early: a file that is whole would say what is not so.
    let lines = lines.map(move |line| {
        let _held = &place;
        line.map_err(std::io::Error::other)
    });
    Ok((head, Body::from_stream(lines)).into_response())
}

pub async fn prices(State(state): State<Shared>, who: TheOperator) -> Result<Html<String>, Failed> {
    let view = state.commands.prices(&who.by).await?;
    let held = view.in_force().map(|held| held.prices.clone()).unwrap_or_default();
    let form = PriceForm { typed: NewPrices::of(&held, view.now), wrong: Vec::new() };
    Ok(Html(app::prices(state.page(Some(&who.user)), view, form)))
}

pub async fn prices_set(
    State(state): State<Shared>,
    who: TheOperator,
    Form(fields): Form<BTreeMap<String, String>>,
) -> Result<Response, Failed> {
    let typed = |name: String| fields.get(&name).cloned().unwrap_or_default();
    let meter = |meter: &Meter| {
        let field = |part: &str| typed(format!("{meter}-{part}"));
        let more = [(field("from-2"), field("price-2")), (field("from-3"), field("price-3"))];
        (*meter, MeterTyped { included: field("included"), price: field("price"), more })
    };
    let new = NewPrices { since: typed("since".to_owned()), meters: Meter::ALL.iter().map(meter).collect() };
    match state.commands.prices_set(&who.by, &new).await? {
        Ok(()) => Ok(Redirect::to("/operator/prices").into_response()),
        Err(wrong) => {
            let view = state.commands.prices(&who.by).await?;
            Ok(again(app::prices(state.page(Some(&who.user)), view, PriceForm { typed: new, wrong })))
        }
    }
}

pub async fn prices_take_back(
    State(state): State<Shared>,
    who: TheOperator,
    Path(id): Path<String>,
) -> Result<Redirect, Failed> {
    state.commands.prices_take_back(&who.by, parsed(&id)?).await?;
    Ok(Redirect::to("/operator/prices"))
}
