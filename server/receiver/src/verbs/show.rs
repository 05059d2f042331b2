//! What people read: views as aligned text, and as JSON for programs.
//!
//! Strangers' words (names, subjects, reasons) are made safe in each cell. Cells have no tabs and are never empty;
//! those before the last have no blanks but in people's names. Nothing is cut but the last one, and only to the width
//! of a terminal.

use commands::{
    AppCostView, AppRow, AppView, BillView, Classes, DeployRow, EventView, InstanceView, KeyView, LatencyView,
    LimitsView, MemoryUse, ProcessView, Range, UsageView, Used, VarView, WhoView,
};
use domain::{Approval, DeployState, Time};

use crate::words::plain;

/// One line. JSON escapes the control characters below U+0020; the others would reach a terminal.
pub(super) fn json(shown: &impl serde::Serialize) -> String {
    let text = serde_json::to_string(shown).unwrap_or_else(|_| "null".to_owned());
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |c: char| if c.is_control() { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// To the second, without a blank in it.
fn second(at: Time) -> String {
    Time::from_unix_micros(at.unix_micros().div_euclid(1_000_000) * 1_000_000).to_string()
}

fn cell(text: &str) -> String {
    let text = plain(text.lines().next().unwrap_or_default()).replace('\t', " ");
    if text.trim().is_empty() { "-".to_owned() } else { text }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

const GAP: usize = 2;
/// However narrow the terminal is.
const LAST_MIN: usize = 12;

fn table(head: &[&str], rows: Vec<Vec<String>>, columns: Option<usize>) -> String {
    let rows: Vec<Vec<String>> =
        std::iter::once(head.iter().map(|title| (*title).to_owned()).collect()).chain(rows).collect();
    let last = head.len().saturating_sub(1);
    let widths: Vec<usize> = (0..last)
        .map(|at| rows.iter().map(|row| row.get(at).map_or(0, |cell| width(cell))).max().unwrap_or(0))
        .collect();
    let left = columns.map(|all| all.saturating_sub(widths.iter().map(|w| w + GAP).sum()).max(LAST_MIN));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            match widths.get(at) {
                Some(all) => {
                    line.push_str(cell);
                    line.extend(std::iter::repeat_n(' ', all - width(cell) + GAP));
                }
                None => line.push_str(&cut(cell, left)),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn cut(cell: &str, left: Option<usize>) -> String {
    match left {
        Some(left) if width(cell) > left => cell.chars().take(left - 1).chain(['…']).collect(),
        _ => cell.to_owned(),
    }
}

/// Names and values, one below the other.
fn list(rows: &[(&str, String)]) -> String {
    let names = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:names$}  {value}\n")).collect()
}

fn release(number: Option<domain::ReleaseNumber>) -> String {
    number.map_or("-".to_owned(), |number| format!("v{number}"))
}

pub(super) fn apps(apps: &[AppRow], columns: Option<usize>) -> String {
    let row = |app: &AppRow| vec![app.name.to_string(), release(app.release), app.url.clone(), cell(&app.summary)];
    table(&["NAME", "RELEASE", "URL", "STATE"], apps.iter().map(row).collect(), columns)
}

pub(super) fn app(view: &AppView) -> String {
    let size = |p: &ProcessView| format!("{} {} × {}", p.process, p.count, memory(p.memory_bytes));
    let processes = view.processes.iter().map(size).collect::<Vec<_>>().join(", ");
    let mut rows = vec![
        ("name", view.name.to_string()),
        ("state", cell(&view.summary)),
        ("url", view.url.clone()),
        ("git", view.git_url.clone()),
        ("branch", cell(&view.deploy_branch)),
    ];
    if let Some(serves) = view.deploys.iter().find(|row| row.serves) {
        let by = serves.by.as_deref().map(|by| format!(" by {}", cell(by))).unwrap_or_default();
        rows.push((
            "release",
            format!("v{}{by}, {}: {}", serves.number, second(serves.created), cell(&serves.subject)),
        ));
    }
    rows.push(("processes", if processes.is_empty() { "-".to_owned() } else { processes }));
    rows.push(("disk", commands::size(view.disk.bytes)));
    rows.push(("created", second(view.created)));
    list(&rows)
}

fn memory(bytes: i64) -> String {
    plan::memory_words(u64::try_from(bytes).unwrap_or(0))
}

pub(super) fn instances(instances: &[InstanceView], columns: Option<usize>) -> String {
    let row = |one: &InstanceView| {
        let state = if one.draining { "draining".to_owned() } else { one.state.to_string() };
        vec![
            format!("{}.{}", one.process, one.index),
            state,
            format!("v{}", one.release),
            memory(one.memory_bytes),
            second(one.since),
            one.restarts.to_string(),
            one.reason.as_ref().map_or("-".to_owned(), |reason| cell(&reason.message)),
        ]
    };
    let head = ["INSTANCE", "STATE", "RELEASE", "MEMORY", "SINCE", "RESTARTS", "REASON"];
    table(&head, instances.iter().map(row).collect(), columns)
}

pub(super) fn processes(processes: &[ProcessView]) -> String {
    let row = |one: &ProcessView| vec![one.process.to_string(), one.count.to_string(), memory(one.memory_bytes)];
    table(&["PROCESS", "COUNT", "MEMORY"], processes.iter().map(row).collect(), None)
}

pub(super) fn releases(deploys: &[DeployRow], columns: Option<usize>) -> String {
    let row = |one: &DeployRow| {
        let state = if one.serves { "serves".to_owned() } else { one.state.to_string() };
        let what = match one.origin {
            Some(of) => format!("{}:v{of}", one.cause),
            None => one.cause.to_string(),
        };
        let why = one.reason.as_ref().filter(|_| one.state != DeployState::Live).map(|reason| &reason.message);
        vec![
            format!("v{}", one.number),
            state,
            what,
            second(one.created),
            one.commit.short().to_string(),
            one.by.as_deref().map_or("-".to_owned(), cell),
            cell(why.unwrap_or(&one.subject)),
        ]
    };
    let head = ["RELEASE", "STATE", "CAUSE", "WHEN", "COMMIT", "BY", "SUBJECT"];
    table(&head, deploys.iter().map(row).collect(), columns)
}

pub(super) fn vars(vars: &[VarView], columns: Option<usize>) -> String {
    let row = |var: &VarView| {
        let value = match &var.value {
            None => "(secret)".to_owned(),
            Some(value) if value.is_empty() => "(empty)".to_owned(),
            // All of it, its lines too.
            Some(value) => plain(value).replace('\t', "\\x09"),
        };
        let by = var.by.as_deref().map_or("-".to_owned(), cell);
        vec![var.name.clone(), var.bytes.to_string(), second(var.since), by, value]
    };
    table(&["NAME", "BYTES", "SINCE", "BY", "VALUE"], vars.iter().map(row).collect(), columns)
}

pub(super) fn keys(keys: &[KeyView], columns: Option<usize>) -> String {
    let row = |key: &KeyView| {
        vec![
            key.fingerprint.clone(),
            cell(&key.kind),
            second(key.created),
            key.last_used.map_or("-".to_owned(), second),
            cell(&key.name),
        ]
    };
    table(&["FINGERPRINT", "KIND", "ADDED", "LAST-USED", "NAME"], keys.iter().map(row).collect(), columns)
}

pub(super) fn events(events: &[EventView], columns: Option<usize>) -> String {
    let row = |event: &EventView| {
        let what = match (&event.before, &event.after) {
            (Some(before), Some(after)) => format!(": {before} → {after}"),
            (None, Some(after)) => format!(": {after}"),
            (Some(before), None) => format!(": before: {before}"),
            (None, None) => String::new(),
        };
        let subject = if event.subject.is_empty() { String::new() } else { format!(" {}", event.subject) };
        vec![
            second(event.at),
            cell(&event.door),
            event.origin.map_or("-".to_owned(), |origin| origin.to_string()),
            event.by.as_deref().map_or("-".to_owned(), cell),
            cell(&format!("{}{subject}{what}", event.verb)),
        ]
    };
    table(&["WHEN", "DOOR", "FROM", "BY", "WHAT"], events.iter().map(row).collect(), columns)
}

pub(super) fn who(who: &WhoView) -> String {
    let LimitsView { apps, memory_bytes, builds, build_seconds_max, disk_bytes } = who.limits;
    let of = |Used { used, max }: Used| format!("{used} of {max}");
    let sizes = |Used { used, max }: Used| format!("{} of {}", commands::size(used), commands::size(max));
    let standing = match (who.confirmed, who.approval) {
        (false, _) => Some("your e-mail address is not confirmed: open the link in the mail that we sent"),
        (true, Approval::Waiting) => Some("waits for the operator's approval"),
        (true, Approval::Refused) => Some("was not approved by the operator"),
        (true, Approval::Approved) => None,
    };
    let mut rows = vec![("user", format!("{} <{}>", cell(&who.name), cell(&who.email)))];
    rows.push(("customer", cell(&who.customer)));
    rows.extend(standing.map(|standing| ("standing", standing.to_owned())));
    rows.extend([
        ("apps", of(apps)),
        ("memory", format!("{} reserved", sizes(memory_bytes))),
        ("builds", format!("{} at once, each {} s at most", of(builds), build_seconds_max)),
        ("disk", sizes(disk_bytes)),
    ]);
    list(&rows)
}

pub(super) fn range(range: Range) -> &'static str {
    match range {
        Range::Hour => "hour",
        Range::Day => "day",
        Range::Month => "30 days",
    }
}

fn bytes(bytes: u64) -> String {
    commands::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn latency(latency: Option<LatencyView>) -> String {
    let millis = |time: std::time::Duration| format!("{:.1} ms", time.as_secs_f64() * 1_000.0);
    match latency {
        Some(LatencyView { p50, p95, p99 }) => {
            format!("p50 {}, p95 {}, p99 {}", millis(p50), millis(p95), millis(p99))
        }
        None => "-".to_owned(),
    }
}

fn of_memory(memory: Option<MemoryUse>) -> String {
    match memory {
        Some(MemoryUse { bytes: used, reserved_bytes }) => {
            format!("{} of {} reserved", bytes(used), bytes(reserved_bytes))
        }
        None => "-".to_owned(),
    }
}

/// Of a view that has a total.
pub(super) fn usage(view: &UsageView) -> String {
    let mut rows = Vec::new();
    if let Some(now) = view.now {
        let number = |number: Option<f64>, unit: &str| number.map_or("-".to_owned(), |n| format!("{n:.2}{unit}"));
        rows.push(("now", format!("{}, {} busy", number(now.requests, " requests/s"), number(now.cores, " cores"))));
        rows.push(("memory now", of_memory(now.memory)));
    }
    if let Some(total) = view.total {
        let Classes { ok, redirect, client_error, server_error, unanswered } = total.by_class;
        let errors = format!("{client_error} of 4xx, {server_error} of 5xx ({unanswered} not answered by the app)");
        rows.push(("range", format!("the last {}", range(view.range))));
        rows.push(("requests", format!("{}: {ok} of 2xx, {redirect} of 3xx, {errors}", total.requests)));
        rows.push(("latency", latency(total.latency)));
        rows.push(("cpu", format!("{:.1} s", total.cpu.as_secs_f64())));
        rows.push(("memory", format!("{} at most", of_memory(total.memory))));
        rows.push(("bytes out", bytes(total.bytes_out)));
    }
    list(&rows)
}

/// Before tax, in whole cents; what it is made of is on the pages.
pub(super) fn bill(view: &BillView) -> String {
    let money = |amount| view.currency.cents(amount);
    let so_far = if view.running { " so far" } else { "" };
    let mut rows = vec![("month", view.month.to_string()), ("total", format!("{}{so_far}", money(view.total.amount)))];
    if let Some(forecast) = view.forecast {
        rows.push(("forecast", format!("{} for the whole month, at the pace of lately", money(forecast.total))));
    }
    let mut text = list(&rows);
    if !view.apps.is_empty() {
        let app = |of: &commands::AppCost| vec![of.app.key.clone(), money(of.cost.amount)];
        text.push_str(&format!("\n{}", table(&["APP", "COST"], view.apps.iter().map(app).collect(), None)));
    }
    if !view.meters.is_empty() {
        let meter = |of: &commands::MeterCost| {
            vec![of.meter.to_string(), money(of.cost.amount), of.meter.shortly(of.cost.units)]
        };
        text.push_str(&format!(
            "\n{}",
            table(&["METER", "COST", "USED"], view.meters.iter().map(meter).collect(), None)
        ));
    }
    text
}

pub(super) fn app_cost(view: &AppCostView) -> String {
    let money = |amount| view.currency.cents(amount);
    let mut rows = vec![("month", view.month.to_string()), ("so far", money(view.total.amount))];
    if let Some(forecast) = view.forecast {
        rows.push(("forecast", format!("{} for the whole month, at this rate", money(forecast))));
    }
    rows.extend(view.day.map(|day| ("a day", format!("v{}: {}", day.number, day.words(view.currency)))));
    let mut text = list(&rows);
    if !view.meters.is_empty() {
        let meter = |(meter, cost): &(domain::Meter, plan::cost::Cost)| {
            vec![meter.to_string(), money(cost.amount), meter.shortly(cost.units)]
        };
        text.push_str(&format!(
            "\n{}",
            table(&["METER", "COST", "USED"], view.meters.iter().map(meter).collect(), None)
        ));
    }
    text
}

/// `text` is safe already. As wide as the common sources are, so that the texts stand below each other.
pub(super) fn log_line(at: Time, source: &str, text: &str) -> String {
    let millis = at.unix_micros().div_euclid(1_000);
    let second = second(at);
    let second = second.trim_end_matches('Z');
    format!("{second}.{:03}Z {:8} {text}\n", millis.rem_euclid(1_000), plain(source))
}
