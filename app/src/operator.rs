//! The operator's other pages: who uses it, what was decided, what was written to people.

use commands::{CustomerPage, CustomersView, Decision, DecisionView, LetterView, LettersView, size};
use domain::{Approval, MailState, Time};
use leptos::prelude::*;

use crate::activity::{self, capital};
use crate::form::{Field, Typed, summary};
use crate::frame::{Frame, Page, Place, crumbs, notice};
use crate::limits::table;
use crate::state::sentence;
use crate::table::heads;
use crate::when::Moment;

pub struct CustomersPage {
    pub view: CustomersView,
    pub state: Option<Approval>,
    pub words: String,
}

pub fn customers(page: Page<'_>, shown: CustomersPage) -> String {
    let now = page.now;
    Frame::new(page, "Customers · Berth operator").place(Place::Customers).html(move || {
        let CustomersPage { view, state, words } = shown;
        let sub = match view.waiting {
            0 => format!("{}. Nobody waits.", count(view.all, "customer", "customers")),
            1 => format!("{}. One waits for your approval.", count(view.all, "customer", "customers")),
            n => format!("{}. {n} wait for your approval.", count(view.all, "customer", "customers")),
        };
        let here = "/operator/customers";
        let word = state.map(Approval::as_str).unwrap_or_default();
        let tabs =
            tabs(here, word, &[("", "All"), ("waiting", "Waiting"), ("approved", "Approved"), ("refused", "Refused")]);
        let next = view.next.map(|id| older(here, id.0, &[("state", word), ("q", &words)]));
        let rows: Vec<_> = view
            .customers
            .into_iter()
            .map(|row| {
                let href = format!("/operator/customers/{}", row.id);
                let (class, word) = approval(row.approval);
                let email = if row.confirmed { row.email } else { format!("{} (not confirmed)", row.email) };
                let role = row.operator.then_some(" operator");
                view! {
                    <tr>
                        <th scope="row"><a href=href>{row.name}</a> <small class="hint">{role}</small></th>
                        <td><span class=class>{word}</span></td>
                        <td class="wide">{email}</td>
                        <td class="n gone">{format!("{} of {}", row.apps, row.apps_max)}</td>
                        <td class="n gone">{size(row.memory_bytes_max)}</td>
                        <td class="n money">{row.currency.cents(row.spent)}</td>
                        <td class="n gone">{Moment::of(now, row.created)}</td>
                    </tr>
                }
            })
            .collect();
        let none = rows.is_empty().then(|| view! { <p class="hint">"Nobody here."</p> });
        view! {
            <header class="head">
                <h1>"Customers"</h1>
                <p class="sub">{sub}</p>
                {tabs}
            </header>
            <section class="sheet" aria-label="Customers">
                <form class="row" method="get" action="/operator/customers">
                    <Field id="q" label="Name or address" typed=Typed::new(words) autocomplete="off" empty=true/>
                    <button type="submit" class="btn">
                        "Search"
                    </button>
                </form>
                <table class="fold">
                    {heads(&[("Customer", ""), ("State", ""), ("Address", ""), ("Apps", "n"), ("Memory", "n"), ("This month", "n"), ("Since", "n")])}
                    <tbody>{rows}</tbody>
                </table>
                {none}
                {next}
            </section>
        }
    })
}

fn approval(approval: Approval) -> (&'static str, &'static str) {
    match approval {
        Approval::Waiting => ("state warned", "Waiting"),
        Approval::Approved => ("state running", "Approved"),
        Approval::Refused => ("state stopped", "Refused"),
    }
}

/// Each state of a list, by its word in the query; none of them is all.
fn tabs(here: &str, current: &str, states: &[(&'static str, &'static str)]) -> AnyView {
    let tab = |&(word, label): &(&str, &'static str)| {
        let href = if word.is_empty() { here.to_owned() } else { format!("{here}?state={word}") };
        view! { <a href=href aria-current=(word == current).then_some("page")>{label}</a> }
    };
    let tabs: Vec<_> = states.iter().map(tab).collect();
    view! {
        <nav class="tabs" aria-label="Which">
            {tabs}
        </nav>
    }
    .into_any()
}

/// The next page of a list, with the same filters.
fn older(here: &str, before: i64, filters: &[(&str, &str)]) -> AnyView {
    let mut href = format!("{here}?before={before}");
    for (name, value) in filters.iter().filter(|(_, value)| !value.is_empty()) {
        href.push_str(&format!("&{name}={}", encoded(value)));
    }
    view! { <p><a href=href>"Older"</a></p> }.into_any()
}

