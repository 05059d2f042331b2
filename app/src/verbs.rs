//! What a person may ask of an app and its deploys: buttons and forms, each a plain POST.

use std::collections::BTreeMap;

use commands::{AppView, DeployRow, Offer, ProcessView};
use domain::{AppState, Cause, InstanceState, ProcessName};
use leptos::prelude::*;

use crate::form::{Field, Typed, summary};
use crate::frame::{Frame, Page, Place, crumbs_of};
use crate::steps::shown;
use crate::table::heads;

/// `of`: what it is about, where only the place says so.
pub fn button(action: String, label: impl Into<String>, of: String) -> AnyView {
    let (label, of) = (label.into(), (!of.is_empty()).then(|| view! { <span class="vh">{of}</span> }));
    view! {
        <form method="post" action=action>
            <button type="submit" class="btn small">
                {label}
                {of}
            </button>
        </form>
    }
    .into_any()
}

/// Restart, roll back, stop, start. Nothing before the first deploy.
pub fn acts(app: &AppView) -> Option<AnyView> {
    if app.deploys.is_empty() && app.state == AppState::Running {
        return None;
    }
    let act = |verb: &str, label| button(format!("/apps/{}/{verb}", app.name), label, format!(" {}", app.name));
    let running = app.state == AppState::Running;
    let restart = (running && app.release.is_some()).then(|| act("restart", "Restart"));
    let other = if running { act("stop", "Stop") } else { act("start", "Start") };
    // In one click, to what served before.
    let back = app.deploys.iter().find(|row| running && row.offer == Some(Offer::RollBack));
    let back = back.and_then(|row| offer(app.name.as_str(), row));
    Some(view! { <div class="actions">{restart} {back} {other}</div> }.into_any())
}

/// The one thing that may be asked of a deploy now.
pub fn offer(app: &str, row: &DeployRow) -> Option<AnyView> {
    let (verb, label) = match row.offer? {
        Offer::RollBack => ("roll-back", format!("Roll back to v{}", row.number)),
        Offer::Again => ("again", "Deploy again".to_owned()),
        Offer::Cancel => ("cancel", "Cancel".to_owned()),
    };
    let number = row.number;
    let of = if row.offer == Some(Offer::RollBack) { String::new() } else { format!(" v{number}") };
    Some(button(format!("/apps/{app}/deploys/{number}/{verb}"), label, of))
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

/// What was typed into a form of [`processes`] and could not be done; empty when it was not sent.
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

/// What runs: each process type with what starts it, how many are well, how big each is, and the form that
/// changes that. Nothing before the first release.
pub fn processes(app: &AppView, form: &Scaled) -> Option<AnyView> {
    if app.processes.is_empty() && form.wrong.is_none() {
        return None;
    }
    let rows: Vec<_> = app.processes.iter().map(|p| process(app, p, form)).collect();
    let has_field = |process: &ProcessName| app.processes.iter().any(|p| p.process == *process);
    let all = match &form.wrong {
        Some((Some(process), _)) if has_field(process) => None,
        wrong => wrong.as_ref().map(|(_, why)| why.clone()),
    };
    Some(
        view! {
            <section class="sheet" id="scale">
                <header>
                    <h2>"Processes"</h2>
                    <span>"Another size is rolled out like a deploy"</span>
                </header>
                {all.map(|why| view! { <p class="err" role="alert">{why}</p> })}
                <table class="fold">
                    {heads(&[("Type", ""), ("Command", ""), ("Instances", ""), ("Memory", "n"), ("Change", "vh")])}
                    <tbody>{rows}</tbody>
                </table>
            </section>
        }
        .into_any(),
    )
}

/// How many of a process type are well, of how many that should be.
fn well(app: &AppView, p: &ProcessView) -> AnyView {
    let healthy = app.instances.iter().filter(|i| {
        i.process == p.process && Some(i.release) == app.release && !i.draining && i.state == InstanceState::Healthy
    });
    let (healthy, wanted) = (healthy.count(), usize::from(p.count));
    let kind = match (app.state, wanted) {
        (AppState::Running, 1..) if healthy >= wanted => "state running",
        (AppState::Running, 1..) => "state warned",
        _ => "state stopped",
    };
    view! { <span class=kind>{format!("{} of {wanted}", healthy.min(wanted))}</span> }.into_any()
}

fn process(app: &AppView, p: &ProcessView, form: &Scaled) -> AnyView {
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
    let action = format!("/apps/{}/scale", app.name);
    let each = match p.count {
        0 => "none runs".to_owned(),
        1 => commands::size(p.memory_bytes),
        n => format!("{n} × {}", commands::size(p.memory_bytes)),
    };
    view! {
        <tr>
            <th scope="row">{name.clone()}</th>
            <td class="wide">{p.command.clone().map(|command| view! { <code class="said">{shown(&command)}</code> })}</td>
            <td>{well(app, p)}</td>
            <td class="n">{each}</td>
            <td class="wide">
                <form class="actions" method="post" action=action novalidate>
                    <label class="vh" for=id.clone()>
                        {format!("Instances of {name}")}
                    </label>
                    <input
                        id=id
                        class="few"
                        name=name.clone()
                        type="text"
                        inputmode="numeric"
                        autocomplete="off"
                        value=count
                        aria-invalid=wrong.is_some().then_some("true")
                        aria-describedby=described
                    />
                    <select class="few" name=memory aria-label=format!("Memory of each {name}")>
                        {options}
                    </select>
                    <button type="submit" class="btn small">
                        "Scale"
                        <span class="vh">{format!(" {name}")}</span>
                    </button>
                </form>
                {wrong
                    .map(|why| {
                        view! {
                            <p class="err" id=error_id>
                                {why}
                            </p>
                        }
                    })}
            </td>
        </tr>
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
