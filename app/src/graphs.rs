//! What an app uses and how it answers, as graphs, each with its numbers as a table.

use std::fmt::Write as _;

use commands::{Range, RangeCost, UsageMark, UsagePoint, UsageView};
use domain::{Meter, Time, grouped};
use leptos::prelude::RenderHtml;

use crate::chart::{Figure, Ink, Line, Scale, Unit, key, scale, svg};
use crate::cost;
use crate::units::{bytes, count, figure, millis, percent, took};
use crate::when::{day, day_minute, hour_minute, weekday};

/// Named below the graphs at most.
const MARKS_NAMED: usize = 6;
const X_LABELS: usize = 5;

/// One column of a table, and how it is drawn.
struct Column {
    name: &'static str,
    values: Vec<Option<f64>>,
    /// `None`: in the table only.
    ink: Option<Ink>,
    width: u32,
}

impl Column {
    fn of(name: &'static str, usage: &UsageView, ink: Option<Ink>, value: impl Fn(&UsagePoint) -> Option<f64>) -> Self {
        Self { name, values: usage.points.iter().map(value).collect(), ink, width: 2 }
    }

    fn thin(self) -> Self {
        Self { width: 1, ..self }
    }

    /// The least and the most; `None`: all gaps.
    fn ends(&self) -> Option<(f64, f64)> {
        let mut values = self.values.iter().flatten().copied();
        let first = values.next()?;
        Some(values.fold((first, first), |(least, most), n| (least.min(n), most.max(n))))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Lines,
    /// Lines, the ground under the first.
    Ground,
    /// One on top of the other, the last at the bottom.
    Stack,
}

struct Graph {
    title: &'static str,
    /// What its numbers are of.
    unit: &'static str,
    note: String,
    /// What is asked for it.
    meter: Option<Meter>,
    shape: Shape,
    columns: Vec<Column>,
    scale: Scale,
    figure: fn(f64) -> String,
    sentence: String,
    /// The last row of its table, without its head.
    foot: Option<Vec<String>>,
}

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// A page of its own: five.
    Page,
    /// A part of the app's page: requests and answers.
    Part,
}

/// All graphs, as HTML; nothing where nothing was seen. Beside each stands what its meter costs, and all of it at the end.
pub fn graphs(usage: &UsageView, room: Room, cost: Option<&RangeCost>) -> String {
    let mut html = String::with_capacity(64 << 10);
    let all = match room {
        Room::Page => vec![requests(usage), latency(usage), cpu(usage), memory(usage), bytes_out(usage)],
        Room::Part => vec![requests(usage), latency(usage)],
    };
    let _ = write!(html, "<div class=\"half\">");
    for graph in &all {
        draw(&mut html, usage, graph, room, cost);
    }
    html.extend(cost.map(|cost| cost::of_range(cost, usage.range).to_html()));
    let _ = write!(html, "</div>");
    legend(&mut html, usage);
    html
}

fn requests(usage: &UsageView) -> Graph {
    let of = |name, ink, value: fn(&commands::Classes<f64>) -> f64| {
        Column::of(name, usage, ink, move |p| p.requests.as_ref().map(value))
    };
    let columns = vec![
        of("2xx", Some(Ink::First), |c| c.ok),
        of("3xx", Some(Ink::Fifth), |c| c.redirect),
        of("4xx", Some(Ink::Fourth), |c| c.client_error),
        of("5xx", Some(Ink::Bad), |c| c.server_error),
        of("not answered", None, |c| c.unanswered),
    ];
    let all = Column::of("", usage, None, |p| p.requests.map(|c| c.ok + c.redirect + c.client_error + c.server_error));
    let total = usage.total.as_ref();
    let sentence = match (all.ends(), total) {
        (Some((least, most)), Some(total)) => format!(
            "Requests a second {}, between {} and {}; {} in all, {} of them answered with 5xx.",
            over(usage.range),
            figure(least),
            figure(most),
            count(total.requests),
            count(total.by_class.server_error),
        ),
        _ => nothing("Requests", usage.range),
    };
    let scale = scale(all.ends().map_or(0.0, |(_, most)| most), Unit::Plain);
    let foot = total.map(|total| {
        let c = total.by_class;
        [c.ok, c.redirect, c.client_error, c.server_error, c.unanswered]
            .map(|n| format!("{} in all", grouped(n.into())))
            .into()
    });
    let note = total.map_or_else(String::new, |total| match total.requests {
        0 => "none".to_owned(),
        all => format!("{} · {} errors", count(all), percent(total.by_class.server_error as f64 / all as f64)),
    });
    let meter = Some(Meter::Requests);
    Graph {
        title: "Requests",
        unit: "a second",
        note,
        meter,
        shape: Shape::Stack,
        columns,
        scale,
        figure,
        sentence,
        foot,
    }
}

