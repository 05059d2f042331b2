//! Who did what, when, from where, and what changed by it.

use commands::EventView;
use domain::Time;
use leptos::prelude::*;

use crate::frame::{Frame, Page, Place};
use crate::when::Moment;

pub struct ActivityPage {
    /// Of one app, or of the whole account.
    pub app: Option<String>,
    pub events: Vec<EventView>,
    /// These are not the newest.
    pub older: bool,
    /// Where the next page begins.
    pub next: Option<i64>,
}

pub fn activity(page: Page<'_>, shown: ActivityPage) -> String {
    let now = page.now;
    let (place, title) = match &shown.app {
        Some(app) => (Place::Apps, format!("Activity of {app}")),
        None => (Place::Account, "Activity".to_owned()),
    };
    Frame::new(page, format!("{title} · Berth")).place(place).html(move || {
        let (up, of) = match &shown.app {
            Some(app) => (format!("/apps/{app}"), app.clone()),
            None => ("/account".to_owned(), "Account".to_owned()),
        };
        let sub = match &shown.app {
            Some(_) => "Every command of a person on this app, the newest first.",
            None => "Every command of a person on your account, the newest first.",
        };
        let here = format!("{up}/activity");
        let newest = shown.older.then(|| view! { <a href=here.clone()>"Newest"</a> });
        let older = shown.next.map(|id| view! { <a href=format!("{here}?before={id}")>"Older"</a> });
        view! {
            <header class="head">
                <nav class="crumbs" aria-label="Breadcrumb">
                    <a href=up>{of}</a>
                </nav>
                <h1>{title}</h1>
                <p class="sub">{sub}</p>
            </header>
            <section class="sheet" aria-label="What was done">
                {list(shown.events, now)}
                <p class="row">{newest} {older}</p>
            </section>
        }
    })
}

/// A rail of them.
pub fn list(events: Vec<EventView>, now: Time) -> AnyView {
    if events.is_empty() {
        return view! { <p class="hint">"Nothing was done yet."</p> }.into_any();
    }
    let rows: Vec<_> = events
        .into_iter()
        .map(|event| {
            let by = event.by.clone().unwrap_or_else(|| match event.door.as_str() {
                "shell" => "the operator".to_owned(),
                _ => "somebody who is gone".to_owned(),
            });
            let door = match event.door.as_str() {
                "page" => "on the site",
                "ssh" => "by SSH",
                "shell" => "on the server itself",
                _ => "in another way",
            };
            let from = event.origin.map(|address| format!(", from {address}"));
            let what = format!("{}{}", capital(&event.verb), if event.subject.is_empty() { "" } else { " " });
            let change = match (event.before, event.after) {
                (Some(before), Some(after)) => Some(format!("{before} → {after}")),
                (None, Some(after)) => Some(after),
                (Some(before), None) => Some(format!("before: {before}")),
                (None, None) => None,
            };
            view! {
                <li>
                    <b>{what}<span class="said">{event.subject}</span></b>
                    {change.map(|change| view! { <p class="said">{change}</p> })}
                    <p>{by} " " {door} {from} ", " {Moment::of(now, event.at)}</p>
                </li>
            }
        })
        .collect();
    view! { <ol class="rail">{rows}</ol> }.into_any()
}

fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
