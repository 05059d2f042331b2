//! Tokens of the API, on the account's page. A token is shown once, on the answer to the form that made it.

use commands::TokenView;
use domain::{Secret, Time, TokenScope};
use islands::Copy;
use leptos::prelude::*;

use crate::form::{Field, Typed};
use crate::table::heads;
use crate::verbs::button;
use crate::when::Moment;

/// The form that makes a token.
#[derive(Debug, Clone)]
pub struct TokenForm {
    pub name: Typed,
    pub scope: TokenScope,
    /// Days; empty: until it is revoked.
    pub lasts: Typed,
    /// What was just made: its name, and the token.
    pub made: Option<(String, Secret<String>)>,
}

impl Default for TokenForm {
    fn default() -> Self {
        Self { name: Typed::default(), scope: TokenScope::Read, lasts: Typed::new("90"), made: None }
    }
}

pub fn section(tokens: Vec<TokenView>, form: TokenForm, now: Time) -> AnyView {
    let made = form.made.clone().map(|(name, token)| shown_once(name, token));
    view! {
        <section class="sheet" id="tokens">
            <header>
                <h2>"API tokens"</h2>
                <a href="/api/openapi.json">"What the API can do"</a>
            </header>
            {made}
            {table(tokens, now)}
            {fields(form)}
        </section>
    }
    .into_any()
}

fn shown_once(name: String, token: Secret<String>) -> AnyView {
    view! {
        <div class="notice ok" role="status">
            <div class="stack">
                <p>
                    <strong>"Your new token"</strong>
                    " "
                    <span class="said">{name}</span>
                    ". Copy it now: it is shown this once, and only its hash is kept."
                </p>
                <Copy>
                    <pre class="cmd plain" role="group" aria-label="Your new token">
                        <code>{token.expose().clone()}</code>
                    </pre>
                </Copy>
            </div>
        </div>
    }
    .into_any()
}

fn fields(form: TokenForm) -> AnyView {
    let scope = |scope: TokenScope, words: &'static str| {
        view! {
            <option value=scope.as_str() selected=form.scope == scope>
                {words}
            </option>
        }
    };
    view! {
        <form class="form" method="post" action="/account/tokens" novalidate>
            <Field id="token-name" label="What the token is for" typed=form.name hint=|| view! {
                "Whoever has a token acts as you, from anywhere, by "
                <code>"Authorization: Bearer …"</code>
                ", until you revoke it. Signing out and a new password leave it as it is."
            }/>
            <div class="field">
                <label for="scope">"What it may do"</label>
                <select id="scope" name="scope">
                    {scope(TokenScope::Read, "Look only")}
                    {scope(TokenScope::Write, "Look and change")}
                </select>
            </div>
            <Field id="lasts" label="For how many days" empty=true typed=form.lasts
                hint=|| "Left empty, it lasts until you revoke it."/>
            <p>
                <button type="submit" class="btn main">
                    "Make token"
                </button>
            </p>
        </form>
    }
    .into_any()
}

fn table(tokens: Vec<TokenView>, now: Time) -> AnyView {
    if tokens.is_empty() {
        return view! { <p>"For scripts and CI. Each gets one of its own, so that it can be revoked alone."</p> }
            .into_any();
    }
    let rows: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let used = match token.last_used {
                Some(at) => Moment::of(now, at),
                None => view! { "not yet" }.into_any(),
            };
            let ends = match token.expires {
                Some(at) if at <= now => view! { "ended " {Moment::of(now, at)} }.into_any(),
                Some(at) => view! { "until " {Moment::of(now, at)} }.into_any(),
                None => view! { "until revoked" }.into_any(),
            };
            let may = match token.scope {
                TokenScope::Read => "looks",
                TokenScope::Write => "looks and changes",
            };
            let action = format!("/account/tokens/{}/revoke", token.id);
            let name = format!(" {}", token.name);
            view! {
                <tr>
                    <th scope="row">{token.name}</th>
                    <td>{may}</td>
                    <td>{ends}</td>
                    <td>{used}</td>
                    <td class="n">{button(action, "Revoke", name)}</td>
                </tr>
            }
        })
        .collect();
    view! {
        <table class="fold">
            {heads(&[("Name", ""), ("May", ""), ("Lasts", ""), ("Last used", ""), ("Change", "vh")])}
            <tbody>{rows}</tbody>
        </table>
    }
    .into_any()
}