fn latency(usage: &UsageView) -> Graph {
    let of = |name, ink, value: fn(&commands::LatencyView) -> std::time::Duration| {
        Column::of(name, usage, Some(ink), move |p| p.latency.as_ref().map(|l| value(l).as_secs_f64() * 1000.0))
    };
    let columns = vec![
        of("p99", Ink::Second, |l| l.p99).thin(),
        of("p95", Ink::First, |l| l.p95),
        of("p50", Ink::Third, |l| l.p50).thin(),
    ];
    let ms = |n: f64| millis(std::time::Duration::from_secs_f64(n.max(0.0) / 1000.0));
    let sentence = match &columns.iter().map(Column::ends).collect::<Option<Vec<_>>>().as_deref() {
        Some([(_, most99), (low95, most95), (low50, most50)]) => format!(
            "Answer time {}: median {} to {} ms, 95th percentile {} to {} ms, 99th up to {} ms.",
            over(usage.range),
            ms(*low50),
            ms(*most50),
            ms(*low95),
            ms(*most95),
            ms(*most99)
        ),
        _ => nothing("Answer times", usage.range),
    };
    let whole = usage.total.as_ref().and_then(|total| total.latency);
    let note = whole.map_or_else(String::new, |l| format!("p95 {}", took(l.p95)));
    let foot = whole.map(|l| [l.p99, l.p95, l.p50].map(millis).into());
    let scale = scale(columns.iter().filter_map(Column::ends).map(|(_, most)| most).fold(0.0, f64::max), Unit::Plain);
    Graph {
        title: "Answer time",
        unit: "ms",
        note,
        meter: None,
        shape: Shape::Lines,
        columns,
        scale,
        figure: ms,
        sentence,
        foot,
    }
}

fn cpu(usage: &UsageView) -> Graph {
    let columns = vec![Column::of("cores", usage, Some(Ink::First), |p| p.cores)];
    let sentence = match columns[0].ends() {
        Some((least, most)) => {
            format!("CPU cores at work {}, from {} to {}.", over(usage.range), figure(least), figure(most))
        }
        None => nothing("CPU", usage.range),
    };
    let note = usage.total.as_ref().map_or_else(String::new, |total| match total.cpu.as_secs() {
        n @ 3600.. => format!("{} CPU-hours", figure(n as f64 / 3600.0)),
        _ => format!("{} CPU-seconds", figure(total.cpu.as_secs_f64())),
    });
    let scale = scale(columns[0].ends().map_or(0.0, |(_, most)| most), Unit::Plain);
    let meter = Some(Meter::Cpu);
    Graph {
        title: "CPU",
        unit: "cores",
        note,
        meter,
        shape: Shape::Ground,
        columns,
        scale,
        figure,
        sentence,
        foot: None,
    }
}

fn memory(usage: &UsageView) -> Graph {
    let columns = vec![
        Column::of("in use", usage, Some(Ink::First), |p| p.memory.map(|m| m.bytes as f64)),
        Column::of("reserved", usage, Some(Ink::Fourth), |p| p.memory.map(|m| m.reserved_bytes as f64)).thin(),
    ];
    let said = |n: f64| bytes(n as u64);
    let sentence = match (columns[0].ends(), columns[1].ends()) {
        (Some((least, most)), Some((_, reserved))) => format!(
            "Memory in use {}, between {} and {}, of {} reserved.",
            over(usage.range),
            said(least),
            said(most),
            said(reserved)
        ),
        _ => nothing("Memory", usage.range),
    };
    let note = usage
        .total
        .as_ref()
        .and_then(|total| total.memory)
        .map_or_else(String::new, |m| format!("at most {} of {}", bytes(m.bytes), bytes(m.reserved_bytes)));
    let scale = scale(columns.iter().filter_map(Column::ends).map(|(_, most)| most).fold(0.0, f64::max), Unit::Bytes);
    let meter = Some(Meter::Memory);
    Graph {
        title: "Memory",
        unit: "",
        note,
        meter,
        shape: Shape::Ground,
        columns,
        scale,
        figure: said,
        sentence,
        foot: None,
    }
}

