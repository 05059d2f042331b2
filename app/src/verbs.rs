//! What a person may ask of an app and its deploys: buttons and forms, each a plain POST.

use std::collections::BTreeMap;

use commands::{AppView, DeployRow, Offer, ProcessView};
use domain::{AppState, Cause, ProcessName};
use leptos::prelude::*;

use crate::form::{Field, Typed, summary};
use crate::frame::{Frame, Page, Place, crumbs_of};

fn button(action: String, label: &'static str, of: String) -> AnyView {
    view! {
        <form method="post" action=action>
            <button type="submit" class="btn small">
                {label}
                <span class="vh">{of}</span>
            </button>
        </form>
    }
    .into_any()
}

/// Stop, start, restart. Nothing before the first deploy.
pub fn acts(app: &AppView) -> Option<AnyView> {
    if app.deploys.is_empty() && app.state == AppState::Running {
        return None;
    }
    let act = |verb: &str, label| button(format!("/apps/{}/{verb}", app.name), label, format!(" {}", app.name));
    let running = app.state == AppState::Running;
    let restart = (running && app.release.is_some()).then(|| act("restart", "Restart"));
    let other = if running { act("stop", "Stop") } else { act("start", "Start") };
    Some(view! { <div class="actions">{restart} {other}</div> }.into_any())
}

/// The one thing that may be asked of a deploy now.
pub fn offer(app: &str, row: &DeployRow) -> Option<AnyView> {
    let (verb, label) = match row.offer? {
        Offer::RollBack => ("roll-back", "Roll back to it"),
        Offer::Again => ("again", "Deploy again"),
        Offer::Cancel => ("cancel", "Cancel"),
    };
    let number = row.number;
    Some(button(format!("/apps/{app}/deploys/{number}/{verb}"), label, format!(" v{number}")))
}

/// Why there is this deploy; a push needs no word.
pub fn cause(row: &DeployRow) -> Option<String> {
    let of = row.origin.map_or_else(|| "an earlier release".to_owned(), |n| format!("v{n}"));
    match row.cause {
        Cause::Push => None,
        Cause::Restart => Some(format!("Restart of {of}")),
        Cause::Rollback => Some(format!("Roll back to {of}, image and config")),
        Cause::Resize => Some(format!("Other sizes for {of}")),
        Cause::Again => Some(format!("{of} once more")),
        Cause::Config => Some("Config vars changed".to_owned()),
    }
}

/// What was typed into the form of [`scale`] and could not be done; empty when it was not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scaled {
    /// By the fields' names.
    pub typed: BTreeMap<String, String>,
    /// About a process type, or all of them.
    pub wrong: Option<(Option<ProcessName>, String)>,
}

/// The field of a process type's size. A dot stands in no process type.
pub fn memory_field(process: &str) -> String {
    format!("memory.{process}")
}

/// How many of each process type run, and how big. Not redrawn while it is filled in.
pub fn scale(app: &AppView, form: &Scaled) -> Option<AnyView> {
    if app.processes.is_empty() && form.wrong.is_none() {
        return None;
    }
    let fields: Vec<_> = app.processes.iter().map(|p| process(p, form)).collect();
    let action = format!("/apps/{}/scale", app.name);
    let has_field = |process: &ProcessName| app.processes.iter().any(|p| p.process == *process);
    let all = match &form.wrong {
        Some((Some(process), _)) if has_field(process) => None,
        wrong => wrong.as_ref().map(|(_, why)| why.clone()),
    };
    Some(
        view! {
            <section class="sheet stack" id="scale">
                <h2>"What runs"</h2>
                <form class="form" method="post" action=action novalidate>
                    {fields}
                    {all.map(|why| view! { <p class="err">{why}</p> })}
                    <p class="hint">"Another size is rolled out like a deploy."</p>
                    <p>
                        <button type="submit" class="btn small">
                            "Scale"
                        </button>
                    </p>
                </form>
            </section>
        }
        .into_any(),
    )
}

fn process(p: &ProcessView, form: &Scaled) -> AnyView {
    let name = p.process.to_string();
    let (id, memory) = (format!("count-{name}"), memory_field(&name));
    let wrong = match &form.wrong {
        Some((Some(process), why)) if *process == p.process => Some(why.clone()),
        _ => None,
    };
    let count = form.typed.get(&name).cloned().unwrap_or_else(|| p.count.to_string());
    let bytes = u64::try_from(p.memory_bytes).unwrap_or(0);
    let chosen = form.typed.get(&memory).cloned().unwrap_or_else(|| plan::memory_words(bytes));
    let mut sizes = plan::MEMORY_SIZES.map(plan::memory_words).to_vec();
    if !sizes.contains(&plan::memory_words(bytes)) {
        sizes.push(plan::memory_words(bytes));
    }
    let options: Vec<_> = sizes
        .into_iter()
        .map(|size| {
            let words = size.replace('M', " M").replace('G', " G");
            view! {
                <option value=size.clone() selected=size == chosen>
                    {words}
                </option>
            }
        })
        .collect();
    let error_id = format!("{id}-err");
    let described = wrong.is_some().then(|| error_id.clone());
    view! {
        <div class="field">
            <label for=id.clone()>{name.clone()}</label>
            <div class="row">
                <input
                    id=id
                    name=name.clone()
                    type="number"
                    min="0"
                    max=plan::COUNT_MAX.to_string()
                    value=count
                    aria-invalid=wrong.is_some().then_some("true")
                    aria-describedby=described
                    required
                />
                <select name=memory aria-label=format!("Memory of each {name}")>
                    {options}
                </select>
            </div>
            {wrong
                .map(|why| {
                    view! {
                        <p class="err" id=error_id>
                            {why}
                        </p>
                    }
                })}
        </div>
    }
    .into_any()
}

pub fn delete(page: Page<'_>, app: &str, typed: Typed) -> String {
    let app = app.to_owned();
    Frame::new(page, format!("Delete {app} · Berth")).place(Place::Apps).html(move || {
        let wrong = summary(None, &[("name", "the name", &typed)]);
        let action = format!("/apps/{app}/delete");
        view! {
            <header class="head">
                {crumbs_of(&app)}
                <div class="title">
                    <h1>"Delete " {app.clone()}</h1>
                </div>
            </header>
            {wrong}
            <section class="sheet danger stack">
                <p>
                    "Its instances stop and its address is gone. This cannot be undone. Nobody but you gets the name for 90 days."
                </p>
                <form class="form" method="post" action=action novalidate>
                    <Field id="name" label="Its name" autocomplete="off" typed=typed hint=|| "Type it, so that nobody deletes by mistake."/>
                    <p>
                        <button type="submit" class="btn bad">
                            "Delete it"
                        </button>
                    </p>
                </form>
            </section>
        }
    })
}
