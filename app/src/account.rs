//! The signed-in user's own settings: keys, password, sessions; what they may use, and what was done.

use commands::{EventView, KeyView, LimitsView, TokenView};
use domain::Time;
use leptos::prelude::*;

use crate::form::{Area, Field, NewPassword, Typed, summary};
use crate::frame::{Alive, Frame, Page, Place, crumbs};
use crate::table::heads;
use crate::tokens::{TokenForm, section};
use crate::verbs::button;
use crate::when::Moment;
use crate::{activity, limits};

/// The form that adds a key. A private key is never kept here: whoever fills this drops it.
#[derive(Debug, Clone, Default)]
pub struct KeyForm {
    pub name: Typed,
    pub key: Typed,
    pub general: Option<String>,
}

/// The form that changes the password; what was typed is never sent back.
#[derive(Debug, Clone, Default)]
pub struct PasswordForm {
    pub old: Option<String>,
    pub password: Option<String>,
    pub general: Option<String>,
}

pub struct AccountPage {
    pub keys: Vec<KeyView>,
    pub key: KeyForm,
    pub password: PasswordForm,
    pub tokens: Vec<TokenView>,
    pub token: TokenForm,
    pub limits: LimitsView,
    /// The newest.
    pub events: Vec<EventView>,
}

pub fn account(page: Page<'_>, shown: AccountPage) -> String {
    let now = page.now;
    let who = page.user.map(|user| (user.name.clone(), user.email.to_string())).unwrap_or_default();
    let has_password = page.user.is_some_and(|user| user.has_password);
    let AccountPage { keys, key, password, tokens, token, limits, events } = shown;
    let alive = if token.made.is_some() { Alive::Buttons } else { Alive::No };
    let general = key.general.clone().or(password.general);
    let typed = |error| Typed { value: String::new(), error };
    let (old, new) = (typed(password.old), typed(password.password));
    let email = who.1.clone();
    Frame::new(page, "Account · Berth").place(Place::Account).alive(alive).html(move || {
        let wrong = summary(
            general.as_deref(),
            &[
                ("key", "the key", &key.key),
                ("key-name", "its name", &key.name),
                ("old", "your password", &old),
                ("password", "the new password", &new),
                ("token-name", "the token's name", &token.name),
                ("lasts", "how long it lasts", &token.lasts),
            ],
        );
        view! {
            <header class="head">
                <div class="title">
                    <h1>"Account"</h1>
                    <p class="where">
                        {who.0}
                        " · "
                        {who.1}
                    </p>
                </div>
            </header>
            {wrong}
            <div class="cols">
                <div>
                    <section class="sheet" id="keys">
                        <header>
                            <h2>"SSH keys"</h2>
                            <span>"for git push"</span>
                        </header>
                        {table(keys, now)}
                        {key_form(key, "/account/keys", None)}
                    </section>
                    {section(tokens, token, now)}
                    <section class="sheet" id="activity">
                        <header>
                            <h2>"Who changed what"</h2>
                            <a href="/account/activity">"All of it"</a>
                        </header>
                        {activity::list(events, now)}
                    </section>
                </div>
                <aside>
                    <section class="sheet" id="limits">
                        <h2>"What you may use"</h2>
                        {limits::table(&limits)}
                        <p class="hint">"More than that? Ask the operator."</p>
                    </section>
                    {password_form(email, has_password, old, new)}
                    <section class="sheet" id="sessions">
                        <h2>"Signed in"</h2>
                        <p class="hint">
                            "Lost a computer, or signed in on one that is not yours? This ends every session of yours, this one too. Tokens and SSH keys go on: revoke or remove those beside this."
                        </p>
                        <form method="post" action="/account/signout-everywhere">
                            <button type="submit" class="btn small">
                                "Sign out everywhere"
                            </button>
                        </form>
                    </section>
                    <section class="sheet stack" id="delete">
                        <h2>"Leave"</h2>
                        <p class="hint">"Erases what is yours here: name, address, keys."</p>
                        <p>
                            <a href="/account/delete">"Delete your account"</a>
                        </p>
                    </section>
                </aside>
            </div>
        }
    })
}

