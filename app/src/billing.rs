//! How much, and why: a month by day, by app and by meter. Each cut gives the same sum.

use commands::{AppCost, BillView, DayCost, ForecastView, MeterCost};
use domain::{Currency, Month};
use leptos::prelude::*;

use crate::day_chart::day_chart;
use crate::frame::{Frame, Page, Place};
use crate::money::{Figure, amount};
use crate::table;
use crate::when::Moment;

pub fn billing(page: Page<'_>, bill: BillView) -> String {
    let customer = page.user.map(|user| user.customer_name.clone()).unwrap_or_default();
    let title = if bill.running { "Billing".to_owned() } else { format!("Billing, {}", bill.month.title()) };
    Frame::new(page, format!("{title} · Berth")).place(Place::Billing).html(move || {
        let (month, currency) = (bill.month, bill.currency);
        let tabs = tabs(&bill);
        let empty = bill.apps.is_empty();
        let body = if empty { nothing(&bill).into_any() } else { figures(bill).into_any() };
        view! {
            <header class="head">
                <div class="title">
                    <h1>"Billing"</h1>
                    <p class="where">{customer}</p>
                </div>
                {tabs}
            </header>
            {body}
            <p class="hint">
                {format!("{} is a month of UTC. Amounts are in {currency}, before tax.", month.title())}
            </p>
        }
    })
}

/// This month, the two before it that have a bill, and the one that is shown.
fn tabs(bill: &BillView) -> AnyView {
    let mut months: Vec<Month> = bill.months.iter().copied().take(4).collect();
    if !months.contains(&bill.month) {
        months.push(bill.month);
    }
    let newest = months.first().copied();
    let tab = |month: Month| {
        let (href, word) = match Some(month) == newest {
            true => ("/billing".to_owned(), "This month".to_owned()),
            false => (format!("/billing?month={month}"), month.title()),
        };
        view! { <a href=href aria-current=(month == bill.month).then_some("page")>{word}</a> }
    };
    let tabs: Vec<_> = months.into_iter().map(tab).collect();
    view! {
        <nav class="tabs" aria-label="Billing">
            {tabs}
            <a href="/#price">"Prices"</a>
        </nav>
    }
    .into_any()
}

/// A month without anything: why, and what to do.
fn nothing(bill: &BillView) -> AnyView {
    let (title, words) = match bill.running {
        true => (
            format!("Nothing used in {}", bill.month.name()),
            "You pay for what your apps use, and none has used anything this month.",
        ),
        false => (
            format!("Nothing used in {}", bill.month.title()),
            "None of your apps used anything in that month, so there is nothing to pay for it.",
        ),
    };
    let next = match bill.running {
        true => view! { <p><a class="btn main" href="/apps/new">"Push an app"</a></p> }.into_any(),
        false => view! { <p><a class="btn" href="/billing">"This month"</a></p> }.into_any(),
    };
    view! {
        <section class="sheet cost">
            <h2>{title}</h2>
            <p class="money big">{bill.currency.cents(domain::Money::ZERO)}</p>
            <p>{words} " " <a href="/#price">"What things cost"</a></p>
            {next}
        </section>
    }
    .into_any()
}

fn figures(bill: BillView) -> impl IntoView {
    let BillView { month, running, currency, until, total, apps, meters, days, forecast, months } = bill;
    let (heading, when) = match running {
        true => (
            format!("{} so far", month.name()),
            view! { "Everything used until " {Moment::second(until)} " is in it." }.into_any(),
        ),
        false => (month.title(), view! { "The month is over." }.into_any()),
    };
    let sums = head_sums(currency, month, forecast.as_ref(), &days);
    let pace = forecast.as_ref().map(|forecast| view! { <p class="hint">{pace(currency, forecast)}</p> });
    let big = currency.cents(total.shown());
    let label = format!("{big}: see how it adds up");
    let other = format!("the same {}, cut the other way", currency.cents(total.shown()));
    let sum = currency.cents(total.shown());
    view! {
        <section class="sheet cost bill" aria-labelledby="sofar">
            <div class="half">
                <div>
                    <h2 id="sofar">{heading}</h2>
                    <p>
                        <a class="money big" href="#lines" aria-label=label>{big}</a>
                    </p>
                    <p class="hint">"Before tax. " {when}</p>
                </div>
                {sums}
            </div>
        </section>
        <div class="cols">
            <div>
                <section class="sheet" id="forecast">
                    <div inner_html=day_chart(currency, month, running, until, &days, forecast.as_ref())></div>
                    {pace}
                </section>
                <section class="sheet" id="lines">
                    <header>
                        <h2>"By app"</h2>
                        <span>"every figure opens"</span>
                    </header>
                    {by_app(currency, month, running, &apps, &sum)}
                </section>
                <section class="sheet" id="meters">
                    <header>
                        <h2>"By meter"</h2>
                        <span>{other}</span>
                    </header>
                    {by_meter(currency, month, running, &meters, &sum)}
                    <p class="hint">
                        "Each meter is rounded once to the cent, and its cents are shared out to the apps by use. So both tables give the same sum."
                    </p>
                </section>
            </div>
            <aside>
                {earlier(&months, month)}
                <section class="sheet stack">
                    <h2>"What counts"</h2>
                    <p class="hint">
                        "You pay for what your apps used, hour by hour, and for nothing else. What our own deploys and restarts cause twice is not counted."
                    </p>
                    <p><a href="/#price">"Price list"</a></p>
                </section>
            </aside>
        </div>
    }
}

