//! The regions of an app's page, which live.

use commands::{AppCostView, AppView, DeployRow, DeployView, InstanceView, UsageView, size};
use domain::{AppState, DeployState, InstanceState, Time};
use islands::words::took;
use leptos::prelude::*;

use crate::cost;
use crate::head::of_head;
use crate::region::Region;
use crate::state::{by, release, sentence};
use crate::steps::{millis, shown, step_times, steps, ticking};
use crate::traffic::failed;
use crate::units;
use crate::usage::part;
use crate::verbs::{Scaled, cause, offer, processes};
use crate::when::{Moment, said};

/// Beside an app's page and a deploy's; all of them have a page of their own.
pub const RELEASES_SHOWN: usize = 6;

/// `newest`: the app's newest deploy with its steps, if there is one. `usage`: of the last hour, if it is known.
pub fn of_app(app: &AppView, newest: Option<&DeployView>, usage: Option<&UsageView>, now: Time) -> Vec<Region> {
    let open = newest.filter(|deploy| !deploy.row.state.is_final());
    let rest = [
        Region::new("notice", notice(app, open.is_some())),
        Region::new("vitals", vitals(app, usage, now)),
        usage.map_or_else(|| Region::new("graphs", ()), |usage| part(app, usage)),
        Region::new("deploy", open.map(|deploy| open_deploy(deploy, now))),
        Region::new("processes", processes(app, &Scaled::default())),
        Region::new("cost", app.cost.as_ref().map(cost::panel)),
        Region::new("rail", rail(app, now)),
    ];
    of_head(app).into_iter().chain(rest).collect()
}

/// A page of an app's deploys.
pub fn all_deploys(app: &AppView, rows: &[DeployRow], now: Time) -> Region {
    let html = if rows.is_empty() {
        view! { <p class="hint">"None yet. Each push that serves becomes a release."</p> }.into_any()
    } else {
        let entries: Vec<_> = rows.iter().map(|row| entry(app.name.as_str(), app.cost.as_ref(), row, now)).collect();
        view! { <ol class="rail">{entries}</ol> }.into_any()
    };
    Region::new("deploys", html)
}

pub fn deploy_href(app: &str, number: i64) -> String {
    format!("/apps/{app}/deploys/{number}")
}

/// An address without its scheme.
pub fn bare(url: &str) -> String {
    url.split_once("://").map_or(url, |(_, rest)| rest).to_owned()
}

pub fn place(url: &str, release: Option<i64>) -> AnyView {
    let serves = match release {
        Some(release) => format!(" · v{release} serves"),
        None => " · nothing serves yet".to_owned(),
    };
    let (href, address) = (url.to_owned(), bare(url));
    view! {
        <p class="where">
            <a href=href>{address}</a>
            {serves}
        </p>
    }
    .into_any()
}

fn notice(app: &AppView, open: bool) -> Option<AnyView> {
    if app.state == AppState::Stopped {
        let comes = match app.release {
            Some(release) => format!("Its address says so. Start brings v{release} back."),
            None => "Start it before you push again.".to_owned(),
        };
        return Some(
            view! {
                <div class="notice" role="status">
                    <p>
                        <strong>"It is stopped."</strong>
                        " "
                        {comes}
                    </p>
                </div>
            }
            .into_any(),
        );
    }
    let newest = app.deploys.first()?;
    let href = deploy_href(app.name.as_str(), newest.number);
    let number = newest.number;
    if open || !newest.state.is_final() {
        let until = match app.release {
            Some(release) => format!("v{release} serves until then."),
            None => "Its address answers when it is done.".to_owned(),
        };
        return Some(say("notice", format!("v{number} is being deployed."), until, href, "Watch"));
    }
    if newest.state == DeployState::Failed {
        let reason = newest.reason.as_ref().map(|reason| sentence(&reason.message)).unwrap_or_default();
        let (kind, kept) = match app.release {
            Some(release) => ("notice warn", format!("{reason} v{release} kept serving.")),
            None => ("notice bad", format!("{reason} Nothing serves yet.")),
        };
        return Some(say(kind, format!("v{number} was not switched on."), kept, href, "See why"));
    }
    let ill = |i: &&InstanceView| !i.draining && !matches!(i.state, InstanceState::Healthy | InstanceState::Stopped);
    let ill = app.instances.iter().filter(ill).find_map(|i| Some((i, i.reason.as_ref()?)))?;
    let title = format!("{}.{} is not healthy.", ill.0.process, ill.0.index);
    Some(say("notice warn", title, sentence(&ill.1.to_string()), "#log".to_owned(), "See the log"))
}

fn say(class: &'static str, title: String, text: String, href: String, link: &'static str) -> AnyView {
    view! {
        <div class=class role="status">
            <div>
                <p>
                    <strong>{title}</strong>
                    " "
                    {text}
                </p>
            </div>
            <a class="btn small" href=href>
                {link}
            </a>
        </div>
    }
    .into_any()
}

/// The first word of `value` is large, what follows it is its unit.
pub fn vital(name: &'static str, value: &str, note: impl IntoView + 'static) -> AnyView {
    let (value, unit) = value.split_once(' ').map_or((value, None), |(value, unit)| (value, Some(unit.to_owned())));
    view! {
        <div>
            <dt>{name}</dt>
            <dd>{value.to_owned()} {unit.map(|unit| view! { " " <small>{unit}</small> })}</dd>
            <dd class="note">{note}</dd>
        </div>
    }
    .into_any()
}

