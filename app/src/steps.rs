//! A deploy's steps, each with its time.

use std::time::Duration;

use commands::{DeployRow, DeployView, StepView};
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
        Step::Release => "Release",
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
        Step::Release => "The process `release` runs once",
        Step::Start => "New instances start and have to answer",
        Step::Switch => "All requests go to the new instances",
        Step::Branch => "The branch moves to the commit",
        Step::Drain => "Old instances finish what they have",
    }
}

/// How long the whole deploy took, or takes: counted from the push.
fn whole(deploy: &DeployView, now: Time) -> u64 {
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
    let items: Vec<_> = Step::ALL
        .iter()
        .filter_map(|&word| match deploy.row.steps.iter().rfind(|step| step.step == word) {
            Some(step) => Some(begun(step, deploy.row.created, whole, now)),
            // A deploy that is over has no steps to come.
            None => (open && comes(&deploy.row, word)).then(|| to_come(word)),
        })
        .collect();
    view! { <ol class="steps">{items}</ol> }.into_any()
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

fn begun(step: &StepView, pushed: Time, whole: u64, now: Time) -> AnyView {
    let ms = millis(step.ended.unwrap_or(now).since(step.started));
    let (class, spoken) = match (step.outcome, step.ended) {
        (Some(Outcome::Failed), _) => ("broke", " (failed)"),
        (Some(Outcome::Done), _) | (None, Some(_)) => ("", ""),
        (None, None) => ("busy", " (running)"),
    };
    let time = match step.ended {
        Some(_) => view! { <span class="n">{took(ms)}</span> }.into_any(),
        None => view! {
            <span class="n" data-ticks=ms.to_string()>
                {so_far(ms)}
            </span>
        }
        .into_any(),
    };
    let from = share(millis(step.started.since(pushed)), whole, 0);
    let width = share(ms, whole, 10);
    let note = step.detail.clone().filter(|note| !note.is_empty()).map(|note| view! { <p>{note}</p> });
    let spoken = (!spoken.is_empty()).then(|| view! { <span class="vh">{spoken}</span> });
    view! {
        <li class=class>
            <span>{name(step.step)} {spoken}</span>
            <svg aria-hidden="true">
                <rect class="track" width="100%" height="6" rx="3"></rect>
                <rect x=from width=width height="6" rx="3"></rect>
            </svg>
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
