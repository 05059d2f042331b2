//! What was deployed when? All deploys of an app, the newest first.

use commands::{AppView, DeployRow};
use leptos::prelude::*;

use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::head::{Tab, head};
use crate::live::all_deploys;
use crate::log;

pub struct DeploysPage {
    pub app: AppView,
    pub rows: Vec<DeployRow>,
    /// These are not the newest.
    pub older: bool,
    /// Where the next page begins.
    pub next: Option<i64>,
}

pub fn deploys(page: Page<'_>, shown: DeploysPage) -> String {
    let DeploysPage { app, rows, older, next } = shown;
    let (now, name) = (page.now, app.name.to_string());
    let base = format!("/apps/{name}/deploys");
    let mut frame = Frame::new(page, format!("Deploys of {name} · Berth")).place(Place::Apps).alive(Alive::Buttons);
    if !older {
        let events = Events { path: format!("{base}/events"), after: String::new() };
        frame = frame.alive(Alive::Moves).events(events);
    }
    frame.html(move || {
        let newest = older.then(|| view! { <a class="btn small" href=base.clone()>"Newest"</a> });
        let next = next.map(|number| {
            view! { <a class="btn small" href=format!("{base}?before={number}")>"Older"<span class="vh">" deploys"</span></a> }
        });
        view! {
            {head(&app, Tab::Deploys)}
            <section class="sheet" id="deploys">
                <header>
                    <h2>"Deploys"</h2>
                    <span>{(!older).then(log::mark)} " newest first"</span>
                </header>
                {all_deploys(&app, &rows, now).view()}
                <nav class="actions" aria-label="Pages of deploys">{newest} {next}</nav>
            </section>
        }
    })
}
