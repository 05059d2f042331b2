//! What needs me? The apps of a customer, the worst first.

use std::collections::HashMap;

use commands::{AppHealth, AppRef, AppRow, EventView, Spark, Spent};
use domain::{AppName, in_query};
use leptos::prelude::*;

use crate::activity;
use crate::chart;
use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::live::bare;
use crate::money::{Figure, amount, why};
use crate::region::Region;
use crate::state::health;
use crate::steps::shown;
use crate::units::{count, figure};
use crate::when::Moment;

/// So many on a page.
const APPS_A_PAGE: usize = 50;

/// Which of them are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppsAsked {
    /// Stands in their name or address.
    pub q: String,
    /// How many come before the page.
    pub from: usize,
}

impl AppsAsked {
    fn query(&self, from: usize) -> String {
        let q = (!self.q.is_empty()).then(|| format!("q={}", in_query(&self.q)));
        let from = (from > 0).then(|| format!("from={from}"));
        let all: Vec<String> = q.into_iter().chain(from).collect();
        if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
    }
}

pub struct AppsPage {
    /// All of them, the worst first.
    pub apps: Vec<AppRow>,
    /// May lack some.
    pub sparks: HashMap<AppName, Spark>,
    pub asked: AppsAsked,
    /// The newest.
    pub events: Vec<EventView>,
}

/// Nobody comes here without an app: that is the page of a new one.
pub fn apps(page: Page<'_>, shown: AppsPage) -> String {
    let AppsPage { apps, sparks, asked, events } = shown;
    let now = page.now;
    let customer = page.user.map(|user| user.customer_name.clone()).unwrap_or_default();
    let price = page.user.and_then(|user| user.spent);
    let stream = Events { path: format!("/events{}", asked.query(asked.from)), after: String::new() };
    let search = (apps.len() > 8 || !asked.q.is_empty()).then(|| search(&asked.q));
    let regions = of_apps(&apps, &sparks, &customer, price, &asked, now);
    Frame::new(page, "Apps · Berth").place(Place::Apps).alive(Alive::Moves).events(stream).html(move || {
        let [sub, list] = regions.map(Region::view);
        view! {
            <header class="head">
                <div class="title">
                    <h1>"Apps"</h1>
                    <div class="actions">
                        <a class="btn main" href="/apps/new">
                            "New app"
                        </a>
                    </div>
                </div>
                {sub}
            </header>
            {search}
            <section aria-label="Apps">{list}</section>
            <section class="sheet" id="lately">
                <header>
                    <h2>"Lately"</h2>
                    <a href="/account/activity">"All changes"</a>
                </header>
                {activity::list(events, now)}
            </section>
        }
    })
}

/// Of all apps, also of those that were deleted this month.
fn sum(spent: Spent) -> AnyView {
    let words = format!("All apps in {} so far, before tax", spent.month.name());
    let shown = spent.currency.cents(spent.amount);
    view! {
        <li class="sum">
            <span>{words}</span>
            <b>{why(shown, "/billing".to_owned(), "all apps")}</b>
        </li>
    }
    .into_any()
}

fn spark(app: &AppName, seen: &Spark) -> AnyView {
    let now = seen.points.iter().rev().copied().flatten().next().unwrap_or(0.0);
    let label = format!("Requests of {app} over 24 hours: {}; lately {} a second", count(seen.requests), figure(now));
    view! { <div class="sparks" inner_html=chart::spark(&seen.points, &label)></div> }.into_any()
}

fn search(q: &str) -> AnyView {
    let q = q.to_owned();
    view! {
        <form class="row" method="get" action="/apps" role="search">
            <div class="field">
                <label class="vh" for="q">"Find an app"</label>
                <input id="q" name="q" type="search" value=q autocomplete="off" spellcheck="false" placeholder="Part of a name"/>
            </div>
            <button type="submit" class="btn">"Find"</button>
        </form>
    }
    .into_any()
}

