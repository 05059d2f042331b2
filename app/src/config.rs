//! An app's config vars: what it finds in its environment. A secret is never shown again, not even to who set it.

use commands::{AppView, ConfigView, VarView};
use domain::AppState;
use leptos::prelude::*;

use crate::form::{Area, Field, Typed, summary};
use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::head::{Tab, head};
use crate::region::Region;
use crate::table::heads;
use crate::when::Moment;

/// What was typed. The value of a secret, and the text of many, are never sent back.
#[derive(Debug, Clone)]
pub struct ConfigForm {
    pub name: Typed,
    pub value: Typed,
    pub secret: bool,
    /// What was wrong with many.
    pub text: Option<String>,
}

impl Default for ConfigForm {
    fn default() -> Self {
        Self { name: Typed::default(), value: Typed::default(), secret: true, text: None }
    }
}

pub fn config(page: Page<'_>, app: AppView, config: ConfigView, form: ConfigForm) -> String {
    let now = page.now;
    let mut frame = Frame::new(page, format!("Config of {} · Berth", config.app)).place(Place::Apps);
    // A release that rolls a change out ends, and then the page says so.
    frame = frame.alive(if config.deploy.is_some() { Alive::Moves } else { Alive::Live });
    frame = frame.events(Events { path: format!("/apps/{}/config/events", config.app), after: String::new() });
    frame.html(move || {
        let name = config.app.to_string();
        let text = Typed { value: String::new(), error: form.text };
        let wrong = summary(
            None,
            &[("name", "the name", &form.name), ("value", "the value", &form.value), ("text", "the lines", &text)],
        );
        let notice = config_notice(&config).view();
        let action = format!("/apps/{name}/config");
        let many = format!("/apps/{name}/config/many");
        let rows: Vec<_> = config.vars.into_iter().map(|var| row(&name, var, now)).collect();
        let table = if rows.is_empty() {
            let hint = "None yet. What you set here is in the environment of every process of the app.";
            view! { <p class="hint">{hint}</p> }.into_any()
        } else {
            view! {
                <table class="fold">
                    {heads(&[("Name", ""), ("Value", ""), ("Set", ""), ("Change", "vh")])}
                    <tbody>{rows}</tbody>
                </table>
            }
            .into_any()
        };
        let open = text.error.is_some();
        view! {
            {head(&app, Tab::Config)}
            {wrong}
            {notice}
            <section class="sheet" id="vars">
                <header>
                    <h2>"Config vars"</h2>
                    <span>"A change makes a release and restarts the app"</span>
                </header>
                {table}
                <form class="stack" id="set" method="post" action=action novalidate>
                    <h3>"Set a variable"</h3>
                    <div class="row">
                        <Field id="name" label="Name" typed=form.name autocomplete="off"/>
                        <Field id="value" label="Value" typed=form.value autocomplete="off" empty=true/>
                    </div>
                    <label class="check">
                        <input type="checkbox" name="secret" value="yes" checked=form.secret/>
                        " "
                        <span>"Secret: nobody can read it here again, you can only replace it"</span>
                    </label>
                    <p class="actions">
                        <button type="submit" class="btn main">
                            "Set and restart"
                        </button>
                    </p>
                </form>
                <details open=open>
                    <summary>"Set many at once from a .env file"</summary>
                    <form class="stack" method="post" action=many novalidate>
                        <Area id="text" label="Lines such as API_KEY=value" rows="6" typed=text
                            hint=|| "All of them become secrets, in one release."/>
                        <p>
                            <button type="submit" class="btn">
                                "Set all and restart"
                            </button>
                        </p>
                    </form>
                </details>
            </section>
            <section class="sheet stack" id="domains">
                <h2>"Domains"</h2>
                <dl class="facts">
                    <dt>"Its address"</dt>
                    <dd>
                        <a href=config.url.clone()>{config.url.clone()}</a>
                    </dd>
                </dl>
                <p class="hint">"It is made for the app, and goes with it. Domains of your own are not served yet."</p>
            </section>
            {stop_or_delete(&app)}
        }
    })
}

