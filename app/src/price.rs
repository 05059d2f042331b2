//! The operator's page of prices: what is in force, what was, and a new list from an hour to come.

use commands::{MeterTyped, NewPrices, PricesView, VersionView, Wrong};
use domain::{Currency, Meter, Time};
use leptos::prelude::*;

use crate::form::{Field, Typed, summary};
use crate::frame::{Frame, Page, Place};
use crate::money::{price_table, price_words};
use crate::verbs::button;
use crate::when::{Moment, date_minute};

/// What was typed, and what was wrong with it.
#[derive(Debug, Clone, Default)]
pub struct PriceForm {
    pub typed: NewPrices,
    pub wrong: Wrong,
}

pub fn prices(page: Page<'_>, view: PricesView, form: PriceForm) -> String {
    let now = page.now;
    Frame::new(page, "Prices · Berth operator").place(Place::Prices).html(move || {
        let currency = view.currency;
        let coming: Vec<VersionView> = view.versions.iter().filter(|v| v.since > view.now).cloned().collect();
        let sub = match coming.last() {
            None => "Nothing else is coming.".to_owned(),
            Some(next) => format!("Price list {} follows on {}.", next.list, date_minute(next.since)),
        };
        let in_force = view.in_force().cloned();
        let held = in_force.map(|held| {
            let caption = format!("Price list {}, {}, before tax.", held.list, since(&held));
            view! {
                <section class="sheet" id="held">
                    <header>
                        <h2>"In force"</h2>
                        <span>{currency.to_string()}</span>
                    </header>
                    <section class="scroll" tabindex="0" aria-label="Price list in force">
                        {price_table(currency, &held.prices, caption)}
                    </section>
                </section>
            }
        });
        let coming: Vec<_> = coming.into_iter().map(|version| ahead(currency, version)).collect();
        let history: Vec<_> = view.versions.iter().map(|version| entry(currency, version, view.now, now)).collect();
        view! {
            <header class="head">
                <h1>"Prices"</h1>
                <p class="sub">{sub}</p>
            </header>
            <div class="cols">
                <div>
                    {held}
                    {coming}
                    {new_list(form)}
                </div>
                <aside>
                    <section class="sheet">
                        <header>
                            <h2>"Lists"</h2>
                            <span>"newest first"</span>
                        </header>
                        <ol class="rail">{history}</ol>
                    </section>
                    <section class="sheet stack">
                        <h2>"What a new list does"</h2>
                        <p class="hint">
                            "It begins at a full hour to come and never applies to what was used before. A month that it cuts has two parts: each counts from zero, with its share of what is included and of the bounds."
                        </p>
                        <p class="hint">"Customers see it with its date on the first page as soon as it is decided on."</p>
                    </section>
                </aside>
            </div>
        }
    })
}

/// Berth's own list holds since ever.
pub fn since_ever(at: Time) -> bool {
    at.utc().year() < 2020
}

fn since(version: &VersionView) -> String {
    match since_ever(version.since) {
        true => "since the beginning".to_owned(),
        false => format!("since {}", date_minute(version.since)),
    }
}

fn ahead(currency: Currency, version: VersionView) -> AnyView {
    let caption = format!("Price list {}, from {} on, before tax.", version.list, date_minute(version.since));
    let action = format!("/operator/prices/{}/take-back", version.id);
    let label = format!(" price list {}", version.list);
    view! {
        <section class="sheet">
            <header>
                <h2>"Coming"</h2>
                {button(action, "Take back", label)}
            </header>
            <section class="scroll" tabindex="0" aria-label=format!("Price list {}", version.list)>
                {price_table(currency, &version.prices, caption)}
            </section>
        </section>
    }
    .into_any()
}

