//! What an app costs: this month, a day, with each release, and in a range of its graphs.

use commands::{AppCostView, DayRate, DeployCost, Range, RangeCost};
use domain::Meter;
use leptos::prelude::*;

use crate::money::{Figure, amount, since};
use crate::table;
use crate::when::hour_minute;

/// On the app's page.
pub fn panel(cost: &AppCostView) -> AnyView {
    let (month, currency) = (cost.month, cost.currency);
    let figure = |meter| Figure { app: Some(&cost.app), meter, ..Figure::default() };
    let forecast = cost.forecast.map(|total| {
        view! {
            <dt>{format!("Forecast for {} {}", month.days(), month.short())}</dt>
            <dd>"about " {currency.cents(total)}</dd>
        }
    });
    let day = cost.day.map(|day| {
        view! {
            <dt>"A day at this rate"</dt>
            <dd>{rate(currency, &day)}</dd>
        }
    });
    let meters: Vec<_> = cost
        .meters
        .iter()
        .map(|(meter, of)| {
            view! {
                <dt>{meter.title()}</dt>
                <dd>{amount(currency, of.shown(), figure(Some(*meter)), month, true)}</dd>
            }
        })
        .collect();
    let by_meter = (!meters.is_empty()).then(|| view! { <hr/> <dl class="facts sums">{meters}</dl> });
    view! {
        <section class="sheet cost" id="cost">
            <header>
                <h2>"Cost in " {month.name()}</h2>
                <span>"before tax"</span>
            </header>
            <dl class="facts sums">
                <dt>"So far"</dt>
                <dd>
                    <b>{amount(currency, cost.total.shown(), figure(None), month, true)}</b>
                </dd>
                {forecast}
                {day}
            </dl>
            {by_meter}
        </section>
    }
    .into_any()
}

/// Of one meter or all of them, in a range of an app's graphs.
fn of_meter(cost: &RangeCost, meter: Option<Meter>) -> AnyView {
    let of = meter.map_or(cost.total, |meter| cost.meters.get(&meter).copied().unwrap_or_default());
    let figure = Figure { app: Some(&cost.app), meter, since: Some(cost.since), day: None };
    amount(cost.currency, of.shown(), figure, cost.month, true)
}

/// Beside a graph: what that which it shows costs.
pub fn beside(cost: &RangeCost, meter: Meter) -> String {
    of_meter(cost, Some(meter)).to_html()
}

/// Below the graphs: the meters of a range, and their sum.
pub fn of_range(cost: &RangeCost, range: Range) -> AnyView {
    let title = match range {
        // Money is counted by whole hours.
        Range::Hour => format!("What it cost since {}", hour_minute(cost.since)),
        Range::Day => "What this day cost".to_owned(),
        Range::Month => "What these 30 days cost".to_owned(),
    };
    let row = |meter: &Meter| {
        view! {
            <tr>
                <th scope="row">{meter.title()}</th>
                <td class="n">{of_meter(cost, Some(*meter))}</td>
            </tr>
        }
    };
    let always = [Meter::Cpu, Meter::Memory, Meter::Requests, Meter::BytesOut];
    let rows = Meter::ALL.iter().filter(|meter| always.contains(meter) || cost.meters.contains_key(meter));
    let rows: Vec<_> = rows.map(row).collect();
    let month = Figure { app: Some(&cost.app), ..Figure::default() }.href(cost.month);
    let month_words = format!("{} so far", cost.month.name());
    let words = format!("Whole hours of UTC, {}. ", since(cost.since));
    view! {
        <section class="sheet cost">
            <header>
                <h2>{title}</h2>
                <span>"before tax"</span>
            </header>
            <table>
                {table::heads(&[("Meter", ""), ("Cost", "n")])}
                <tbody>{rows}</tbody>
                <tfoot>
                    <tr>
                        <th scope="row">"All of it"</th>
                        <td class="n">{of_meter(cost, None)}</td>
                    </tr>
                </tfoot>
            </table>
            <p class="hint">{words} <a href=month>{month_words}</a> " is explained the same way."</p>
        </section>
    }
    .into_any()
}

/// "€1.07"; "at least" before anybody used it.
fn rate(currency: domain::Currency, day: &DayRate) -> String {
    let shown = currency.cents(day.amount);
    if day.busy { shown } else { format!("at least {shown}") }
}

/// The first answer of the app's page about money.
pub fn vital(cost: &AppCostView) -> AnyView {
    let figure = Figure { app: Some(&cost.app), ..Figure::default() };
    // Seven of them stand in a row: a note is one short line.
    let note =
        cost.day.map(|day| format!("{}{} a day", if day.busy { "" } else { "from " }, cost.currency.cents(day.amount)));
    view! {
        <div class="cost">
            <dt>{cost.month.name()} " so far"</dt>
            <dd>{amount(cost.currency, cost.total.shown(), figure, cost.month, true)}</dd>
            <dd class="note">{note.unwrap_or_else(|| "before tax".to_owned())}</dd>
        </div>
    }
    .into_any()
}

/// Beside a release: "+€0.02 a day".
pub fn change(cost: &AppCostView, number: i64) -> Option<AnyView> {
    let rate = cost.releases.iter().find(|rate| rate.number == number)?;
    let day = self::rate(cost.currency, rate);
    let (class, words) = match rate.change {
        None => ("", format!("{day} a day")),
        Some((_, change)) if change.cents() > 0 => ("up", rate.change_words(cost.currency)?),
        Some(_) => ("", rate.change_words(cost.currency)?),
    };
    let title = format!("{day} a day");
    Some(view! { <span class=class title=title>{words}</span> }.into_any())
}

/// On a deploy's page.
pub fn of_deploy(cost: &DeployCost, number: i64) -> Option<AnyView> {
    if cost.build.is_none() && cost.day.is_none() && cost.serving.is_none() {
        return None;
    }
    let currency = cost.currency;
    let build = cost.build.map(|(took, amount)| {
        let took = islands::words::took(u64::try_from(took.as_millis()).unwrap_or(0));
        view! {
            <dt>"This build, " {took}</dt>
            <dd class="n money">{currency.exact(amount)}</dd>
        }
    });
    let day = |rate: DayRate| {
        view! {
            <dt>{format!("A day with v{}", rate.number)}</dt>
            <dd>{self::rate(currency, &rate)}</dd>
        }
    };
    let unknown = cost.day.is_none().then(|| {
        view! {
            <dt>{format!("A day with v{number}")}</dt>
            <dd>"known when it serves"</dd>
        }
    });
    let change = cost.day.and_then(|rate| {
        let (before, _) = rate.change?;
        Some(view! {
            <dt>{format!("Against v{before}")}</dt>
            <dd>{rate.change_words(currency)}</dd>
        })
    });
    Some(
        view! {
            <section class="sheet cost">
                <header>
                    <h2>"Cost"</h2>
                    <span>"about, before tax"</span>
                </header>
                <dl class="facts sums">
                    {build}
                    {cost.serving.map(day)}
                    {cost.day.map(day)}
                    {unknown}
                    {change}
                </dl>
            </section>
        }
        .into_any(),
    )
}
