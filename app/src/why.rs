//! Why an amount is what it is: its arithmetic, its days or hours, and the readings behind them.

use commands::{AppCost, DayCost, HourCost, ReadingView, WhySegment, WhyView};
use domain::{Currency, Meter, Money, Time};
use leptos::prelude::*;
use plan::cost::Cost;

use crate::frame::{Frame, Page, Place, crumbs};
use crate::money::{Figure, amount, named, why as link};
use crate::price::since_ever;
use crate::table;
use crate::when::{Moment, clock, date, day, day_minute, day_until, hour_minute, weekday};

pub fn why(page: Page<'_>, of: WhyView) -> String {
    let now = page.now;
    let figure = figure_of(&of);
    let shown = of.currency.cents(of.cost.shown());
    let title = format!("Why {shown}? {}", figure.words(of.month, of.running));
    Frame::new(page, format!("Why {shown} · Berth")).place(Place::Billing).html(move || {
        let (month, currency, running) = (of.month, of.currency, of.running);
        let billing = match running {
            true => "/billing".to_owned(),
            false => format!("/billing?month={month}"),
        };
        let figure = figure_of(&of);
        let ups = ups(&of, &billing);
        let ups: Vec<(&str, &str)> = ups.iter().map(|(href, name)| (href.as_str(), name.as_str())).collect();
        let crumbs = crumbs(&ups);
        let aside = of.meter.map(|meter| aside(&of, meter, figure));
        let cuts = view! {
            {by_meter(&of)}
            {by_app(&of)}
            {by_day(&of)}
            {by_hour(&of)}
            {readings(&of, now)}
        };
        let body = match aside {
            Some(aside) => view! { <div class="cols"><div>{cuts}</div><aside>{aside}</aside></div> }.into_any(),
            None => cuts.into_any(),
        };
        let exact = currency.exact(of.cost.exact);
        let sums = match of.meter {
            Some(meter) => {
                of.segments.iter().map(|segment| arithmetic(&of, meter, segment)).collect::<Vec<_>>().into_any()
            }
            None => view! { <p>{exact}</p> }.into_any(),
        };
        view! {
            <header class="head">
                {crumbs}
                <h1>{title}</h1>
            </header>
            <section class="sheet cost">
                <p class="money big">{shown}</p>
                {sums}
                <p class="hint">{meaning(&of)}</p>
            </section>
            {body}
        }
    })
}

/// What the page is about.
fn figure_of(of: &WhyView) -> Figure<'_> {
    Figure { app: of.app.as_ref(), meter: of.meter, day: of.day, since: of.since }
}

/// What the figure is a part of.
fn ups(of: &WhyView, billing: &str) -> Vec<(String, String)> {
    let mut ups = vec![(billing.to_owned(), "Billing".to_owned())];
    let part = of.since.map(|_| 0);
    let mut up = |figure: Figure<'_>, name: String| ups.push((figure.href(of.month), name));
    if let Some(app) = of.app.as_ref().filter(|_| of.meter.is_some() || of.day.or(part).is_some()) {
        up(Figure { app: Some(app), ..Figure::default() }, named(app));
    }
    if let Some(meter) = of.meter.filter(|_| of.app.is_none() && of.day.is_some()) {
        up(Figure { meter: Some(meter), ..Figure::default() }, meter.title().to_owned());
    }
    if of.app.is_some() && of.meter.is_some() && of.day.or(part).is_some() {
        let name = of.meter.map(Meter::title).unwrap_or_default();
        up(Figure { app: of.app.as_ref(), meter: of.meter, ..Figure::default() }, name.to_owned());
    }
    ups
}