fn entry(currency: Currency, version: &VersionView, at: Time, now: Time) -> AnyView {
    let is_now = version.since <= at && version.until.is_none_or(|until| until > at);
    let (class, word) = match (is_now, version.since > at) {
        (true, _) => ("now", "in force"),
        (_, true) => ("busy", "coming"),
        _ => ("", "was in force"),
    };
    let by = version.by.clone().unwrap_or_else(|| "Berth’s own".to_owned());
    let words: Vec<String> = Meter::ALL
        .iter()
        .filter_map(|meter| {
            let price = version.prices.get(meter)?;
            Some(format!("{} {}", meter.title(), price_words(currency, *meter, price)))
        })
        .collect();
    let span = match version.until {
        Some(until) if since_ever(version.since) => format!("until {}", date_minute(until)),
        Some(until) => format!("{} to {}", date_minute(version.since), date_minute(until)),
        None if version.since > at => format!("from {} on", date_minute(version.since)),
        None => since(version),
    };
    view! {
        <li class=class>
            <b>{format!("Price list {}", version.list)}</b>
            " "
            {word}
            <p>{span} <br/> {by} ", decided " {Moment::of(now, version.created)}</p>
            <details>
                <summary>"Prices"</summary>
                <p>{words.join(" · ")}</p>
            </details>
        </li>
    }
    .into_any()
}

fn new_list(form: PriceForm) -> AnyView {
    let PriceForm { typed, wrong } = form;
    let error = |field: &str| wrong.iter().find(|(of, _)| of == field).map(|(_, why)| why.clone());
    let fields: Vec<_> = wrong.iter().map(|(field, why)| (field, field_words(field), Typed::wrong("", why))).collect();
    let fields: Vec<_> = fields.iter().map(|(field, words, typed)| (field.as_str(), words.as_str(), typed)).collect();
    let since = Typed { value: typed.since, error: error("since") };
    let meters: Vec<_> = Meter::ALL
        .iter()
        .map(|meter| {
            let of = typed.meters.get(meter).cloned().unwrap_or_default();
            meter_fields(*meter, of, &error)
        })
        .collect();
    view! {
        <section class="sheet" id="new">
            <h2>"A new price list"</h2>
            {summary(None, &fields)}
            <form class="form" method="post" action="/operator/prices" novalidate>
                <Field id="since" label="From (UTC)" typed=since kind="datetime-local" step="3600" autocomplete="off" empty=true
                    hint=|| "A full hour to come, such as 2026-12-01 00:00."/>
                {meters}
                <p>
                    <button type="submit" class="btn main">
                        "Decide on these prices"
                    </button>
                </p>
            </form>
        </section>
    }
    .into_any()
}

/// "CPU time: price"
fn field_words(field: &str) -> String {
    let Some((meter, rest)) = field.split_once('-') else { return "the hour".to_owned() };
    let meter: Option<Meter> = meter.parse().ok();
    let part = match rest {
        "included" => "included",
        "price" => "price",
        "from-2" | "from-3" => "from",
        _ => "price from there on",
    };
    format!("{}: {part}", meter.map(Meter::title).unwrap_or_default())
}

fn meter_fields(meter: Meter, of: MeterTyped, error: &impl Fn(&str) -> Option<String>) -> AnyView {
    let name = |part: &str| format!("{meter}-{part}");
    let field = |part: &str, label: String, value: String| {
        let typed = Typed { value, error: error(&name(part)) };
        view! { <Field id=name(part) label=label typed=typed inputmode="decimal" autocomplete="off" empty=true/> }
    };
    let MeterTyped { included, price, more } = of;
    let open = more.iter().any(|(from, price)| !from.is_empty() || !price.is_empty())
        || ["from-2", "price-2", "from-3", "price-3"].iter().any(|part| error(&name(part)).is_some());
    let [(from_2, price_2), (from_3, price_3)] = more;
    let units = meter.units();
    view! {
        <fieldset class="stack">
            <legend>{meter.title()}</legend>
            <div class="row">
                {field("price", format!("Price of {}", one(meter)), price)}
                {field("included", format!("Included a month, in {units}"), included)}
            </div>
            <details open=open>
                <summary>"Another price from so much on"</summary>
                <div class="row">
                    {field("from-2", format!("From, in {units}"), from_2)}
                    {field("price-2", "Price".to_owned(), price_2)}
                </div>
                <div class="row">
                    {field("from-3", format!("And from, in {units}"), from_3)}
                    {field("price-3", "Price then".to_owned(), price_3)}
                </div>
            </details>
        </fieldset>
    }
    .into_any()
}

/// What a price is of.
fn one(meter: Meter) -> &'static str {
    match meter {
        Meter::Cpu => "a CPU-hour",
        Meter::Memory | Meter::Storage => "a GiB-hour",
        Meter::Requests => "a million",
        Meter::BytesOut => "a GiB",
        Meter::Builds => "a minute",
    }
}
