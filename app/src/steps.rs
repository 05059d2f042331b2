//! A deploy's steps, each with its time.

use std::time::Duration;

use commands::{DeployRow, DeployView, Piece, StepView};
use domain::{Cause, Outcome, Step, Time};
use islands::words::{share, so_far, took};
use leptos::prelude::*;

use crate::state;

pub fn millis(long: Duration) -> u64 {
    u64::try_from(long.as_millis()).unwrap_or(u64::MAX)
}

/// At most 80 characters of what a stranger wrote, where a line is enough.
pub fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Build => "Build",
        Step::Release => "Release phase",
        Step::Start => "Start",
        Step::Switch => "Switch",
        Step::Branch => "Branch",
        Step::Drain => "Drain",
    }
}

/// What a step that has not begun will do.
fn promise(step: Step) -> &'static str {
    match step {
        Step::Build => "The commit becomes an image",
        Step::Release => "The app’s process release runs once",
        Step::Start => "New instances start and have to answer",
        Step::Switch => "All requests go to the new instances",
        Step::Branch => "The branch moves to the commit",
        Step::Drain => "Old instances finish what they have",
    }
}

/// Shorter ones are not worth a row.
const WAIT_MS: u64 = 1000;

/// How long the whole deploy took, or takes: counted from the push.
pub fn whole(deploy: &DeployView, now: Time) -> u64 {
    let open = !deploy.row.state.is_final();
    let ends = deploy.row.steps.iter().map(|step| step.ended.unwrap_or(now));
    let last = ends.chain(deploy.row.ended).chain(open.then_some(now)).max().unwrap_or(now);
    millis(last.since(deploy.row.created))
}

/// The state's pill; while the deploy is open, with the seconds so far.
pub fn ticking(deploy: &DeployView, now: Time) -> AnyView {
    let said = state::deploy(&deploy.row);
    if deploy.row.state.is_final() {
        return state::pill(said).into_any();
    }
    let ms = millis(now.since(deploy.row.created));
    view! {
        <span class=format!("state pill {}", said.kind)>
            <span>{said.word} ", " <span data-ticks=ms.to_string()>{so_far(ms)}</span></span>
        </span>
    }
    .into_any()
}

/// "build 8.2 s, start 1.1 s": those that ended.
pub fn step_times(row: &DeployRow) -> String {
    let ended = row.steps.iter().filter_map(|step| {
        let ms = millis(step.ended?.since(step.started));
        Some(format!("{} {}", step.step, took(ms)))
    });
    ended.collect::<Vec<_>>().join(", ")
}

pub fn steps(deploy: &DeployView, now: Time) -> AnyView {
    let whole = whole(deploy, now);
    let open = !deploy.row.state.is_final();
    let found = |step| deploy.facts.as_ref().and_then(|facts| facts.found.get(&step));
    let items: Vec<_> = Step::ALL
        .iter()
        .filter_map(|&word| match deploy.row.steps.iter().rfind(|step| step.step == word) {
            Some(step) => Some(begun(step, found(word), deploy.row.created, whole, now)),
            // A deploy that is over has no steps to come.
            None => (open && comes(&deploy.row, word)).then(|| to_come(word)),
        })
        .collect();
    view! { <ol class="steps">{waited(deploy, whole, now)} {items}</ol> }.into_any()
}

/// Until its first step began: one deploy of an app at a time, and so many builds of a customer.
fn waited(deploy: &DeployView, whole: u64, now: Time) -> Option<AnyView> {
    let first = deploy.row.steps.iter().map(|step| step.started).min();
    let ms = millis(first.or(deploy.row.ended).unwrap_or(now).since(deploy.row.created));
    if ms < WAIT_MS {
        return None;
    }
    let waits = first.is_none() && !deploy.row.state.is_final();
    let (class, spoken) =
        if waits { ("busy", Some(view! { <span class="vh">" (running)"</span> })) } else { ("", None) };
    let time = if waits { ticks(ms) } else { view! { <span class="n">{took(ms)}</span> }.into_any() };
    Some(
        view! {
            <li class=class>
                <span>"Waited" {spoken}</span>
                {bar(0, ms, whole)}
                {time}
                <p>"Until it was its turn"</p>
            </li>
        }
        .into_any(),
    )
}

/// Where in the whole, and how long.
fn bar(from: u64, ms: u64, whole: u64) -> AnyView {
    let (from, width) = (share(from, whole, 0), share(ms, whole, 10));
    view! {
        <svg aria-hidden="true">
            <rect class="track" width="100%" height="6" rx="3"></rect>
            <rect x=from width=width height="6" rx="3"></rect>
        </svg>
    }
    .into_any()
}

fn ticks(ms: u64) -> AnyView {
    view! {
        <span class="n" data-ticks=ms.to_string()>
            {so_far(ms)}
        </span>
    }
    .into_any()
}

fn piece(piece: &Piece) -> AnyView {
    match piece {
        Piece::Text(text) => text.clone().into_any(),
        Piece::Code(code) => {
            let code = shown(code);
            view! { <code>{code}</code> }.into_any()
        }
    }
}

/// Only a push moves a branch; what has an image is not built.
fn comes(row: &DeployRow, step: Step) -> bool {
    match step {
        Step::Build | Step::Branch => row.cause == Cause::Push,
        // Whether there is one, the build finds out.
        Step::Release => false,
        Step::Start | Step::Switch | Step::Drain => true,
    }
}

/// `found`: what it did, where that is known; what was said at its end goes before.
fn begun(step: &StepView, found: Option<&Vec<Piece>>, pushed: Time, whole: u64, now: Time) -> AnyView {
    let ms = millis(step.ended.unwrap_or(now).since(step.started));
    let (class, spoken) = match (step.outcome, step.ended) {
        (Some(Outcome::Failed), _) => ("broke", " (failed)"),
        (Some(Outcome::Done), _) | (None, Some(_)) => ("", ""),
        (None, None) => ("busy", " (running)"),
    };
    let time = match step.ended {
        Some(_) => view! { <span class="n">{took(ms)}</span> }.into_any(),
        None => ticks(ms),
    };
    let from = millis(step.started.since(pushed));
    // Why a deploy failed stands above, whole.
    let said = step.detail.as_deref().filter(|said| !said.is_empty() && step.outcome != Some(Outcome::Failed));
    let note = match (said, found) {
        (Some(said), _) => Some(view! { <p>{said.to_owned()}</p> }.into_any()),
        (None, Some(found)) => {
            let pieces: Vec<_> = found.iter().map(piece).collect();
            Some(view! { <p>{pieces}</p> }.into_any())
        }
        (None, None) => None,
    };
    let spoken = (!spoken.is_empty()).then(|| view! { <span class="vh">{spoken}</span> });
    view! {
        <li class=class>
            <span>{name(step.step)} {spoken}</span>
            {bar(from, ms, whole)}
            {time}
            {note}
        </li>
    }
    .into_any()
}

fn to_come(step: Step) -> AnyView {
    view! {
        <li class="todo">
            <span>{name(step)} <span class="vh">" (not yet)"</span></span>
            <svg aria-hidden="true">
                <rect class="track" width="100%" height="6" rx="3"></rect>
            </svg>
            <span class="n"></span>
            <p>{promise(step)}</p>
        </li>
    }
    .into_any()
}