/// What the cents are.
fn meaning(of: &WhyView) -> String {
    let what = match (of.app.is_some(), of.meter.is_some(), of.day.is_some()) {
        _ if of.since.is_some() => {
            "Each meter to the cent, of whole hours; the bill itself is rounded once for the whole month."
        }
        (true, _, false) => {
            "Each meter of all your apps is rounded once to the cent; this is the app’s share of those cents, by use."
        }
        (false, true, false) => "Rounded once to the cent, of all your apps together.",
        (false, false, false) => "The sum of the meters, each rounded once to the cent.",
        (false, false, true) => "The month’s cents are shared out to its days by what each cost; these are the day’s.",
        (_, _, true) => "To the cent; the bill itself is rounded once for the whole month.",
    };
    let until = match of.running {
        true => format!(" Everything until {} is in it.", clock(of.until)),
        false => String::new(),
    };
    format!("{what} Before tax.{until}")
}

/// One price and what it was applied to.
fn arithmetic(of: &WhyView, meter: Meter, segment: &WhySegment) -> AnyView {
    let currency = of.currency;
    let part = (segment.cut || of.since.is_some() && of.segments.len() > 1).then(|| {
        let words = format!(
            "{} to {}: ",
            day_minute(of.since.map_or(segment.from, |since| since.max(segment.from))),
            day_minute(segment.to)
        );
        view! { <span class="hint">{words}</span> }
    });
    let flat = segment.tiers.len() == 1;
    let whole = (of.day.is_some() || of.since.is_some() && !flat).then_some("In the whole month: ");
    let since = if since_ever(segment.since) { "the beginning".to_owned() } else { date(segment.since) };
    let list = format!("Price list {}, which applies since {since}.", segment.list);
    let all_is_mine = segment.all.units == segment.mine.units;
    let lines: Vec<_> = segment
        .tiers
        .iter()
        .map(|tier| {
            let units = format!("{} {}", meter.exactly(tier.units), meter.units());
            match tier.included {
                true => format!("{units} included = {}", currency.exact(Money::ZERO)),
                false => format!("{units} × {} = {}", currency.price(tier.micros), currency.exact(tier.amount)),
            }
        })
        .collect();
    let mine = currency.exact(segment.mine.exact);
    let (used, all) = (meter.exactly(segment.mine.units), meter.exactly(segment.all.units));
    let body = match (all_is_mine, flat) {
        // One price: the app's own product.
        (_, true) => {
            let price = segment.tiers.first().map_or(0, |tier| tier.micros);
            let words = format!("{used} {} × {} = {mine}", meter.units(), currency.price(price));
            view! { <p>{part} {whole} {words}</p> }.into_any()
        }
        (true, false) => {
            let lines: Vec<_> = lines.into_iter().map(|line| view! { <p>{line}</p> }).collect();
            let sum = (lines.len() > 1).then(|| view! { <p><b>"= " {mine}</b></p> });
            view! { <p>{part} {whole}</p> {lines} {sum} }.into_any()
        }
        (false, false) => {
            let lines: Vec<_> = lines.into_iter().map(|line| view! { <p>{line}</p> }).collect();
            let sum = currency.exact(segment.all.exact);
            let then = if of.since.is_some() { " in these hours" } else { "" };
            let share = format!("{used} of {all} {} are this app’s{then}: its share is {mine}", meter.units());
            view! {
                <p>{part} {whole} "All your apps:"</p>
                {lines}
                <p>"= " {sum}</p>
                <p><b>{share}</b></p>
            }
            .into_any()
        }
    };
    view! {
        {body}
        <p class="hint">{list} {(segment.cut && !flat).then_some(" It held for a part of the month, so included amounts and bounds are as much less.")}</p>
    }
    .into_any()
}

fn exact(currency: Currency, cost: Cost, figure: Figure<'_>, of: &WhyView) -> AnyView {
    link(currency.exact(cost.exact), figure.href(of.month), &figure.words(of.month, of.running))
}

/// A table of the parts of a figure: name, quantity if it has a meter, exact amount.
fn parts(of: &WhyView, first: &str, rows: Vec<AnyView>, cost: Cost) -> AnyView {
    let (currency, exact) = (of.currency.to_string(), of.currency.exact(cost.exact));
    let (heads, sum) = match of.meter {
        Some(meter) => (
            table::heads(&[(first, ""), (units_head(meter), "n"), (&currency, "n")]),
            table::sum(&[(&meter.exactly(cost.units), "n"), (&exact, "n")]),
        ),
        None => (table::heads(&[(first, ""), (&currency, "n")]), table::sum(&[(&exact, "n")])),
    };
    view! { <table>{heads} <tbody>{rows}</tbody> {sum}</table> }.into_any()
}