/// The answers that people open the page for. Nothing before the first deploy.
fn vitals(app: &AppView, usage: Option<&UsageView>, now: Time) -> Option<AnyView> {
    let last = app.deploys.first()?;
    let current = |i: &&InstanceView| Some(i.release) == app.release && !i.draining && !i.state.is_gone();
    let current: Vec<&InstanceView> = app.instances.iter().filter(current).collect();
    let healthy = current.iter().filter(|i| i.state == InstanceState::Healthy).count();
    let restarts: i64 = current.iter().map(|i| i64::from(i.restarts)).sum();
    let memory: i64 = current.iter().map(|i| i.memory_bytes).sum();

    let serves = app.release.map_or("–".to_owned(), |release| format!("v{release}"));
    let restarts = match restarts {
        0 => String::new(),
        1 => ", 1 restart".to_owned(),
        n => format!(", {n} restarts"),
    };
    let healthy = match (app.release, current.len()) {
        (None, _) => "nothing yet".to_owned(),
        (Some(_), 0) => "no instance".to_owned(),
        (Some(_), all) => format!("{healthy} of {all} healthy{restarts}"),
    };
    let took = last.ended.map_or("…".to_owned(), |ended| took(millis(ended.since(last.created))));
    let pushed = format!("v{}, {}", last.number, said(now, last.created));
    Some(
        view! {
            <dl class="sheet vitals">
                {vital("Serving", &serves, healthy)}
                {measured(usage, memory)}
                {vital("Last deploy", &took, pushed)}
                {app.cost.as_ref().map(cost::vital)}
            </dl>
        }
        .into_any(),
    )
}

/// What was seen of it in the last minutes; what it may use is known in any case.
fn measured(usage: Option<&UsageView>, reserved: i64) -> Vec<AnyView> {
    let now = usage.and_then(|usage| usage.now.as_ref());
    let none = |name| vital(name, "–", "nothing seen lately");
    let requests = now.and_then(|now| now.requests).map_or_else(
        || none("Requests"),
        |n| {
            let errors = now.and_then(|now| now.errors).unwrap_or(0.0);
            vital("Requests", &format!("{} /s", units::figure(n)), format!("{} errors", units::percent(errors)))
        },
    );
    let answers = now.and_then(|now| now.latency).map_or_else(
        || none("Answer, p95"),
        |l| {
            let note = format!("p50 {}, p99 {}", units::millis(l.p50), units::millis(l.p99));
            vital("Answer, p95", &units::took(l.p95), note)
        },
    );
    let cpu = now.and_then(|now| now.cores).map_or_else(
        || none("CPU"),
        |cores| vital("CPU", &format!("{} cores", units::figure(cores)), "at work, 5 min"),
    );
    let memory = match now.and_then(|now| now.memory) {
        Some(m) => vital("Memory", &units::bytes(m.bytes), format!("of {}", units::bytes(m.reserved_bytes))),
        None if reserved > 0 => vital("Memory", &size(reserved), "it may use"),
        None => none("Memory"),
    };
    vec![requests, answers, cpu, memory]
}

/// The deploy that is under way, on the app's page.
fn open_deploy(deploy: &DeployView, now: Time) -> AnyView {
    let href = deploy_href(deploy.app.as_str(), deploy.row.number);
    let number = format!("v{}", deploy.row.number);
    view! {
        <section class="sheet">
            <header>
                <h2>
                    <a href=href>{number}</a>
                    " "
                    {ticking(deploy, now)}
                </h2>
                {offer(deploy.app.as_str(), &deploy.row)}
            </header>
            {steps(deploy, now)}
        </section>
    }
    .into_any()
}

/// The deploys of an app, the newest first.
fn rail(app: &AppView, now: Time) -> AnyView {
    if app.deploys.is_empty() {
        return view! { <p class="hint">"Each push that serves becomes one."</p> }.into_any();
    }
    let shown = app.deploys.iter().take(RELEASES_SHOWN);
    let entries: Vec<_> = shown.map(|row| entry(app.name.as_str(), app.cost.as_ref(), row, now)).collect();
    view! { <ol class="rail">{entries}</ol> }.into_any()
}

/// `cost`: of the app, where it is asked for.
fn entry(app: &str, cost: Option<&AppCostView>, row: &DeployRow, now: Time) -> AnyView {
    let cost = cost.and_then(|cost| cost::change(cost, row.number));
    let (class, word) = release(row);
    let by = by(row);
    let how = match (&row.reason, row.ended) {
        (Some(reason), _) if row.state == DeployState::Failed => Some(sentence(&reason.message)),
        (_, Some(ended)) => {
            let whole = took(millis(ended.since(row.created)));
            let steps = step_times(row);
            let took = if steps.is_empty() { whole } else { format!("{whole}: {steps}") };
            Some(failed(row).map_or(took.clone(), |failed| format!("{took} · {failed}")))
        }
        _ => None,
    };
    let subject = match (cause(row), row.subject.is_empty()) {
        (Some(cause), true) => Some(cause),
        (Some(cause), false) => Some(format!("{cause}: {}", shown(&row.subject))),
        (None, true) => None,
        (None, false) => Some(shown(&row.subject)),
    };
    let subject = subject.map(|subject| view! { {subject} <br/> });
    let href = deploy_href(app, row.number);
    let number = format!("v{}", row.number);
    let commit = row.commit.short().to_owned();
    view! {
        <li class=class>
            <b>
                <a href=href>{number}</a>
            </b>
            " "
            {word}
            <p>
                {subject}
                {by}
                ", git "
                <code>{commit}</code>
                ", "
                {Moment::of(now, row.created)}
                {how.map(|how| view! { <br/> {how} })}
                {cost.map(|cost| view! { " · " {cost} })}
            </p>
            {offer(app, row)}
        </li>
    }
    .into_any()
}
