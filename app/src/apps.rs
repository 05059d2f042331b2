//! What needs me? The apps of a customer, the worst first.

use commands::{AppHealth, AppRow};
use leptos::prelude::*;

use crate::frame::{Frame, Page, Place};
use crate::live::bare;
use crate::state::health;
use crate::when::Moment;

/// Nobody comes here without an app: that is the page of a new one.
pub fn apps(page: Page<'_>, apps: Vec<AppRow>) -> String {
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
                let last = app.last_deploy.map(|deploy| {
                    view! { <span>" · last pushed " {Moment::of(now, deploy.created)}</span> }
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
                    </li>
                    {rows}
                </ul>
            </section>
        }
    })
}