fn units_head(meter: Meter) -> &'static str {
    match meter {
        Meter::Requests => "Million requests",
        other => other.units(),
    }
}

fn line(of: &WhyView, name: AnyView, cost: Cost, figure: Option<Figure<'_>>) -> AnyView {
    let units = of.meter.map(|meter| view! { <td class="n">{meter.exactly(cost.units)}</td> });
    let shown = match figure {
        Some(figure) => exact(of.currency, cost, figure, of),
        None => of.currency.exact(cost.exact).into_any(),
    };
    view! {
        <tr>
            <th scope="row">{name}</th>
            {units}
            <td class="n">{shown}</td>
        </tr>
    }
    .into_any()
}

fn section(title: &'static str, note: &'static str, table: AnyView) -> AnyView {
    view! {
        <section class="sheet">
            <header>
                <h2>{title}</h2>
                <span>{note}</span>
            </header>
            {table}
        </section>
    }
    .into_any()
}

fn by_meter(of: &WhyView) -> Option<AnyView> {
    if of.meters.is_empty() {
        return None;
    }
    // Cents where these are the bill's own: of a month.
    let cents = of.day.is_none();
    let row = |(meter, cost): &(Meter, Cost)| {
        let figure = Figure { app: of.app.as_ref(), meter: Some(*meter), ..figure_of(of) };
        let rounded = cents
            .then(|| view! { <td class="n">{amount(of.currency, cost.shown(), figure, of.month, of.running)}</td> });
        let shown = match cents {
            true => of.currency.exact(cost.exact).into_any(),
            false => exact(of.currency, *cost, figure, of),
        };
        view! {
            <tr>
                <th scope="row">{meter.title()}</th>
                <td class="n">{meter.shortly(cost.units)} " " <span class="hint">{meter.units()}</span></td>
                <td class="n gone">{shown}</td>
                {rounded}
            </tr>
        }
    };
    let rows: Vec<_> = of.meters.iter().map(row).collect();
    let (currency, exact) = (of.currency.to_string(), of.currency.exact(of.cost.exact));
    let (sum, shown) = ([("", ""), (exact.as_str(), "n gone")], of.currency.cents(of.cost.shown()));
    let heads = [("Meter", ""), ("Used", "n"), (currency.as_str(), "n gone")];
    let (heads, sum) = match cents {
        true => (
            table::heads(&[heads.as_slice(), &[("To the cent", "n")]].concat()),
            table::sum(&[sum.as_slice(), &[(&shown, "n")]].concat()),
        ),
        false => (table::heads(&heads), table::sum(&sum)),
    };
    let table = view! { <table>{heads} <tbody>{rows}</tbody> {sum}</table> };
    Some(section("By meter", "every figure opens", table.into_any()))
}

fn by_app(of: &WhyView) -> Option<AnyView> {
    if of.apps.is_empty() {
        return None;
    }
    let row = |app: &AppCost| {
        let figure = Figure { app: Some(&app.app), ..figure_of(of) };
        line(of, named(&app.app).into_any(), app.cost, Some(figure))
    };
    let rows: Vec<_> = of.apps.iter().map(row).collect();
    Some(section("By app", "by use", parts(of, "App", rows, of.cost)))
}

fn by_day(of: &WhyView) -> Option<AnyView> {
    if of.days.is_empty() {
        return None;
    }
    let row = |day: &DayCost| {
        let figure = Figure { day: Some(day.day), since: None, ..figure_of(of) };
        let last = of.running && day.day == of.month.day_of(of.until);
        let name = day_until(day.day, last.then_some(of.until));
        line(of, name.into_any(), day.cost, Some(figure))
    };
    let rows: Vec<_> = of.days.iter().map(row).collect();
    Some(section("By day", "of UTC", parts(of, of.month.name(), rows, of.cost)))
}