/// Asks once more before somebody is erased. `general`: what stands in the way.
pub fn delete_user(page: Page<'_>, typed: Typed, general: Option<String>) -> String {
    let email = page.user.map(|user| user.email.to_string()).unwrap_or_default();
    Frame::new(page, "Delete your account · Berth").place(Place::Account).html(move || {
        let wrong = summary(general.as_deref(), &[("email", "your address", &typed)]);
        view! {
            <header class="head">
                {crumbs(&[("/account", "Account")])}
                <div class="title">
                    <h1>"Delete your account"</h1>
                    <p class="where">{email.clone()}</p>
                </div>
            </header>
            {wrong}
            <section class="sheet danger stack">
                <p>
                    "Your name, your address, your password, your keys and your tokens are erased, and you are signed out everywhere. What was used and paid stays in the books, under a number."
                </p>
                <p>"Your apps have to be deleted first, unless somebody else belongs to your account. This cannot be undone."</p>
                <form class="form" method="post" action="/account/delete" novalidate>
                    <Field id="email" label="Your address" autocomplete="off" typed=typed hint=|| "Type it, so that nobody deletes by mistake."/>
                    <p>
                        <button type="submit" class="btn bad">
                            "Delete my account"
                        </button>
                    </p>
                </form>
            </section>
        }
    })
}

fn password_form(email: String, has_password: bool, old: Typed, new: Typed) -> AnyView {
    let (title, hint) = match has_password {
        true => ("Change the password", "Every other browser is signed out. Tokens and SSH keys go on."),
        false => ("Set a password", "You signed in by a link. With a password you need none."),
    };
    let old = has_password.then(|| {
        view! { <Field id="old" label="Your password" typed=old kind="password" autocomplete="current-password"/> }
    });
    view! {
        <section class="sheet" id="password-form">
            <h2>{title}</h2>
            <p class="hint">{hint}</p>
            <form class="form" method="post" action="/account/password" novalidate>
                // For what keeps passwords.
                <input type="text" name="username" autocomplete="username" value=email hidden/>
                {old}
                <NewPassword label="New password" typed=new/>
                <p>
                    <button type="submit" class="btn small">
                        "Set password"
                    </button>
                </p>
            </form>
        </section>
    }
    .into_any()
}

fn table(keys: Vec<KeyView>, now: Time) -> AnyView {
    if keys.is_empty() {
        return view! { <p>"A push needs one. Paste the public half of yours below."</p> }.into_any();
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|key| {
            let used = match key.last_used {
                Some(at) => Moment::of(now, at),
                None => view! { "not yet" }.into_any(),
            };
            let action = format!("/account/keys/{}/remove", key.id);
            let name = format!(" {}", key.name);
            view! {
                <tr>
                    <th scope="row">{key.name}</th>
                    <td class="wide">
                        <code>{key.fingerprint}</code>
                    </td>
                    <td>{used}</td>
                    <td class="n">{button(action, "Remove", name)}</td>
                </tr>
            }
        })
        .collect();
    view! {
        <table class="fold">
            {heads(&[("Name", ""), ("Fingerprint", ""), ("Last used", ""), ("Change", "vh")])}
            <tbody>{rows}</tbody>
        </table>
    }
    .into_any()
}

/// `to`: the page to come back to, when it is not the account.
pub fn key_form(form: KeyForm, action: &'static str, to: Option<&'static str>) -> AnyView {
    let KeyForm { name, key, general: _ } = form;
    view! {
        <form class="form" method="post" action=action novalidate>
            <Area id="key" label="Public key" rows="3" typed=key placeholder="ssh-ed25519 AAAA…" hint=|| view! {
                <code>"cat ~/.ssh/id_ed25519.pub"</code>
                " shows it. No such file? "
                <code>"ssh-keygen -t ed25519"</code>
                " makes one. Never paste the private key, the one that begins with -----BEGIN."
            }/>
            <Field id="key-name" label="Its name"
                empty=true typed=name hint=|| "To tell your keys apart. Left empty, it is the comment in the key."/>
            {to.map(|to| view! { <input type="hidden" name="to" value=to/> })}
            <p>
                <button type="submit" class="btn main">
                    "Add key"
                </button>
            </p>
        </form>
    }
    .into_any()
}
