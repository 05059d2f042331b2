//! What needs me? The apps of a customer, the worst first.

use std::collections::HashMap;

use commands::{AppHealth, AppRef, AppRow, Spark, Spent};
use domain::AppName;
use leptos::prelude::*;

use crate::chart;
use crate::frame::{Frame, Page, Place};
use crate::live::bare;
use crate::money::{Figure, amount, why};
use crate::state::health;
use crate::units::{count, figure};
use crate::when::Moment;

/// Nobody comes here without an app: that is the page of a new one.
/// `sparks` may lack some.
pub fn apps(page: Page<'_>, apps: Vec<AppRow>, sparks: &HashMap<AppName, Spark>) -> String {
    let now = page.now;
    let customer = page.user.map(|user| user.customer_name.clone()).unwrap_or_default();
    let need: Vec<String> = apps
        .iter()
        .filter(|app| matches!(app.health, AppHealth::Failed | AppHealth::Warned))
        .map(|app| app.name.to_string())
        .collect();
    let needs = match need.as_slice() {
        [] => "Nothing needs you.".to_owned(),
        [one] => format!("One needs you: {one}."),
        several => format!("{} need you: {}.", several.len(), several.join(", ")),
    };
    let sub = format!(
        "{} of {customer}. {needs}",
        if apps.len() == 1 { "1 app".to_owned() } else { format!("{} apps", apps.len()) }
    );
    let price = page.user.and_then(|user| user.spent).filter(|_| apps.iter().any(|app| app.cost.is_some()));
    let moves = apps.iter().any(|app| app.health == AppHealth::Deploying);
    let alive = if moves { crate::frame::Alive::Again } else { crate::frame::Alive::No };
    Frame::new(page, "Apps · Berth").place(Place::Apps).alive(alive).html(move || {
        let rows: Vec<_> = apps
            .into_iter()
            .map(|app| {
                let state = health(app.health, app.release.is_some());
                let class = format!("state {}", state.kind);
                let href = format!("/apps/{}", app.name);
                let address = bare(&app.url);
                let spark = sparks.get(&app.name).map(|seen| spark(&app.name, seen));
                let last = app.last_deploy.map(|deploy| {
                    view! { <span>" · last pushed " {Moment::of(now, deploy.created)}</span> }
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
                        <a class="url" href=app.url>
                            {address}
                        </a>
                        <span class=class>{state.word}</span>
                        <p class="rel">
                            {app.summary}
                            {last}
                        </p>
                        {spark}
                        {cost}
                    </li>
                }
            })
            .collect();
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
                <p class="sub">{sub}</p>
            </header>
            <section aria-label="Apps">
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
