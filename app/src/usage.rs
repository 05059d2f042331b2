//! How much, how fast, since when? One app's use over an hour, a day or a month.

use commands::{AppView, Range, RangeCost, UsageView};
use domain::{AppState, DeployState};
use leptos::prelude::*;

use crate::app::push_commands;
use crate::cost;
use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::graphs::{Room, graphs};
use crate::head::{Tab, head};
use crate::live::bare;
use crate::log::lines_of;
use crate::region::Region;
use crate::when::{day_minute, weekday};

/// `cost`: of what is shown; `None`: it is not known just now.
pub fn usage(page: Page<'_>, app: AppView, usage: UsageView, cost: Option<RangeCost>) -> String {
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
        let drawn = usage_region(&app, &usage, cost.as_ref()).view();
        view! {
            {head(&app, Tab::Usage)}
            <div class="actions bar">
                <nav class="actions" aria-label="Range">
                    {ranges}
                </nav>
                <span class="hint">{span(&usage)}</span>
            </div>
            <islands::Graphs>{drawn}</islands::Graphs>
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

/// The graphs with what they cost, or what is so when there are none.
pub fn usage_region(app: &AppView, usage: &UsageView, cost: Option<&RangeCost>) -> Region {
    if usage.total.is_some() {
        return Region { name: "graphs", html: graphs(usage, Room::Page, cost) };
    }
    let cost = cost.filter(|cost| cost.total.exact > domain::Money::ZERO);
    let costs = cost.map(|cost| cost::of_range(cost, usage.range));
    Region::new("graphs", view! { {empty(app, usage.range)} {costs} })
}

/// The last hour on the app's own page; nothing before its first release.
pub fn part(app: &AppView, usage: &UsageView) -> Region {
    let html = match (app.release, &usage.total) {
        (None, None) => String::new(),
        (_, None) => "<p class=\"hint\">Nothing was seen of it in the last hour.</p>".to_owned(),
        _ => graphs(usage, Room::Part, None),
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

/// Why there is nothing, and what to do next.
fn empty(app: &AppView, range: Range) -> AnyView {
    let href = format!("/apps/{}", app.name);
    let newest = app.deploys.first();
    let link = |href: String, words: String| view! { <p><a href=href>{words}</a></p> }.into_any();
    let (title, words, next) = match (app.release, newest) {
        (None, None) => (
            "Nothing runs yet.",
            "Push your code, in the folder that it is in: graphs and costs begin with its first release.".to_owned(),
            lines_of(push_commands(app), "The commands to push").into_any(),
        ),
        (None, Some(deploy)) => {
            let (words, next) = match deploy.state {
                DeployState::Failed => (format!("v{} was not switched on.", deploy.number), "See why"),
                _ => (format!("v{} is being deployed.", deploy.number), "Watch"),
            };
            let words = format!("{words} Graphs and costs begin with the first release that serves.");
            ("Nothing runs yet.", words, link(format!("{href}/deploys/{}", deploy.number), next.to_owned()))
        }
        (Some(release), _) if app.state == AppState::Stopped => (
            "It is stopped.",
            format!("It used nothing in {}. Start brings v{release} back.", word_in(range)),
            link(href, format!("Start {}", app.name)),
        ),
        (Some(_), _) => {
            let title = match range {
                Range::Month => "A month with no data.",
                _ => "Nothing was seen in this time.",
            };
            let words = format!(
                "It did not run in {}, or nothing reached us yet. Open it: what it does then is here within half a minute.",
                word_in(range)
            );
            let longer = (range != Range::Month).then(|| {
                let href = format!("{href}/usage?range=30d");
                view! { " · " <a href=href>"30 days"</a> }
            });
            let (url, address) = (app.url.clone(), bare(&app.url));
            let logs = format!("{href}/logs");
            let next = view! {
                <p><a href=url>{address}</a> " · " <a href=logs>"What it said last"</a> {longer}</p>
            };
            (title, words, next.into_any())
        }
    };
    view! {
        <section class="sheet stack">
            <h2>{title}</h2>
            <p>{words}</p>
            {next}
        </section>
    }
    .into_any()
}

/// "the last hour"
fn word_in(range: Range) -> &'static str {
    match range {
        Range::Hour => "the last hour",
        Range::Day => "the last day",
        Range::Month => "these 30 days",
    }
}
