//! A month added up day by day: so far, and the forecast.

use commands::{DayCost, ForecastView};
use domain::{Currency, Money, Month, Time};
use leptos::prelude::*;

use crate::money::{Figure, amount};

const WIDTH: i64 = 600;
const HEIGHT: i64 = 160;
const STEPS: i64 = 5;

/// `until`: how far the figures go.
pub fn day_chart(
    currency: Currency,
    month: Month,
    running: bool,
    until: Time,
    days: &[DayCost],
    forecast: Option<&ForecastView>,
) -> AnyView {
    let so_far = days.last().map_or(Money::ZERO, |day| day.so_far);
    let end = forecast.map_or(so_far, |forecast| forecast.total);
    let step = step(so_far.max(end).cents());
    let top = step * STEPS;
    let seconds = i64::try_from(month.length().as_secs()).unwrap_or(1).max(1);
    let x = |at: Time| i64::try_from(at.since(month.from()).as_secs()).unwrap_or(0) * (WIDTH - 1) / seconds;
    let y = |of: Money| (HEIGHT - 1) - of.cents() * (HEIGHT - 1) / top.max(1);
    let point = |(x, y): (i64, i64)| format!("{x},{y}");

    let mut points = vec![(0, HEIGHT - 1)];
    points.extend(days.iter().map(|day| (x(month.day(day.day + 1).min(until)), y(day.so_far))));
    let line: Vec<String> = points.iter().copied().map(point).collect();
    let last = points.last().copied().unwrap_or((0, HEIGHT - 1));
    let area = format!("{} {},{} 0,{}", line.join(" "), last.0, HEIGHT - 1, HEIGHT - 1);
    let ahead = forecast.map(|forecast| format!("{} {}", point(last), point((WIDTH - 1, y(forecast.total)))));
    let grid = (0..=STEPS).map(|n| {
        let y = (HEIGHT - 1) * n / STEPS;
        view! { <polyline fill="none" stroke="#D3DDDC" stroke-width="1" points=format!("0,{y} {},{y}", WIDTH - 1)/> }
    });
    let grid: Vec<_> = grid.collect();
    let scale: Vec<_> = (0..=STEPS).rev().map(|n| view! { <span>{axis(step * n, step)}</span> }).collect();
    let ticks = [1, 8, 15, 22, month.days()].map(|day| view! { <span>{format!("{day} {}", month.short())}</span> });
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
    let rows: Vec<_> = days.iter().map(|day| row(currency, month, running && day.day == today, until, day)).collect();
    let ahead_key = forecast.is_some().then(|| key("#7A5201", "forecast"));
    view! {
        <figure class="chart">
            <figcaption>
                <h2>"Day by day"</h2>
                <span>{currency.sign()} ", before tax"</span>
                <span>{key("#7A5200", "so far")} " " {ahead_key}</span>
            </figcaption>
            <div class="plot tall">
                <div class="y" aria-hidden="true">{scale}</div>
                <svg viewBox=format!("0 0 {WIDTH} {HEIGHT}") preserveAspectRatio="none" role="img" aria-label=said>
                    {grid}
                    <polygon opacity="0.12" fill="#7A5200" points=area/>
                    <polyline fill="none" stroke="#7A5200" stroke-width="2" points=line.join(" ")/>
                    {ahead.map(|points| view! { <polyline fill="none" stroke="#7A5201" stroke-width="2" points=points/> })}
                </svg>
                <div class="x" aria-hidden="true">{ticks.to_vec()}</div>
            </div>
            <details>
                <summary>"Numbers"</summary>
                <section class="scroll" tabindex="0" aria-label="Spend by day">
                    <table>
                        <thead>
                            <tr>
                                <th scope="col">{month.name()}</th>
                                <th scope="col" class="n">"That day"</th>
                                <th scope="col" class="n">"Added up"</th>
                            </tr>
                        </thead>
                        <tbody>{rows}</tbody>
                    </table>
                </section>
            </details>
        </figure>
    }
    .into_any()
}

fn key(ink: &'static str, word: &'static str) -> AnyView {
    view! {
        <span class="key">
            <svg viewBox="0 0 20 8" aria-hidden="true">
                <line x1="0" x2="20" y1="4" y2="4" stroke=ink stroke-width="2"/>
            </svg>
            " "
            {word}
        </span>
    }
    .into_any()
}

fn row(currency: Currency, month: Month, today: bool, until: Time, day: &DayCost) -> AnyView {
    let clock = until.utc();
    let name = match today {
        true => format!("{}, until {:02}:{:02}", day.day, clock.hour(), clock.minute()),
        false => day.day.to_string(),
    };
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

/// In cents, so that five of them hold `most`: 1, 2, 3 or 5 times a power of ten.
fn step(most: i64) -> i64 {
    let mut power = 1;
    loop {
        if let Some(times) = [1, 2, 3, 5].into_iter().find(|times| times * power * STEPS >= most) {
            return times * power;
        }
        power *= 10;
    }
}

/// `cents` on an axis whose lines are `step` apart.
fn axis(cents: i64, step: i64) -> String {
    match step % 100 {
        0 => domain::grouped(u128::from((cents / 100).unsigned_abs())),
        _ => format!("{}.{:02}", cents / 100, cents % 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_holds_the_most_in_five_round_steps() {
        let cases = [(0, 1), (4, 1), (6, 2), (3082, 1000), (5658, 2000), (501, 200), (1_000_000, 200_000)];
        for (most, expected) in cases {
            assert_eq!(step(most), expected, "{most}");
        }
        assert_eq!([axis(5, 1), axis(40_000, 10_000), axis(150_000, 50_000)], ["0.05", "400", "1,500"]);
    }
}
