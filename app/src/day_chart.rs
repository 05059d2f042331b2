//! A month added up day by day: so far, and the forecast.

use commands::{DayCost, ForecastView};
use domain::{Currency, Money, Month, Time};
use leptos::prelude::*;

use crate::chart::{Figure as Chart, Ink, Path, Unit, scale, still};
use crate::money::{Figure, amount};
use crate::table::heads;
use crate::when::day_until;

/// `until`: how far the figures go.
pub fn day_chart(
    currency: Currency,
    month: Month,
    running: bool,
    until: Time,
    days: &[DayCost],
    forecast: Option<&ForecastView>,
) -> String {
    let so_far = days.last().map_or(Money::ZERO, |day| day.so_far);
    let point = |at: Time, of: Money| (at.since(month.from()).as_secs_f64(), of.micros() as f64 / 1e6);
    let mut points = vec![point(month.from(), Money::ZERO)];
    points.extend(days.iter().map(|day| point(month.day(day.day + 1).min(until), day.so_far)));
    let last = points.last().copied().unwrap_or_default();
    let mut paths = vec![Path { ink: Ink::Money, width: 2, points, ground: true }];
    paths.extend(forecast.map(|forecast| {
        let points = vec![last, point(month.to(), forecast.total)];
        Path { ink: Ink::Forecast, width: 2, points, ground: false }
    }));
    let today = days.last().map_or(1, |day| day.day);
    let said = match forecast {
        Some(forecast) => format!(
            "Spend in {}, added up day by day: {} by {today} {}, forecast {} by {} {}.",
            month.name(),
            currency.cents(so_far),
            month.name(),
            currency.cents(forecast.total),
            month.days(),
            month.name()
        ),
        None => format!("Spend in {}, added up day by day: {}.", month.title(), currency.cents(so_far)),
    };
    let most = forecast.map_or(so_far, |forecast| forecast.total.max(so_far));
    let scale = scale(most.cents() as f64 / 100.0, Unit::Money);
    let keys = [("so far", Ink::Money), ("forecast", Ink::Forecast)];
    let chart = Chart {
        heading: "h2",
        title: "Day by day",
        unit: &format!("{}, before tax", currency.sign()),
        note: "",
        cost: None,
        keys: if forecast.is_some() { &keys } else { &[] },
        scale: &scale,
        class: "plot tall",
        drawing: still(&paths, month.length().as_secs_f64(), &scale, &said),
        x: [1, 8, 15, 22, month.days()].map(|day| format!("{day} {}", month.short())).into(),
    };
    let rows: Vec<_> =
        days.iter().map(|day| row(currency, month, (running && day.day == today).then_some(until), day)).collect();
    let numbers = view! {
        <details>
            <summary>"Numbers"</summary>
            <section class="scroll" tabindex="0" aria-label="Spend by day">
                <table>
                    {heads(&[(month.name(), ""), ("That day", "n"), ("Added up", "n")])}
                    <tbody>{rows}</tbody>
                </table>
            </section>
        </details>
    };
    let mut html = String::new();
    chart.write(&mut html, |html| html.push_str(&numbers.to_html()));
    html
}

fn row(currency: Currency, month: Month, until: Option<Time>, day: &DayCost) -> AnyView {
    let name = day_until(day.day, until);
    let that = match day.cost.exact {
        Money::ZERO => currency.cents(Money::ZERO).into_any(),
        _ => amount(currency, day.cost.shown(), Figure { day: Some(day.day), ..Figure::default() }, month, true),
    };
    view! {
        <tr>
            <th scope="row">{name}</th>
            <td class="n">{that}</td>
            <td class="n">{currency.cents(day.so_far)}</td>
        </tr>
    }
    .into_any()
}
