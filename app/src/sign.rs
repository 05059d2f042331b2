//! Sign up, sign in, and the one-time link.

use domain::{Currency, Money, Secret};
use leptos::prelude::*;

use crate::form::{Field, NewPassword, Typed, summary};
use crate::frame::{Frame, Page, Site};
use crate::money::what_it_costs;

/// Where somebody who signs in comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// From signing up, which says the same whether or not the address was known.
    New,
    /// From setting a password.
    Password,
    /// From confirming an address.
    Confirmed,
}

/// `name` and `email` as typed, and what was wrong with the password.
pub fn sign_up(
    page: Page<'_>,
    name: Typed,
    email: Typed,
    password: Option<String>,
    general: Option<String>,
    small: Option<(Currency, Money)>,
) -> String {
    let password = Typed { value: String::new(), error: password };
    let Site { sign_up, confirmation, approval, .. } = *page.site;
    Frame::new(page, "Create an account · Berth").html(move || {
        if !sign_up {
            return view! {
                <section class="sheet">
                    <h1>"Accounts are made by the operator"</h1>
                    <p>"Ask whoever runs this installation for one. Have one? " <a href="/signin">"Sign in"</a></p>
                </section>
            }
            .into_any();
        }
        let wrong = summary(
            general.as_deref(),
            &[("name", "your name", &name), ("email", "the e-mail address", &email), ("password", "the password", &password)],
        );
        view! {
            <div class="cols">
                <section class="sheet">
                    <header>
                        <h1>"Create an account"</h1>
                        <span>"Have one? " <a href="/signin">"Sign in"</a></span>
                    </header>
                    {wrong}
                    <form class="form" method="post" action="/signup" novalidate>
                        <Field id="name" label="Name" typed=name autocomplete="name" hint=|| "Shown beside what you push."/>
                        <Field id="email" label="E-mail" typed=email kind="email" autocomplete="email" hint=move || if confirmation { "You sign in with it. We send one mail to confirm it." } else { "You sign in with it." }/>
                        <NewPassword label="Password" typed=password/>
                        <p>
                            <button type="submit" class="btn main big">
                                "Create account"
                            </button>
                        </p>
                    </form>
                </section>
                <aside class="stack">
                    <h2>"What happens next"</h2>
                    <ol class="next">
                        {confirmation.then(|| view! {
                            <li class="now">
                                <h3>"Confirm your e-mail"</h3>
                                <p class="hint">"The link works for 24 hours."</p>
                            </li>
                        })}
                        {approval.then(|| view! {
                            <li>
                                <h3>"The operator approves"</h3>
                                <p class="hint">"We write to you when that is done. You can look around meanwhile."</p>
                            </li>
                        })}
                        <li class=(!confirmation && !approval).then_some("now")>
                            <h3>"Add your SSH key"</h3>
                            <p class="hint">"So that a push from your computer is known to be yours."</p>
                        </li>
                        <li>
                            <h3>"Name an app"</h3>
                            <p class="hint">"On the same page. Its name becomes its address."</p>
                        </li>
                        <li>
                            <h3>"git push"</h3>
                            <p class="hint">"A small app is live within seconds."</p>
                        </li>
                    </ol>
                    {small.map(what_it_costs)}
                </aside>
            </div>
        }
        .into_any()
    })
}

/// `next`: where to go after signing in; a path of ours, already checked.
pub fn sign_in(
    page: Page<'_>,
    email: Typed,
    wrong: Option<String>,
    next: Option<String>,
    welcome: Option<Welcome>,
) -> String {
    let sign_up = page.site.sign_up;
    let confirmation = page.site.confirmation;
    Frame::new(page, "Sign in · Berth").html(move || {
        let password = Typed::default();
        let wrong = summary(wrong.as_deref(), &[("email", "the e-mail address", &email)]);
        let welcome = welcome.map(|welcome| {
            let words = match welcome {
                Welcome::New if confirmation => {
                    "If the address was new, a link to confirm it is on its way. You can sign in already."
                }
                Welcome::New => "If the address was new, its account is ready. Sign in with the password that you chose.",
                Welcome::Password => "Your password is set. Sign in with it.",
                Welcome::Confirmed => "Your address is confirmed. Sign in to go on.",
            };
            view! {
                <div class="notice ok" role="status">
                    <p>{words}</p>
                </div>
            }
        });
        let new = sign_up.then(|| view! { <span>"New here? " <a href="/signup">"Create an account"</a></span> });
        view! {
            <div class="cols">
                <section class="sheet">
                    <header>
                        <h1>"Sign in"</h1>
                        {new}
                    </header>
                    {wrong}
                    {welcome}
                    <form class="form" method="post" action="/signin" novalidate>
                        <Field id="email" label="E-mail" typed=email kind="email" autocomplete="username"/>
                        <Field id="password" label="Password" typed=password kind="password" autocomplete="current-password"/>
                        {next.map(|path| view! { <input type="hidden" name="next" value=path/> })}
                        <p>
                            <button type="submit" class="btn main big">
                                "Sign in"
                            </button>
                        </p>
                    </form>
                </section>
                <aside class="stack">
                    <h2>"No password?"</h2>
                    <p class="hint">
                        "Forgotten: "
                        <a href="/reset">"set a new one"</a>
                        "."
                    </p>
                    <p class="hint">
                        "A one-time link from the operator signs you in without one. On the server, "
                        <code>"berth user link"</code>
                        " prints it."
                    </p>
                </aside>
            </div>
        }
    })
}

/// A link only shows this page: mail scanners open links, and must not use them up.
pub fn link(page: Page<'_>, token: &Secret<String>) -> String {
    let action = format!("/signin/link/{}", token.expose());
    let text = "It works once. Afterwards this browser is signed in.";
    by_link(Frame::new(page, "Sign in by link · Berth"), action, "Sign in with this link", text, "Sign in")
}

/// What a link opens, when nothing has to be typed: one button.
pub fn by_link(
    frame: Frame<'_>,
    action: String,
    title: &'static str,
    text: &'static str,
    button: &'static str,
) -> String {
    frame.html(move || {
        view! {
            <section class="sheet">
                <h1>{title}</h1>
                <p>{text}</p>
                <form method="post" action=action>
                    <button type="submit" class="btn main big">
                        {button}
                    </button>
                </form>
            </section>
        }
    })
}
