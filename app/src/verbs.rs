//! What a person may ask of an app and its deploys: buttons and forms, each a plain POST.

use commands::{AppView, DeployRow, Offer, ProcessView};
use domain::{AppState, Cause};
use leptos::prelude::*;

use crate::form::{Field, Typed, summary};
use crate::frame::{Frame, Page, Place};

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
    Some(view! { <div class="row">{restart} {other}</div> }.into_any())
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
        Cause::Again => Some(format!("{of} once more")),
        Cause::Config => Some("Config vars changed".to_owned()),
    }
}

/// How many of each process type run. Not redrawn while it is filled in.
pub fn scale(app: &AppView) -> Option<AnyView> {
    if app.processes.is_empty() {
        return None;
    }
    let field = |p: &ProcessView| {
        let (id, name) = (format!("count-{}", p.process), p.process.to_string());
        let each = format!("{} MiB each", p.memory_bytes >> 20);
        view! {
            <div class="field">
                <label for=id.clone()>{name.clone()}</label>
                <input id=id name=name type="number" min="0" max=commands::COUNT_MAX.to_string() value=p.count.to_string() required/>
                <p class="hint">{each}</p>
            </div>
        }
    };
    let fields: Vec<_> = app.processes.iter().map(field).collect();
    let action = format!("/apps/{}/scale", app.name);
    Some(
        view! {
            <section class="sheet stack" id="scale">
                <h2>"How many run"</h2>
                <form class="form" method="post" action=action>
                    {fields}
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

pub fn delete(page: Page<'_>, app: &str, typed: Typed) -> String {
    let app = app.to_owned();
    Frame::new(page, format!("Delete {app} · Berth")).place(Place::Apps).html(move || {
        let wrong = summary(None, &[("name", "the name", &typed)]);
        let (href, action) = (format!("/apps/{app}"), format!("/apps/{app}/delete"));
        let label = "Its name";
        view! {
            <header class="head">
                <nav class="crumbs" aria-label="Breadcrumb">
                    <a href="/apps">"Apps"</a>
                    " / "
                    <a href=href>{app.clone()}</a>
                </nav>
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
                    <Field id="name" label=label autocomplete="off" typed=typed hint=|| "Type it, so that nobody deletes by mistake."/>
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
