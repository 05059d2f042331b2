//! What an app costs: this month, a day, and with each release.

use commands::{AppCostView, DayRate, DeployCost};
use leptos::prelude::*;

use crate::money::{Figure, amount};

/// On the app's page.
pub fn panel(cost: &AppCostView) -> AnyView {
    let (month, currency) = (cost.month, cost.currency);
    let figure = |meter| Figure { app: Some(&cost.app), meter, day: None };
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