/// For a URL's query.
fn encoded(text: &str) -> String {
    let byte = |b: u8| match b.is_ascii_alphanumeric() {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The limits as typed.
#[derive(Debug, Clone, Default)]
pub struct CustomerForm {
    pub apps: Typed,
    pub memory: Typed,
    pub builds: Typed,
    pub build_minutes: Typed,
    pub disk: Typed,
}

impl CustomerForm {
    pub fn of(limits: &commands::LimitsView) -> Self {
        let mib = |bytes: i64| Typed::new((bytes >> 20).to_string());
        Self {
            apps: Typed::new(limits.apps.max.to_string()),
            memory: mib(limits.memory_bytes.max),
            builds: Typed::new(limits.builds.max.to_string()),
            build_minutes: Typed::new((limits.build_seconds_max / 60).to_string()),
            disk: mib(limits.disk_bytes.max),
        }
    }
}

pub fn customer(page: Page<'_>, shown: CustomerPage, form: CustomerForm) -> String {
    let now = page.now;
    let title = format!("{} · Berth operator", shown.row.name);
    Frame::new(page, title).place(Place::Customers).html(move || {
        let CustomerPage { row, limits, apps, members, events } = shown;
        let wrong = summary(
            None,
            &[
                ("apps", "apps", &form.apps),
                ("memory", "memory", &form.memory),
                ("disk", "disk", &form.disk),
                ("builds", "builds at once", &form.builds),
                ("build-minutes", "one build", &form.build_minutes),
            ],
        );
        let here = format!("/operator/customers/{}", row.id);
        let act = |verb: &str, label: &'static str, class: &'static str| {
            view! {
                <form method="post" action=format!("{here}/{verb}")>
                    <button type="submit" class=class>
                        {label}
                    </button>
                </form>
            }
        };
        let approve = (row.approval != Approval::Approved).then(|| act("approve", "Approve", "btn main"));
        let refuse = (row.approval == Approval::Waiting).then(|| act("refuse", "Refuse", "btn bad"));
        let (class, word) = approval(row.approval);
        let apps: Vec<_> = apps
            .into_iter()
            .map(|(name, state)| {
                let href = format!("/operator/decisions?app={name}");
                view! {
                    <dt><a href=href>{name.to_string()}</a></dt>
                    <dd>{state.as_str()}</dd>
                }
            })
            .collect();
        let no_apps = apps.is_empty().then(|| view! { <p class="hint">"No app so far."</p> });
        let members: Vec<_> = members
            .into_iter()
            .map(|(email, confirmed)| {
                view! {
                    <dt>{email}</dt>
                    <dd>{if confirmed { "confirmed" } else { "not confirmed" }}</dd>
                }
            })
            .collect();
        let decisions = format!("/operator/decisions?customer={}", row.id);
        view! {
            <header class="head">
                {crumbs(&[("/operator/customers", "Customers")])}
                <div class="title">
                    <h1>{row.name}</h1>
                    <span class=class>{word}</span>
                    <div class="actions">{approve} {refuse}</div>
                </div>
                <p class="sub">"Since " {Moment::of(now, row.created)} "."</p>
            </header>
            {wrong}
            <div class="cols">
                <div>
                    <section class="sheet" id="limits">
                        <h2>"What they may use"</h2>
                        <form class="form" method="post" action=format!("{here}/limits") novalidate>
                            <Field id="apps" label="Apps" typed=form.apps autocomplete="off"/>
                            <Field id="memory" label="Memory, MiB" typed=form.memory autocomplete="off"
                                hint=|| "What all instances of their apps may reserve together."/>
                            <Field id="disk" label="Disk, MiB" typed=form.disk autocomplete="off"
                                hint=|| "Images, sources and caches together."/>
                            <Field id="builds" label="Builds at once" typed=form.builds autocomplete="off"/>
                            <Field id="build-minutes" label="One build, minutes" typed=form.build_minutes autocomplete="off"/>
                            <p>
                                <button type="submit" class="btn">
                                    "Set limits"
                                </button>
                            </p>
                        </form>
                    </section>
                    <section class="sheet" id="activity">
                        <h2>"Who changed what"</h2>
                        {activity::list(events, now)}
                    </section>
                </div>
                <aside>
                    <section class="sheet">
                        <h2>"Used now"</h2>
                        {table(&limits)}
                    </section>
                    <section class="sheet cost">
                        <header>
                            <h2>"This month"</h2>
                            <span>"before tax"</span>
                        </header>
                        <p class="money big">{row.currency.cents(row.spent)}</p>
                        <p class="hint">"As posted, until the last full hour."</p>
                    </section>
                    <section class="sheet">
                        <header>
                            <h2>"Apps"</h2>
                            <a href=decisions>"What was decided"</a>
                        </header>
                        <dl class="facts">{apps}</dl>
                        {no_apps}
                    </section>
                    <section class="sheet">
                        <h2>"People"</h2>
                        <dl class="facts">{members}</dl>
                    </section>
                </aside>
            </div>
        }
    })
}

pub struct DecisionsPage {
    pub view: DecisionView,
    pub app: String,
    pub customer: String,
}

pub fn decisions(page: Page<'_>, shown: DecisionsPage) -> String {
    let now = page.now;
    Frame::new(page, "Decisions · Berth operator").place(Place::Decisions).html(move || {
        let DecisionsPage { view, app, customer } = shown;
        let next = view.next.map(|id| older("/operator/decisions", id, &[("app", &app), ("customer", &customer)]));
        let list = rail(view.decisions, now);
        view! {
            <header class="head">
                <h1>"What Berth decided, and why"</h1>
                <p class="sub">"The newest first."</p>
            </header>
            <section class="sheet" aria-label="Decisions">
                <form class="row" method="get" action="/operator/decisions">
                    <Field id="app" label="App" typed=Typed::new(app) autocomplete="off" empty=true/>
                    <Field id="customer" label="Customer, by number" typed=Typed::new(customer) autocomplete="off" empty=true/>
                    <button type="submit" class="btn">
                        "Show"
                    </button>
                </form>
                {list}
                {next}
            </section>
        }
    })
}

pub fn rail(decisions: Vec<Decision>, now: Time) -> AnyView {
    if decisions.is_empty() {
        return view! { <p class="hint">"Nothing was decided here."</p> }.into_any();
    }
    let row = |decision: Decision| {
        let whose = decision.customer.map(|(id, name)| {
            view! { " · " <a href=format!("/operator/customers/{id}")>{name}</a> }
        });
        let of = decision.app.map(|app| {
            view! { " · " <a href=format!("/operator/decisions?app={app}")>{app.to_string()}</a> }
        });
        view! {
            <li>
                <b>{capital(&decision.what)} "."</b>
                " "
                <span class="said">{sentence(&capital(&decision.reason))}</span>
                <p>{Moment::of(now, decision.at)} {of} {whose}</p>
            </li>
        }
    };
    let rows: Vec<_> = decisions.into_iter().map(row).collect();
    view! { <ol class="rail">{rows}</ol> }.into_any()
}

pub fn letters(page: Page<'_>, view: LettersView, state: Option<MailState>) -> String {
    let now = page.now;
    let folder = page.site.letters.clone();
    let sent = if folder.is_some() { "In the folder" } else { "Sent" };
    Frame::new(page, "Mail · Berth operator").place(Place::Letters).html(move || {
        let sub = match (view.failed, view.waiting) {
            (0, 0) => "Nothing waits to be sent.".to_owned(),
            (0, n) => format!("{n} wait to be sent."),
            (1, n) => format!("One could not be sent; {n} wait."),
            (failed, n) => format!("{failed} could not be sent; {n} wait."),
        };
        let here = "/operator/mail";
        let word = state.map(MailState::as_str).unwrap_or_default();
        let all = [("", "All"), ("failed", "Could not be sent"), ("waiting", "Waiting"), ("sent", "Sent")];
        let tabs = tabs(here, word, &all);
        let folder = folder.map(|dir| {
            let words = view! {
                "Each is a file in " <code>{dir}</code> " on the server. To send them, start Berth with " <code>"--smtp"</code> "."
            };
            notice("notice", "No mail leaves this installation.", words, ())
        });
        let next = view.next.map(|id| older(here, id.0, &[("state", word)]));
        let rows: Vec<_> = view.letters.into_iter().map(|letter| letter_row(letter, sent, now)).collect();
        let none = rows.is_empty().then(|| view! { <p class="hint">"No mail here."</p> });
        view! {
            <header class="head">
                <h1>"Mail"</h1>
                <p class="sub">{sub}</p>
                {tabs}
            </header>
            {folder}
            <section class="sheet" aria-label="Mails">
                <table class="fold">
                    {heads(&[("To", ""), ("State", ""), ("About", ""), ("Written", "n"), ("Change", "vh")])}
                    <tbody>{rows}</tbody>
                </table>
                {none}
                {next}
            </section>
        }
    })
}

fn letter_row(letter: LetterView, sent: &'static str, now: Time) -> AnyView {
    let (class, word) = match letter.state {
        MailState::Waiting if letter.tries > 0 => ("state warned", "Tried, waits"),
        MailState::Waiting => ("state deploying", "Waits"),
        MailState::Sent => ("state running", sent),
        MailState::Failed => ("state failed", "Could not be sent"),
    };
    let again = (letter.state != MailState::Sent).then(|| {
        let action = format!("/operator/mail/{}/again", letter.id);
        view! {
            <form method="post" action=action>
                <button type="submit" class="btn small">
                    "Try again"
                    <span class="vh">{format!(" mail {}", letter.id)}</span>
                </button>
            </form>
        }
    });
    let why = letter.error.map(|error| {
        let tries = count(letter.tries.into(), "try", "tries");
        view! { <p class="hint said">{format!("After {tries}: {error}")}</p> }
    });
    view! {
        <tr>
            <th scope="row">{letter.address}</th>
            <td><span class=class>{word}</span></td>
            <td class="wide">{letter.subject} {why}</td>
            <td class="n gone">{Moment::of(now, letter.created)}</td>
            <td class="n">{again}</td>
        </tr>
    }
    .into_any()
}

pub fn count(n: i64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
