//! A forgotten password, and the pages that mailed links open. A link only shows a page: mail scanners open
//! links, and must not use them up.

use domain::Secret;
use leptos::prelude::*;

use crate::form::{Field, NewPassword, Typed, summary};
use crate::frame::{Frame, Page};
use crate::sign::by_link;

/// `asked`: it was sent; the same whether or not the address is known.
pub fn reset_ask(page: Page<'_>, email: Typed, general: Option<String>, asked: bool) -> String {
    let letters = page.site.letters.is_some();
    Frame::new(page, "Forgot the password · Berth").html(move || {
        let wrong = summary(general.as_deref(), &[("email", "the e-mail address", &email)]);
        let done = asked.then(|| {
            let how = if letters { "This installation sends no mail: ask whoever runs it for the link." } else { "Look among unwanted mail too." };
            view! {
                <div class="notice ok" role="status">
                    <p>"If that address has an account, a link to set a new password is on its way. It works once, for an hour. " {how}</p>
                </div>
            }
        });
        view! {
            <section class="sheet">
                <header>
                    <h1>"Forgot the password"</h1>
                    <span>"Know it? " <a href="/signin">"Sign in"</a></span>
                </header>
                {wrong}
                {done}
                <form class="form" method="post" action="/reset" novalidate>
                    <Field id="email" label="E-mail" typed=email kind="email" autocomplete="username"
                        hint=|| "We send a link to it, by which you set a new one."/>
                    <p>
                        <button type="submit" class="btn main big">
                            "Send the link"
                        </button>
                    </p>
                </form>
            </section>
        }
    })
}

pub fn reset_set(page: Page<'_>, token: &Secret<String>, password: Option<String>, general: Option<String>) -> String {
    let action = format!("/reset/{}", token.expose());
    Frame::new(page, "Set a new password · Berth").html(move || {
        let password = Typed { value: String::new(), error: password };
        let wrong = summary(general.as_deref(), &[("password", "the password", &password)]);
        view! {
            <section class="sheet">
                <h1>"Set a new password"</h1>
                {wrong}
                <p class="hint">"Every browser that is signed in to your account is signed out by this."</p>
                <form class="form" method="post" action=action novalidate>
                    <NewPassword label="New password" typed=password/>
                    <p>
                        <button type="submit" class="btn main big">
                            "Set password"
                        </button>
                    </p>
                </form>
            </section>
        }
    })
}

pub fn confirm(page: Page<'_>, token: &Secret<String>) -> String {
    let action = format!("/confirm/{}", token.expose());
    let text = "By this the address that the link was sent to is yours.";
    by_link(Frame::new(page, "Confirm your address · Berth"), action, "Confirm your address", text, "Confirm")
}
