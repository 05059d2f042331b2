//! States in words: a shape, a colour and a word, so that none of them carries it alone.

use commands::{AppHealth, DeployRow};
use domain::{DeployState, InstanceState, Outcome, Step};
use leptos::prelude::*;

/// A state's component class and its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub kind: &'static str,
    pub word: &'static str,
}

const fn said(kind: &'static str, word: &'static str) -> Said {
    Said { kind, word }
}

/// An app's state. One that never served is not "down".
pub fn health(health: AppHealth, served: bool) -> Said {
    match (health, served) {
        (AppHealth::Failed, true) => said("failed", "Down"),
        (AppHealth::Failed, false) => said("failed", "Deploy failed"),
        (AppHealth::Warned, _) => said("warned", "Needs a look"),
        (AppHealth::Deploying, _) => said("deploying", "Deploying"),
        (AppHealth::Running, _) => said("running", "Running"),
        (AppHealth::Empty, _) => said("stopped", "Not deployed"),
        (AppHealth::Stopped, _) => said("stopped", "Stopped"),
    }
}

pub fn deploy(row: &DeployRow) -> Said {
    match row.state {
        DeployState::Queued => said("deploying", "Queued"),
        DeployState::Building => said("deploying", "Building"),
        DeployState::Releasing => said("deploying", "Releasing"),
        DeployState::Starting => said("deploying", "Starting"),
        DeployState::Switching => said("deploying", "Switching"),
        DeployState::Live if row.serves => said("running", "Serving"),
        DeployState::Live => said("stopped", "Replaced"),
        DeployState::Failed => said("failed", failed(row)),
        DeployState::Canceled => said("stopped", "Canceled"),
    }
}

/// A release's class in a rail, and its word.
pub fn release(row: &DeployRow) -> (&'static str, &'static str) {
    match row.state {
        state if !state.is_final() => ("busy", "deploying"),
        DeployState::Live if row.serves => ("now", "serving"),
        DeployState::Live => ("", ""),
        DeployState::Canceled => ("", "canceled"),
        _ => ("broke", "never served"),
    }
}

/// Who asked for it.
pub fn by(row: &DeployRow) -> String {
    row.by.clone().unwrap_or_else(|| "somebody who left".to_owned())
}

/// In which step, where that is known.
fn failed(row: &DeployRow) -> &'static str {
    match row.steps.iter().find(|step| step.outcome == Some(Outcome::Failed)).map(|step| step.step) {
        Some(Step::Build) => "Build failed",
        Some(Step::Release) => "Release phase failed",
        Some(Step::Start) => "Did not start",
        _ => "Failed",
    }
}

pub fn instance(state: InstanceState) -> Said {
    match state {
        InstanceState::Placed | InstanceState::Starting => said("deploying", "Starting"),
        InstanceState::Healthy => said("running", "Running"),
        InstanceState::Unhealthy => said("warned", "Does not answer"),
        InstanceState::Crashed => said("warned", "Crashed"),
        InstanceState::Failed => said("failed", "Failed"),
        InstanceState::Stopped => said("stopped", "Stopped"),
        InstanceState::Done => said("stopped", "Done"),
    }
}

pub fn pill(said: Said) -> impl IntoView {
    view! { <span class=format!("state pill {}", said.kind)>{said.word}</span> }
}

/// A reason is stored without a full stop. (It may begin with a process type: its case is kept.)
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let end = if text.is_empty() || text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    format!("{text}{end}")
}