fn head_sums(currency: Currency, month: Month, forecast: Option<&ForecastView>, days: &[DayCost]) -> AnyView {
    let busiest = days.iter().max_by_key(|day| (day.cost.exact, std::cmp::Reverse(day.day)));
    let busiest = busiest.filter(|day| day.cost.amount != domain::Money::ZERO);
    let busiest = busiest.map(|day| {
        let figure = Figure { day: Some(day.day), ..Figure::default() };
        view! {
            <dt>"Dearest day, " {day.day} " " {month.short()}</dt>
            <dd>{amount(currency, day.cost.shown(), figure, month, true)}</dd>
        }
    });
    let forecast = forecast.map(|forecast| {
        let (total, more) = (currency.cents(forecast.total), currency.cents(forecast.more));
        let label = format!("{total}: how it is reckoned");
        view! {
            <dt>{format!("Forecast for {} {}", month.days(), month.name())}</dt>
            <dd>
                <b><a class="money" href="#forecast" aria-label=label>{total}</a></b>
            </dd>
            <dt>"Of it, still to come"</dt>
            <dd class="money">{more}</dd>
        }
    });
    view! {
        <dl class="facts sums">
            {forecast}
            {busiest}
        </dl>
    }
    .into_any()
}

/// How a forecast is made, in a sentence.
fn pace(currency: Currency, forecast: &ForecastView) -> String {
    let past = currency.cents(forecast.past);
    let span = match forecast.hours {
        168 => "The last 7 whole days".to_owned(),
        24 => "The last whole day".to_owned(),
        hours if hours % 24 == 0 => format!("The last {} whole days", hours / 24),
        1 => "The first hour".to_owned(),
        hours => format!("The first {hours} hours"),
    };
    let left = forecast.left.as_secs() / 360;
    let (whole, tenth) = (left / 10, left % 10);
    format!(
        "{span} cost {past}. At that pace the {whole}.{tenth} hours left cost {} more.",
        currency.cents(forecast.more)
    )
}

fn by_app(currency: Currency, month: Month, running: bool, apps: &[AppCost], sum: &str) -> AnyView {
    let most = apps.first().map_or(0, |app| app.cost.exact.micros()).max(1);
    let row = |of: &AppCost| {
        let width = i128::from(of.cost.exact.micros()) * 1000 / i128::from(most);
        let width = format!("{}.{}%", width / 10, width % 10);
        let name = match of.app.deleted {
            Some(_) => view! { {of.app.name.to_string()} " " <small class="hint">"deleted"</small> }.into_any(),
            None => view! { <a href=format!("/apps/{}", of.app.name)>{of.app.name.to_string()}</a> }.into_any(),
        };
        let figure = Figure { app: Some(&of.app), ..Figure::default() };
        view! {
            <tr>
                <th scope="row">{name}</th>
                <td class="gone bar-col">
                    <svg class="share cost" aria-hidden="true">
                        <rect class="track" width="100%" height="100%" rx="3"/>
                        <rect class="used" width=width height="100%" rx="3"/>
                    </svg>
                </td>
                <td class="n">{amount(currency, of.cost.shown(), figure, month, running)}</td>
            </tr>
        }
    };
    let rows: Vec<_> = apps.iter().map(row).collect();
    view! {
        <table>
            {table::heads(&[("App", ""), ("Share", "gone vh"), ("Before tax", "n")])}
            <tbody>{rows}</tbody>
            {table::sum(&[("", "gone"), (sum, "n")])}
        </table>
    }
    .into_any()
}

fn by_meter(currency: Currency, month: Month, running: bool, meters: &[MeterCost], sum: &str) -> AnyView {
    let row = |of: &MeterCost| {
        let prices: Vec<String> = of.prices.iter().map(|micros| currency.price(*micros)).collect();
        let figure = Figure { meter: Some(of.meter), ..Figure::default() };
        view! {
            <tr>
                <th scope="row">{of.meter.title()}</th>
                <td class="n">{of.meter.shortly(of.cost.units)} " " <span class="hint">{of.meter.units()}</span></td>
                <td class="n gone">{prices.join(", ")}</td>
                <td class="n">{amount(currency, of.cost.shown(), figure, month, running)}</td>
            </tr>
        }
    };
    let rows: Vec<_> = meters.iter().map(row).collect();
    view! {
        <table>
            {table::heads(&[("Meter", ""), ("Used", "n"), ("Price each", "n gone"), ("Before tax", "n")])}
            <tbody>{rows}</tbody>
            {table::sum(&[("", ""), ("", "gone"), (sum, "n")])}
        </table>
    }
    .into_any()
}

/// The months before, each with its bill.
fn earlier(months: &[Month], shown: Month) -> Option<AnyView> {
    let others: Vec<Month> = months.iter().copied().filter(|month| *month != shown).take(24).collect();
    if others.is_empty() {
        return None;
    }
    let link = |month: Month| view! { <li><a href=format!("/billing?month={month}")>{month.title()}</a></li> };
    let links: Vec<_> = others.into_iter().map(link).collect();
    Some(
        view! {
            <section class="sheet">
                <h2>"Other months"</h2>
                <ul class="plain">{links}</ul>
            </section>
        }
        .into_any(),
    )
}
