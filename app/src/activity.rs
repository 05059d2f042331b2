//! Who did what, when, from where, and what changed by it.

use commands::EventView;
use domain::Time;
use leptos::prelude::*;

use crate::frame::{Frame, Page, Place, crumbs, crumbs_of};
use crate::when::Moment;

pub struct ActivityPage {
    /// Of one app, or of the whole account.
    pub app: Option<String>,
    pub events: Vec<EventView>,
    /// These are not the newest.
    pub older: bool,
    /// Where the next page begins.
    pub next: Option<i64>,
}

pub fn activity(page: Page<'_>, shown: ActivityPage) -> String {
    let now = page.now;
    let (place, title) = match &shown.app {
        Some(app) => (Place::Apps, format!("Activity of {app}")),
        None => (Place::Account, "Activity".to_owned()),
    };
    Frame::new(page, format!("{title} · Berth")).place(place).html(move || {
        let (crumbs, here, whose) = match &shown.app {
            Some(app) => (crumbs_of(app), format!("/apps/{app}/activity"), "this app"),
            None => (crumbs(&[("/account", "Account")]), "/account/activity".to_owned(), "your account"),
        };
        let newest = shown.older.then(|| view! { <a href=here.clone()>"Newest"</a> });
        let older = shown.next.map(|id| view! { <a href=format!("{here}?before={id}")>"Older"</a> });
        view! {
            <header class="head">
                {crumbs}
                <h1>{title}</h1>
                <p class="sub">"Every command of a person on " {whose} ", the newest first."</p>
            </header>
            <section class="sheet" aria-label="What was done">
                {list(shown.events, now)}
                <p class="row">{newest} {older}</p>
            </section>
        }
    })
}

/// A rail of them.
pub fn list(events: Vec<EventView>, now: Time) -> AnyView {
    if events.is_empty() {
        return view! { <p class="hint">"Nothing was done yet."</p> }.into_any();
    }
    let rows: Vec<_> = events
        .into_iter()
        .map(|event| {
            let by = match (event.door.as_str(), event.by) {
                ("shell", _) => "The operator".to_owned(),
                (_, Some(name)) => name,
                (_, None) => "Somebody who is gone".to_owned(),
            };
            let door = match event.door.as_str() {
                "page" => "on the site",
                "ssh" => "by SSH",
                "api" => "by the API",
                "shell" => "on the server itself",
                _ => "in another way",
            };
            let from = event.origin.map(|address| format!(", from {address}"));
            let what = format!("{}{}", words(&event.verb), if event.subject.is_empty() { "" } else { " " });
            let change = match (event.before, event.after) {
                (Some(before), Some(after)) => Some(format!("{before} → {after}")),
                (None, Some(after)) => Some(after),
                (Some(before), None) => Some(format!("before: {before}")),
                (None, None) => None,
            };
            view! {
                <li>
                    <b>{what}<span class="said">{event.subject}</span></b>
                    {change.map(|change| view! { <p class="said">{change}</p> })}
                    <p>{by} " " {door} {from} ", " {Moment::of(now, event.at)}</p>
                </li>
            }
        })
        .collect();
    view! { <ol class="rail">{rows}</ol> }.into_any()
}

/// A verb of `commands`, as it reads before what it was done to. One that is new here is shown as it is.
fn words(verb: &str) -> String {
    let said = match verb {
        "address confirm" => "Confirmed the address",
        "app create" => "Made",
        "app delete" => "Deleted",
        "app restart" => "Restarted",
        "app scale" => "Scaled",
        "app start" => "Started",
        "app stop" => "Stopped",
        "branch delete" => "Deleted a branch of",
        "branch push" => "Pushed a branch of",
        "config set" => "Set variables of",
        "config unset" => "Unset a variable of",
        "confirmation send" => "Asked for the confirmation again",
        "customer approval" => "Approval of the account",
        "customer limits" => "Changed the limits",
        "deploy again" => "Deployed again",
        "deploy cancel" => "Canceled a deploy of",
        "deploy roll back" => "Rolled back",
        "key add" => "Added the key",
        "key remove" => "Removed the key",
        "letter again" => "Tried again to send mail",
        "link create" => "Made a link to sign in",
        "link redeem" => "Signed in by a link",
        "password change" => "Changed the password",
        "password reset" => "Set a new password by a link",
        "prices set" => "Decided on new prices",
        "prices take back" => "Took back prices to come",
        "push" => "Pushed to",
        "reset ask" => "Asked for a new password",
        "sign out everywhere" => "Signed out everywhere",
        "token create" => "Made a token",
        "token revoke" => "Revoked a token",
        "user delete" => "Deleted the account",
        "user create" => "Made the account",
        other => return capital(other),
    };
    said.to_owned()
}

pub fn capital(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
