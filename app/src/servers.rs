//! The operator's page of servers: does anything need me, could one of them die, what runs where.

use commands::{OverviewView, ServerInstance, ServerView, size};
use domain::grouped;
use leptos::prelude::*;

use crate::frame::{Frame, Page, Place};
use crate::limits::share;
use crate::live::vital;
use crate::operator::{count, rail};
use crate::state::instance;
use crate::table::heads;
use crate::units;

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