/// What is said above the list, and the list.
pub fn of_apps(
    apps: &[AppRow],
    sparks: &HashMap<AppName, Spark>,
    customer: &str,
    spent: Option<Spent>,
    asked: &AppsAsked,
    now: domain::Time,
) -> [Region; 2] {
    let price = spent.filter(|_| apps.iter().any(|app| app.cost.is_some()));
    let need: Vec<&AppRow> =
        apps.iter().filter(|app| matches!(app.health, AppHealth::Failed | AppHealth::Warned)).collect();
    let needs = match need.as_slice() {
        [] => "Nothing needs you.".to_owned(),
        [one] => format!("One needs you: {}.", one.name),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{} need you: {}, {}, {} and {} more.", need.len(), first.name, second.name, third.name, rest.len())
        }
        several => {
            let names: Vec<String> = several.iter().map(|app| app.name.to_string()).collect();
            format!("{} need you: {}.", names.len(), names.join(", "))
        }
    };
    let all = if apps.len() == 1 { "1 app".to_owned() } else { format!("{} apps", apps.len()) };
    let sub = view! { <p class="sub" role="status">{format!("{all} of {customer}. {needs}")}</p> };
    let wanted = asked.q.to_lowercase();
    let found: Vec<&AppRow> =
        apps.iter().filter(|app| app.name.as_str().contains(&wanted) || app.url.contains(&wanted)).collect();
    [Region::new("apps-sub", sub), Region::new("apps", list(&found, sparks, price, asked, now))]
}

fn list(
    found: &[&AppRow],
    sparks: &HashMap<AppName, Spark>,
    price: Option<Spent>,
    asked: &AppsAsked,
    now: domain::Time,
) -> AnyView {
    if found.is_empty() {
        let q = shown(&asked.q);
        return view! {
            <div class="sheet stack">
                <p>"No app has " <b class="said">{q}</b> " in its name or address. " <a href="/apps">"All apps"</a></p>
            </div>
        }
        .into_any();
    }
    let from = asked.from.min(found.len() - 1);
    let rows: Vec<_> =
        found.iter().skip(from).take(APPS_A_PAGE).map(|app| row(app, sparks.get(&app.name), price, now)).collect();
    let turn = |word: &'static str, from: usize| {
        view! { <a class="btn small" href=format!("/apps{}", asked.query(from))>{word}</a> }
    };
    let before = (from > 0).then(|| turn("Those before", from.saturating_sub(APPS_A_PAGE)));
    let next = (from + APPS_A_PAGE < found.len()).then(|| turn("The next", from + APPS_A_PAGE));
    let pages = (before.is_some() || next.is_some()).then(|| {
        let to = (from + APPS_A_PAGE).min(found.len());
        let said = format!("{} to {to} of {}", from + 1, found.len());
        view! { <nav class="actions" aria-label="Pages of apps">{before} {next} <span class="hint">{said}</span></nav> }
    });
    view! {
        <ul class="sheet apps">
            <li class="labels" aria-hidden="true">
                <span>"App"</span>
                <span>"State"</span>
                <span>"Release"</span>
                <span>"Requests, 24 h"</span>
                {price.map(|spent| view! { <span>{format!("{} so far", spent.month.name())}</span> })}
            </li>
            {rows}
            {price.map(sum)}
        </ul>
        {pages}
    }
    .into_any()
}

fn row(app: &AppRow, seen: Option<&Spark>, price: Option<Spent>, now: domain::Time) -> impl IntoView + use<> {
    let state = health(app.health, app.release.is_some());
    let class = format!("state {}", state.kind);
    let href = format!("/apps/{}", app.name);
    let address = bare(&app.url);
    let why = app.last_deploy.as_ref().filter(|deploy| deploy.state == domain::DeployState::Failed).map(|deploy| {
        let href = format!("/apps/{}/deploys/{}", app.name, deploy.number);
        view! { ", " <a href=href>"see why"<span class="vh">{format!(" v{} of {} failed", deploy.number, app.name)}</span></a> }
    });
    let last = app.last_deploy.as_ref().map(|deploy| {
        let by = deploy.by.as_deref().map(|by| format!(" by {}", shown(by))).unwrap_or_default();
        let subject = (!deploy.subject.is_empty()).then(|| format!(": {}", shown(&deploy.subject)));
        view! { <br/> <span>{format!("v{}{by}, ", deploy.number)} {Moment::of(now, deploy.created)} {subject}</span> }
    });
    let cost = price.zip(app.cost).map(|(spent, cost)| {
        let app = AppRef { name: app.name.clone(), deleted: None, key: app.name.to_string() };
        let figure = Figure { app: Some(&app), ..Figure::default() };
        view! { <p class="price">{amount(spent.currency, cost.shown(), figure, spent.month, true)}</p> }
    });
    view! {
        <li>
            <h2>
                <a href=href>{app.name.to_string()}</a>
            </h2>
            <a class="url" href=app.url.clone()>
                {address}
            </a>
            <span class=class>{state.word}</span>
            <p class="rel">
                {app.summary.clone()}
                {why}
                {last}
            </p>
            {seen.map(|seen| spark(&app.name, seen))}
            {cost}
        </li>
    }
}
