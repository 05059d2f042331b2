//! The operator's pages: what runs where, who uses it, what was decided, what was written to people.

use commands::{
    CustomerPage, CustomersView, Decision, DecisionView, LetterView, LettersView, OverviewView, ServerInstance,
    ServerView, size,
};
use domain::{Approval, MailState, Time, grouped};
use leptos::prelude::*;

use crate::activity::{self, capital};
use crate::form::{Field, Typed, summary};
use crate::frame::{Frame, Page, Place, crumbs, notice};
use crate::limits::{share, table};
use crate::live::vital;
use crate::state::{instance, sentence};
use crate::table::heads;
use crate::units;
use crate::when::Moment;

/// A server is written down as heard every ten seconds; after this it is called silent.
const SILENT_SECONDS: f64 = 30.0;

pub fn servers(page: Page<'_>, shown: OverviewView) -> String {
    let (now, letters) = (page.now, page.site.letters.is_some());
    Frame::new(page, "Servers · Berth operator").place(Place::Servers).html(move || {
        let silent: Vec<&str> = shown.servers.iter().filter(|s| is_silent(s)).map(|s| s.name.as_str()).collect();
        let full: Vec<&str> = shown.servers.iter().filter(|s| s.disk_is_short).map(|s| s.name.as_str()).collect();
        let lost: Vec<&str> = shown.stranded.iter().map(|stranded| stranded.server.as_str()).collect();
        let several = shown.servers.len() > 1;
        let title = match (silent.as_slice(), shown.customers_waiting, shown.letters_failed) {
            ([], ..) if !full.is_empty() => format!("The disk of {} is full", full.join(", ")),
            ([], ..) if several && !lost.is_empty() => "The fleet has no room to lose a server".to_owned(),
            ([], 0, 0) => "Nothing needs you".to_owned(),
            ([], 0, 1) => "A mail could not be sent".to_owned(),
            ([], 0, n) => format!("{n} mails could not be sent"),
            ([], 1, _) => "A customer waits for you".to_owned(),
            ([], n, _) => format!("{n} customers wait for you"),
            ([one], ..) => format!("{one} is silent"),
            (several, ..) => format!("{} servers are silent", several.len()),
        };
        let sum = |of: fn(&ServerView) -> i64| shown.servers.iter().map(of).sum::<i64>();
        let instances = sum(|s| s.instances);
        let sub = format!(
            "{}, {} of {}. {}",
            count(shown.servers.len() as i64, "server", "servers"),
            count(instances, "instance", "instances"),
            count(shown.customers, "account", "accounts"),
            if_one_died(&shown, instances),
        );
        let waiting = (shown.customers_waiting > 0).then(|| {
            view! { <a class="btn main" href="/operator/customers?state=waiting">"Look at who waits"</a> }
        });
        let failed = (shown.letters_failed > 0).then(|| {
            view! { <a class="btn" href="/operator/mail?state=failed">"Mails that could not be sent"</a> }
        });
        let mut sizes: Vec<i64> = shown.servers.iter().map(|s| s.memory_bytes).collect();
        sizes.dedup();
        let memory_of = match sizes.as_slice() {
            [one] if *one > 0 => format!("Memory of {}", size(*one)),
            _ => "Memory of apps".to_owned(),
        };
        let rows: Vec<_> = shown.servers.iter().map(server).collect();
        view! {
            <header class="head">
                <div class="title">
                    <h1>{title}</h1>
                    <div class="actions">{waiting} {failed}</div>
                </div>
                <p class="sub">{sub}</p>
            </header>
            {vitals(&shown, letters)}
            <section class="sheet">
                <header>
                    <h2>"Servers"</h2>
                    <span>"solid: used; pale: promised"</span>
                </header>
                <table class="fold">
                    <thead>
                        <tr>
                            <th scope="col">"Server"</th>
                            <th scope="col">"Health"</th>
                            <th scope="col">{memory_of}</th>
                            <th scope="col" class="n">"CPU"</th>
                            <th scope="col" class="n">"Disk free"</th>
                            <th scope="col" class="n">"Instances"</th>
                            <th scope="col" class="n">"Heard from"</th>
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            </section>
            {all_runs(&shown.servers)}
            <section class="sheet">
                <header>
                    <h2>"What Berth decided, and why"</h2>
                    <a href="/operator/decisions">"All of it"</a>
                </header>
                {rail(shown.decisions, now)}
            </section>
        }
    })
}

/// Whether the others would run what any one server runs.
fn if_one_died(shown: &OverviewView, instances: i64) -> String {
    let here = shown.servers.iter().filter(|server| !is_silent(server)).count();
    match (shown.stranded.as_slice(), here) {
        _ if instances == 0 => "Nothing runs yet.".to_owned(),
        (_, 0) => "No server answers.".to_owned(),
        (_, 1) => "There is no other server that could take over if this one died.".to_owned(),
        ([], _) => "If any one server died now, its apps would fit on the others.".to_owned(),
        ([one], _) => {
            let what = match one.without_place {
                all if all == one.runs => "none of its".to_owned(),
                some => format!("{some} of its"),
            };
            let verb = if one.without_place == one.runs { "would find a place" } else { "would find no place" };
            format!("If {} died now, {what} {} {verb} on the others.", one.server, count_of(one.runs))
        }
        (several, _) => {
            let names: Vec<&str> = several.iter().map(|stranded| stranded.server.as_str()).collect();
            format!("If one of {} died now, not all of its apps would fit on the others.", names.join(", "))
        }
    }
}

fn count_of(runs: usize) -> String {
    if runs == 1 { "1 instance".to_owned() } else { format!("{runs} instances") }
}

