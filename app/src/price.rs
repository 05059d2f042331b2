//! The operator's page of prices: what is in force, what was, and a new list from an hour to come.

use commands::{MeterTyped, NewPrices, PricesView, VersionView, Wrong};
use domain::{Currency, Meter, Time};
use leptos::prelude::*;

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
    let links: Vec<_> = wrong
        .iter()
        .enumerate()
        .map(|(at, (field, _))| {
            view! { {(at > 0).then_some(", ")} <a href=format!("#{field}")>{field_words(field)}</a> }
        })
        .collect();
    let summary = (!links.is_empty()).then(|| {
        let title = match links.len() {
            1 => "One thing to correct:".to_owned(),
            n => format!("{n} things to correct:"),
        };
        view! {
            <div class="notice bad" role="alert">
                <div>
                    <strong>{title}</strong>
                    " "
                    {links}
                    ". What you typed is kept."
                </div>
            </div>
        }
    });
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
            {summary}
            <form class="form" method="post" action="/operator/prices" novalidate>
                {input("since".to_owned(), "From (UTC)".to_owned(), typed.since, error("since"), Some("A full hour to come, such as 2026-12-01 00:00."), "datetime-local", "")}
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
    let field = |part: &str, label: String, value: String, hint: Option<&'static str>| {
        input(name(part), label, value, error(&name(part)), hint, "text", "decimal")
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
                {field("price", format!("Price of {}", one(meter)), price, None)}
                {field("included", format!("Included a month, in {units}"), included, None)}
            </div>
            <details open=open>
                <summary>"Another price from so much on"</summary>
                <div class="row">
                    {field("from-2", format!("From, in {units}"), from_2, None)}
                    {field("price-2", "Price".to_owned(), price_2, None)}
                </div>
                <div class="row">
                    {field("from-3", format!("And from, in {units}"), from_3, None)}
                    {field("price-3", "Price then".to_owned(), price_3, None)}
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

fn input(
    name: String,
    label: String,
    value: String,
    error: Option<String>,
    hint: Option<&'static str>,
    kind: &'static str,
    inputmode: &'static str,
) -> AnyView {
    let described = match (&error, hint) {
        (None, None) => None,
        (Some(_), None) => Some(format!("{name}-err")),
        (None, Some(_)) => Some(format!("{name}-hint")),
        (Some(_), Some(_)) => Some(format!("{name}-err {name}-hint")),
    };
    let wrong = error.is_some().then_some("true");
    let step = (kind == "datetime-local").then_some("3600");
    let inputmode = (!inputmode.is_empty()).then_some(inputmode);
    let (err_id, hint_id) = (format!("{name}-err"), format!("{name}-hint"));
    view! {
        <div class="field">
            <label for=name.clone()>{label}</label>
            <input
                type=kind
                id=name.clone()
                name=name
                value=value
                step=step
                inputmode=inputmode
                autocomplete="off"
                aria-invalid=wrong
                aria-describedby=described
            />
            {error.map(|error| view! { <p class="err" id=err_id>{error}</p> })}
            {hint.map(|hint| view! { <p class="hint" id=hint_id>{hint}</p> })}
        </div>
    }
    .into_any()
}