fn by_hour(of: &WhyView) -> Option<AnyView> {
    if of.hours.is_empty() {
        return None;
    }
    let row = |hour: &HourCost| {
        let at = hour.hour.utc();
        let hours = format!("{:02}:00 to {:02}:59", at.hour(), at.hour());
        let name = match of.since {
            None => hours,
            Some(since) if of.by_days() && since.midnight() == hour.hour && since != hour.hour => {
                format!("{}, from {}", day(hour.hour), hour_minute(since))
            }
            Some(_) if of.by_days() => day(hour.hour),
            Some(_) => format!("{} {hours}", weekday(hour.hour)),
        };
        line(of, name.into_any(), hour.cost, None)
    };
    let rows: Vec<_> = of.hours.iter().map(row).collect();
    let (title, first) = if of.by_days() { ("By day", "Day") } else { ("By hour", "Hour") };
    Some(section(title, "of UTC", parts(of, first, rows, of.cost)))
}

fn readings(of: &WhyView, now: Time) -> Option<AnyView> {
    let meter = of.meter?;
    if of.readings.is_empty() && of.computed == 0 {
        return None;
    }
    let row = |reading: &ReadingView| {
        let ReadingView { app, at, life, before, value, used, .. } = reading;
        let whose = of.app.is_none().then(|| view! { <td>{named(app)}</td> });
        let grouped = |value: i64| domain::grouped(value.unsigned_abs().into());
        view! {
            <tr>
                <th scope="row">{Moment::exactly(now, *at)}</th>
                {whose}
                <td><code>{life.to_string()}</code></td>
                <td class="n">{grouped(*before)}</td>
                <td class="n">{grouped(*value)}</td>
                <td class="n">{meter.exactly(*used)}</td>
            </tr>
        }
    };
    let rows: Vec<_> = of.readings.iter().map(row).collect();
    let computed = (of.computed > 0).then(|| {
        let words = format!(
            "What runs now has no reading before the full hour: {} {} are computed in the same way until then.",
            meter.exactly(of.computed),
            meter.units()
        );
        view! { <p class="hint">{words}</p> }
    });
    let figure = figure_of(of);
    let next = of.next.as_ref().map(|after| {
        let href = figure.href(of.month);
        let href = format!("{href}&after={}#readings", after.replace('/', "%2F"));
        view! { <p><a href=href>"Later readings"</a></p> }
    });
    let mut heads = vec![
        ("Read (UTC)", ""),
        ("App", ""),
        ("Counter", ""),
        ("Before", "n"),
        ("Then", "n"),
        (units_head(meter), "n"),
    ];
    heads.retain(|(word, _)| of.app.is_none() || *word != "App");
    let table = (!rows.is_empty()).then(|| {
        view! {
            <section class="scroll" tabindex="0" aria-label="Readings">
                <table>
                    {table::heads(&heads)}
                    <tbody>{rows}</tbody>
                </table>
            </section>
        }
    });
    Some(
        view! {
            <section class="sheet" id="readings">
                <header>
                    <h2>"Readings"</h2>
                    <span>"the oldest first"</span>
                </header>
                {table}
                {computed}
                {next}
            </section>
        }
        .into_any(),
    )
}

fn aside(of: &WhyView, meter: Meter, figure: Figure<'_>) -> AnyView {
    let href = figure.href(of.month);
    let (path, query) = href.split_once('?').unwrap_or((&href, ""));
    let file = format!("{path}/readings.csv?{query}");
    view! {
        <section class="sheet stack">
            <h2>"Where it comes from"</h2>
            <p class="hint">{meter.origin()}</p>
        </section>
        <section class="sheet stack">
            <h2>"Check it yourself"</h2>
            <p class="hint">
                {format!("The file has every reading and the price; what was used, divided by {}, is {}.", domain::grouped(meter.unit().into()), meter.units())}
            </p>
            <p class="actions">
                <a class="btn" href=file>"Readings, CSV"</a>
            </p>
        </section>
    }
    .into_any()
}
