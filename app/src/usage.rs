//! How much, how fast, since when? One app's use over an hour, a day or a month.

use commands::{AppView, Range, UsageView};
use leptos::prelude::*;

use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::graphs::{Room, graphs};
use crate::head::{Tab, head};
use crate::region::Region;
use crate::when::{day_minute, weekday};

pub fn usage(page: Page<'_>, app: AppView, usage: UsageView) -> String {
    let frame = Frame::new(page, format!("Usage of {}, {} · Berth", app.name, word(usage.range))).place(Place::Apps);
    let frame = match usage.range {
        Range::Hour => frame
            .alive(Alive::Live)
            .events(Events { path: format!("/apps/{}/usage/events", app.name), after: String::new() }),
        // These move slower than anybody looks.
        _ => frame.alive(Alive::Buttons),
    };
    frame.html(move || {
        let ranges: Vec<_> = Range::ALL
            .into_iter()
            .map(|range| {
                let href = format!("/apps/{}/usage?range={}", app.name, range.as_str());
                let current = (range == usage.range).then_some("page");
                view! { <a class="btn small" href=href aria-current=current>{word(range)}</a> }
            })
            .collect();
        let drawn = usage_region(&app, &usage).view();
        let cost = app.cost.as_ref().map(crate::cost::panel);
        view! {
            {head(&app, Tab::Usage)}
            <div class="actions bar">
                <nav class="actions" aria-label="Range">
                    {ranges}
                </nav>
                <span class="hint">{span(&usage)}</span>
            </div>
            <islands::Graphs>{drawn}</islands::Graphs>
            {cost}
        }
    })
}

fn word(range: Range) -> &'static str {
    match range {
        Range::Hour => "1 hour",
        Range::Day => "1 day",
        Range::Month => "30 days",
    }
}

fn span(usage: &UsageView) -> String {
    let (Some(first), Some(last)) = (usage.points.first(), usage.points.last()) else { return String::new() };
    let end = last.at.plus(usage.step);
    let said = |at| format!("{} {}", weekday(at), day_minute(at));
    match usage.range {
        Range::Hour => "By minutes, in UTC.".to_owned(),
        Range::Day => format!("{} to {}, by 15 minutes, in UTC.", said(first.at), said(end)),
        Range::Month => format!("{} to {}, by 8 hours, in UTC.", said(first.at), said(end)),
    }
}

/// The graphs, or what is so when there are none.
pub fn usage_region(app: &AppView, usage: &UsageView) -> Region {
    if usage.total.is_some() {
        return Region { name: "graphs", html: graphs(usage, Room::Page) };
    }
    Region::new("graphs", empty(app, usage.range))
}

/// The last hour on the app's own page; nothing before its first release.
pub fn part(app: &AppView, usage: &UsageView) -> Region {
    let html = match (app.release, &usage.total) {
        (None, None) => String::new(),
        (_, None) => "<p class=\"hint\">Nothing was seen of it in the last hour.</p>".to_owned(),
        _ => graphs(usage, Room::Part),
    };
    let name = &app.name;
    let html = match html.as_str() {
        "" => html,
        _ => format!(
            "<section class=\"sheet\" id=\"graphs\"><header><h2>Last hour</h2><span><a href=\"/apps/{name}/usage?range=1d\">1 day</a> · <a href=\"/apps/{name}/usage?range=30d\">30 days</a></span></header>{html}</section>"
        ),
    };
    Region { name: "graphs", html }
}

fn empty(app: &AppView, range: Range) -> AnyView {
    let (title, words) = match (app.release, range) {
        (None, _) => (
            "Nothing runs yet.",
            "Graphs begin with the first release. The commands to push it are on the app’s page.".to_owned(),
        ),
        (Some(_), Range::Month) => (
            "A month with no data.",
            "It did not run in these 30 days. When it does, it shows up here within a few minutes.".to_owned(),
        ),
        (Some(_), range) => (
            "Nothing was seen in this time.",
            format!(
                "It did not run in the last {}, or nothing reached us yet. What was before may be in a longer range.",
                if range == Range::Hour { "hour" } else { "day" }
            ),
        ),
    };
    let href = format!("/apps/{}", app.name);
    let name = app.name.to_string();
    view! {
        <section class="sheet stack">
            <h2>{title}</h2>
            <p>{words}</p>
            <p>
                <a href=href>"To " {name}</a>
            </p>
        </section>
    }
    .into_any()
}
