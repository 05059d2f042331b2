//! A new app, in three steps: a key, a name, a push.

use commands::KeyView;
use domain::{Currency, Money};
use leptos::prelude::*;

use crate::account::{KeyForm, key_form};
use crate::form::{Field, Typed, summary};
use crate::frame::{Alive, Frame, Page, Place};
use crate::log::command;
use crate::money::what_it_costs;

#[derive(Debug, Clone, Default)]
pub struct NewApp {
    pub keys: Vec<KeyView>,
    pub key: KeyForm,
    pub name: Typed,
    /// About no single field: a limit, for instance.
    pub general: Option<String>,
    /// The customer has none yet.
    pub first: bool,
    /// What a small app comes to in a month.
    pub small: Option<(Currency, Money)>,
}

pub fn new_app(page: Page<'_>, new: NewApp) -> String {
    let site = page.site.clone();
    let who = page.user.map(|user| user.email.to_string()).unwrap_or_default();
    let title = if new.first { "Your first app, in three steps" } else { "A new app" };
    Frame::new(page, "New app · Berth").place(Place::Apps).alive(Alive::Buttons).html(move || {
        let wrong = summary(
            new.general.as_deref().or(new.key.general.as_deref()),
            &[("name", "the name", &new.name), ("key", "the key", &new.key.key), ("key-name", "the key’s name", &new.key.name)],
        );
        let has_key = !new.keys.is_empty();
        let known: Vec<_> = new
            .keys
            .iter()
            .map(|key| {
                view! {
                    <dt>{key.name.clone()}</dt>
                    <dd>
                        <code>{key.fingerprint.clone()}</code>
                    </dd>
                }
            })
            .collect();
        let key = match has_key {
            true => view! {
                <p class="hint">"A push with one of these keys is known to be yours. " <a href="/account#keys">"Change them"</a></p>
                <dl class="facts">{known}</dl>
            }
            .into_any(),
            false => view! {
                <p class="hint">"So that a push from your computer is known to be yours."</p>
                {key_form(new.key, "/account/keys", Some("new"))}
            }
            .into_any(),
        };
        let port = site.urls.apps_port.map(|port| format!(":{port}")).unwrap_or_default();
        let address = format!("{}://", site.urls.apps_scheme);
        let rest = format!(".{}{port}", site.urls.apps_domain);
        let push = format!("git remote add berth ssh://{}/name.git\ngit push berth main", site.urls.ssh);
        view! {
            <header class="head">
                <h1>{title}</h1>
                <p class="sub">"You are signed in as " {who} "."</p>
            </header>
            {wrong}
            <div class="cols">
                <ol class="next">
                    <li class=(!has_key).then_some("now")>
                        <h2>{if has_key { "Your SSH keys" } else { "Add your SSH key" }}</h2>
                        {key}
                    </li>
                    <li class=has_key.then_some("now")>
                        <h2>"Name your app"</h2>
                        <form class="form" method="post" action="/apps/new" novalidate>
                            <Field
                                id="name"
                                label="Name"
                                typed=new.name
                                autocomplete="off"
                                pattern="[a-z]([a-z0-9\\-]{0,38}[a-z0-9])?"
                                hint=move || {
                                    view! {
                                        "Small letters, digits and hyphens, 40 at most. It becomes the address: "
                                        {address.clone()}
                                        <i>"name"</i>
                                        {rest.clone()}
                                    }
                                }
                            />
                            <p>
                                <button type="submit" class=if has_key { "btn main" } else { "btn" }>
                                    "Create app"
                                </button>
                            </p>
                        </form>
                    </li>
                    <li>
                        <h2>"Push"</h2>
                        <p class="hint">
                            "In the folder with your code. The app’s page has these lines with its name filled in."
                        </p>
                        {command(push, "The commands to push")}
                    </li>
                </ol>
                <aside class="stack">{looks_for()} {new.small.map(what_it_costs)}</aside>
            </div>
        }
    })
}

/// The files that say what an app is.
pub fn looks_for() -> impl IntoView {
    view! {
        <section class="sheet stack">
            <h2>"What Berth looks for"</h2>
            <dl class="facts">
                <dt>"Python"</dt>
                <dd>
                    <code>"requirements.txt"</code>
                    ", "
                    <code>"pyproject.toml"</code>
                    " or "
                    <code>"uv.lock"</code>
                </dd>
                <dt>"Node"</dt>
                <dd>
                    <code>"package.json"</code>
                    " and its lock"
                </dd>
                <dt>"Static"</dt>
                <dd>
                    <code>"index.html"</code>
                </dd>
                <dt>"Start"</dt>
                <dd>
                    "a "
                    <code>"Procfile"</code>
                    " that says how; "
                    <code>"web"</code>
                    " listens on "
                    <code>"$PORT"</code>
                </dd>
            </dl>
        </section>
    }
}