/// What the operator opens the page for, of all servers together.
fn vitals(shown: &OverviewView, letters: bool) -> AnyView {
    let here = || shown.servers.iter().filter(|server| !is_silent(server));
    let sum = |of: fn(&ServerView) -> i64| here().map(of).sum::<i64>();
    let gib = |bytes: i64| units::figure(bytes as f64 / (1_i64 << 30) as f64);
    let (memory, used, reserved) =
        (sum(|s| s.memory_bytes), sum(|s| s.memory_used_bytes), sum(|s| s.memory_reserved_bytes));
    let cores = sum(|s| s.cores.into());
    let busy: Option<f64> = here().filter_map(|s| s.cores_used).reduce(|sum, one| sum + one);
    let cpu = busy.filter(|_| cores > 0).map_or("–".to_owned(), |busy| busy_part(busy / cores as f64));
    let cores = count(cores, "core", "cores");
    let requests = shown.requests.map_or("–".to_owned(), |n| format!("{} /s", units::figure(n)));
    let errors = match shown.requests {
        None => "nobody counted lately".to_owned(),
        Some(_) => format!("{} errors of ours", units::percent(shown.unanswered)),
    };
    let failed = match shown.deploys_failed {
        0 => String::new(),
        n => format!("{n} failed; "),
    };
    let deploys = format!("{failed}{} in them", count(shown.requests_failed, "request failed", "requests failed"));
    view! {
        <dl class="sheet vitals">
            {vital("Memory used", &format!("{} of {} GiB", gib(used), gib(memory)), format!("{} promised to apps", gib(reserved)))}
            {vital("CPU", &cpu, format!("of {cores}"))} {vital("Requests", &requests, errors)}
            {vital("Deploys today", &grouped(shown.deploys.unsigned_abs().into()), deploys)}
            {vital("Customers", &grouped(shown.customers.unsigned_abs().into()), format!("{} wait", shown.customers_waiting))}
            {vital("Mails not sent", &shown.letters_failed.to_string(), if letters { "files in a folder" } else { "by SMTP" })}
        </dl>
    }
    .into_any()
}

fn busy_part(part: f64) -> String {
    if part < 0.01 { units::percent(part) } else { format!("{:.0} %", part * 100.0) }
}

fn is_silent(server: &ServerView) -> bool {
    server.silent_seconds.is_none_or(|s| s > SILENT_SECONDS)
}

fn count(n: i64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn server(server: &ServerView) -> AnyView {
    let (kind, word) = match (is_silent(server), server.silent_seconds) {
        (false, _) if server.disk_is_short => ("state failed", "Disk full"),
        (false, _) => ("state running", "Well"),
        (true, Some(_)) => ("state failed", "Silent"),
        (true, None) => ("state failed", "Never heard"),
    };
    let heard = match server.silent_seconds {
        None => "never".to_owned(),
        Some(s) if s < 10.0 => "now".to_owned(),
        Some(s) if s < 120.0 => format!("{s:.0} s ago"),
        Some(s) => format!("{:.0} min ago", s / 60.0),
    };
    let (used, reserved, all) = (server.memory_used_bytes, server.memory_reserved_bytes, server.memory_bytes);
    let words = format!("{} used, {} promised, of {}", size(used), size(reserved), size(all));
    let cpu = server.cores_used.filter(|_| server.cores > 0 && !is_silent(server));
    let cpu = cpu.map_or("–".to_owned(), |busy| busy_part(busy / f64::from(server.cores)));
    view! {
        <tr>
            <th scope="row">{server.name.clone()} " " <small class="hint">{server.region.clone()}</small></th>
            <td><span class=kind>{word}</span></td>
            <td class="wide mem">
                {share(words.clone(), used, reserved, all)}
                <small class="hint">{words}</small>
            </td>
            <td class="n gone">{cpu}</td>
            <td class="n gone">{(server.disk_bytes > 0).then(|| size(server.disk_free_bytes))}</td>
            <td class="n gone">{server.instances}</td>
            <td class="n gone">{heard}</td>
        </tr>
    }
    .into_any()
}

fn all_runs(servers: &[ServerView]) -> Option<AnyView> {
    let some: Vec<_> = servers.iter().filter(|server| !server.runs.is_empty()).map(runs).collect();
    let sheet = || {
        view! {
            <section class="sheet">
                <h2>"What runs where"</h2>
                {some}
            </section>
        }
    };
    servers.iter().any(|server| !server.runs.is_empty()).then(|| sheet().into_any())
}

fn runs(server: &ServerView) -> AnyView {
    let row = |i: &ServerInstance| {
        let state = instance(i.state);
        let class = format!("state {}", state.kind);
        let app = i.app.to_string();
        let href = format!("/operator/decisions?app={app}");
        view! {
            <tr>
                <th scope="row"><a href=href>{format!("{app}.{}.{}", i.process, i.index)}</a></th>
                <td><span class=class>{state.word}</span></td>
                <td class="n">{size(i.memory_bytes)}</td>
            </tr>
        }
    };
    let rows: Vec<_> = server.runs.iter().map(row).collect();
    let title = format!("On {}: {}", server.name, count(server.instances, "instance", "instances"));
    view! {
        <details>
            <summary>{title}</summary>
            <table class="fold">
                {heads(&[("Instance", ""), ("State", ""), ("Memory", "n")])}
                <tbody>{rows}</tbody>
            </table>
        </details>
    }
    .into_any()
}

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

fn rail(decisions: Vec<Decision>, now: Time) -> AnyView {
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