fn bytes_out(usage: &UsageView) -> Graph {
    let columns = vec![Column::of("a second", usage, Some(Ink::First), |p| p.bytes_out)];
    let said = |n: f64| bytes(n.round() as u64);
    let total = usage.total.as_ref().map(|total| bytes(total.bytes_out));
    let sentence = match (columns[0].ends(), &total) {
        (Some((_, most)), Some(total)) => {
            format!("Data out {}, up to {} a second; {total} in all.", over(usage.range), said(most))
        }
        _ => nothing("Data out", usage.range),
    };
    let scale = scale(columns[0].ends().map_or(0.0, |(_, most)| most), Unit::Bytes);
    let (note, foot) = (total.clone().unwrap_or_default(), total.map(|total| vec![format!("{total} in all")]));
    Graph {
        title: "Data out",
        unit: "a second",
        note,
        meter: Some(Meter::BytesOut),
        shape: Shape::Ground,
        columns,
        scale,
        figure: said,
        sentence,
        foot,
    }
}

fn over(range: Range) -> &'static str {
    match range {
        Range::Hour => "over the last hour",
        Range::Day => "over the last day",
        Range::Month => "over the last 30 days",
    }
}

fn nothing(what: &str, range: Range) -> String {
    format!("{what} {}: nothing was seen.", over(range))
}

/// What is drawn, and in which order: what is on top comes last.
fn lines(graph: &Graph) -> Vec<Line> {
    let drawn = graph.columns.iter().filter_map(|column| Some((column, column.ink?)));
    let line = |column: &Column, ink| Line { ink, width: column.width, values: column.values.clone(), under: None };
    match graph.shape {
        Shape::Lines => drawn.map(|(column, ink)| line(column, ink)).collect(),
        Shape::Ground => drawn
            .enumerate()
            .map(|(n, (column, ink))| {
                let under = (n == 0).then(|| vec![0.0; column.values.len()]);
                Line { under, ..line(column, ink) }
            })
            .collect(),
        Shape::Stack => {
            let mut under: Vec<f64> = Vec::new();
            let stacked = drawn.rev().map(|(column, ink)| {
                under.resize(column.values.len(), 0.0);
                let base = under.clone();
                let values = column.values.iter().zip(&mut under).map(|(value, under)| {
                    let top = *under + (*value)?;
                    *under = top;
                    Some(top)
                });
                Line { ink, width: column.width, values: values.collect(), under: Some(base) }
            });
            let mut lines: Vec<Line> = stacked.collect();
            // Of what never came there is nothing to see.
            lines.retain(|line| {
                line.values
                    .iter()
                    .zip(line.under.iter().flatten())
                    .any(|(top, base)| top.is_some_and(|top| top > *base))
                    || line.ink == Ink::First
            });
            lines.reverse();
            lines
        }
    }
}

fn draw(html: &mut String, usage: &UsageView, graph: &Graph, room: Room, cost: Option<&RangeCost>) {
    let (open, heading, close) = match room {
        Room::Page => ("<section class=\"sheet\">", "h2", "</section>"),
        Room::Part => ("", "h3", ""),
    };
    let unit = if graph.unit.is_empty() { graph.scale.unit } else { graph.unit };
    let unit = match (graph.scale.unit, graph.unit) {
        ("", _) | (_, "") => unit.to_owned(),
        (scale, unit) => format!("{scale} {unit}"),
    };
    let keys: Vec<(&str, Ink)> = graph.columns.iter().filter_map(|c| Some((c.name, c.ink?))).collect();
    let marks: Vec<f64> = usage.marks.iter().map(|mark| place(usage, mark.at)).collect();
    let figure = Figure {
        heading,
        title: graph.title,
        unit: &unit,
        note: if room == Room::Part { "" } else { &graph.note },
        cost: cost.zip(graph.meter).map(|(cost, meter)| cost::beside(cost, meter)),
        keys: &keys,
        scale: &graph.scale,
        class: "plot",
        drawing: svg(&lines(graph), &graph.scale, &marks, &sentence(usage, graph)),
        x: x_labels(usage),
    };
    html.push_str(open);
    figure.write(html, |html| table(html, usage, graph));
    html.push_str(close);
}