/// As the address of the app's own page says: stopping is taken back at any time, deleting asks for the name.
fn stop_or_delete(app: &AppView) -> AnyView {
    let name = app.name.to_string();
    let (verb, word, what) = match app.state {
        AppState::Stopped => ("start", "Start", "What served serves again, with the config vars above."),
        _ => (
            "stop",
            "Stop",
            "Visitors see a page that says that it is paused. Releases and config vars are kept. Start it again at any time.",
        ),
    };
    let act = format!("/apps/{name}/{verb}");
    let delete = format!("/apps/{name}/delete");
    view! {
        <section class="sheet danger" id="danger">
            <h2>"Stop or delete"</h2>
            <div class="half">
                <form class="stack" method="post" action=act>
                    <h3>{format!("{word} {name}")}</h3>
                    <p class="hint">{what}</p>
                    <button type="submit" class="btn bad">{format!("{word} {name}")}</button>
                </form>
                <form class="stack" method="post" action=delete novalidate>
                    <h3>{format!("Delete {name}")}</h3>
                    <p class="hint">"Its instances stop and its address is gone. This cannot be undone. Nobody but you gets the name for 90 days."</p>
                    <div class="field">
                        <label for="sure">"Type " <b>{name.clone()}</b> " to confirm"</label>
                        <input type="text" id="sure" name="name" autocomplete="off" spellcheck="false"/>
                    </div>
                    <button type="submit" class="btn bad">{format!("Delete {name}")}</button>
                </form>
            </div>
        </section>
    }
    .into_any()
}

/// What the config's page says of the release that rolls a change out.
pub fn config_notice(config: &ConfigView) -> Region {
    Region::new("config", notice(config))
}

fn notice(config: &ConfigView) -> Option<AnyView> {
    let app = &config.app;
    if let Some(number) = config.deploy {
        let href = format!("/apps/{app}/deploys/{number}");
        let link = view! { <a href=href>"v" {number}</a> };
        return Some(
            view! {
                <div class="notice" role="status">
                    <p>"What was changed goes live with " {link} "; nothing for you to do."</p>
                </div>
            }
            .into_any(),
        );
    }
    config.stale.then(|| {
        let action = format!("/apps/{app}/restart");
        view! {
            <div class="notice warn" role="status">
                <p>"What serves was started with other values than these. They take effect with its next deploy or restart."</p>
                <form method="post" action=action>
                    <button type="submit" class="btn small">
                        "Restart now"
                    </button>
                </form>
            </div>
        }
        .into_any()
    })
}

fn row(app: &str, var: VarView, now: domain::Time) -> AnyView {
    let value = match var.value {
        Some(value) => view! { <code>{value}</code> }.into_any(),
        None => {
            let bytes =
                if var.bytes == 1 { "secret, 1 byte".to_owned() } else { format!("secret, {} bytes", var.bytes) };
            view! {
                <span class="secret" aria-hidden="true">
                    "••••••••"
                </span>
                " "
                <small>{bytes}</small>
            }
            .into_any()
        }
    };
    let by = var.by.map(|by| format!("{by}, ")).unwrap_or_default();
    let action = format!("/apps/{app}/config/unset");
    view! {
        <tr>
            <th scope="row" class="wide">
                <code>{var.name.clone()}</code>
            </th>
            <td>{value}</td>
            <td class="gone">{by} {Moment::of(now, var.since)}</td>
            <td>
                <form method="post" action=action>
                    <input type="hidden" name="name" value=var.name.clone()/>
                    <button type="submit" class="btn small">
                        "Unset"
                        <span class="vh">" " {var.name}</span>
                    </button>
                </form>
            </td>
        </tr>
    }
    .into_any()
}