fn sentence(usage: &UsageView, graph: &Graph) -> String {
    let marks = match usage.marks.as_slice() {
        [] => String::new(),
        [one] => format!(" v{} went live {}.", one.release, at(usage.range, one.at)),
        [newest, ..] => format!(" {} releases went live, the last was v{}.", usage.marks.len(), newest.release),
    };
    format!("{}{marks}", graph.sentence)
}

/// From 0 to 1 along the points.
fn place(usage: &UsageView, at: Time) -> f64 {
    let (Some(first), Some(last)) = (usage.points.first(), usage.points.last()) else { return -1.0 };
    at.since(first.at).as_secs_f64() / last.at.since(first.at).as_secs_f64().max(1.0)
}

fn x_labels(usage: &UsageView) -> Vec<String> {
    let Some(last) = usage.points.len().checked_sub(1) else { return Vec::new() };
    let ats: Vec<Time> =
        (0..X_LABELS).filter_map(|n| usage.points.get(n * last / (X_LABELS - 1))).map(|point| point.at).collect();
    let label = |n: usize, at: Time| match usage.range {
        Range::Hour => hour_minute(at),
        // The day is named where it begins.
        Range::Day if n == 0 || weekday(ats[n - 1]) != weekday(at) => format!("{} {}", weekday(at), hour_minute(at)),
        Range::Day => hour_minute(at),
        Range::Month => day(at),
    };
    ats.iter().enumerate().map(|(n, at)| label(n, *at)).collect()
}

/// A moment, as exactly as the range needs it.
fn at(range: Range, at: Time) -> String {
    match range {
        Range::Hour => hour_minute(at),
        Range::Day => format!("{} {}", weekday(at), hour_minute(at)),
        Range::Month => day_minute(at),
    }
}

fn table(html: &mut String, usage: &UsageView, graph: &Graph) {
    let step = match usage.range {
        Range::Hour => "minute by minute",
        Range::Day => "by 15 minutes",
        Range::Month => "by 8 hours",
    };
    let _ = write!(
        html,
        "<details><summary>Numbers<span class=\"vh\"> of {0}</span></summary><section class=\"scroll\" tabindex=\"0\" aria-label=\"{0}, {step}\"><table><thead><tr><th scope=\"col\">From</th>",
        graph.title
    );
    for column in &graph.columns {
        let _ = write!(html, "<th scope=\"col\" class=\"n\">{}</th>", column.name);
    }
    html.push_str("</tr></thead><tbody>");
    for (n, point) in usage.points.iter().enumerate() {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", at(usage.range, point.at));
        for column in &graph.columns {
            html.push_str("<td class=\"n\">");
            match column.values.get(n).copied().flatten() {
                Some(value) => html.push_str(&(graph.figure)(value)),
                None => html.push('–'),
            }
            html.push_str("</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody>");
    if let Some(foot) = &graph.foot {
        html.push_str("<tfoot><tr><th scope=\"row\">All</th>");
        for cell in foot {
            let _ = write!(html, "<td class=\"n\">{cell}</td>");
        }
        html.push_str("</tr></tfoot>");
    }
    html.push_str("</table></section></details>");
}

/// What the dashed lines are.
fn legend(html: &mut String, usage: &UsageView) {
    if usage.marks.is_empty() {
        return;
    }
    let link = |mark: &UsageMark| {
        let (app, n) = (&usage.app, mark.release);
        format!("<a href=\"/apps/{app}/deploys/{n}\">v{n}</a> {}", at(usage.range, mark.at))
    };
    let named: Vec<String> = usage.marks.iter().take(MARKS_NAMED).map(link).collect();
    let more = match usage.marks.len().saturating_sub(MARKS_NAMED) {
        0 => String::new(),
        n => format!(" and {n} before"),
    };
    let key = key(Ink::Mark, "");
    let _ = write!(html, "<p class=\"hint marks\">{key} A release went live: {}{more}.</p>", named.join(", "));
}
