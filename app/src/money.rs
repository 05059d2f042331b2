//! Amounts as links to their arithmetic, and the words of prices.

use commands::AppRef;
use domain::{Currency, Meter, MeterPrice, Money, Month, Prices, Time};
use leptos::prelude::*;

use crate::table::heads;
use crate::when::{day_minute, weekday};

/// Which figure: where its arithmetic is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure<'a> {
    pub app: Option<&'a AppRef>,
    pub meter: Option<Meter>,
    pub day: Option<u8>,
    /// Of an app: the hours from this one on.
    pub since: Option<Time>,
}

impl Figure<'_> {
    pub fn href(&self, month: Month) -> String {
        let app = self.app.map(|app| format!("app={}", app.key.replace('~', "%7E")));
        let meter = self.meter.map(|meter| format!("meter={meter}"));
        let day = self.day.map(|day| format!("day={day}"));
        let since = self.since.map(|since| {
            let utc = since.utc();
            format!("since={}T{:02}:00", utc.date(), utc.hour())
        });
        let asked: Vec<String> = [app, meter, day, since].into_iter().flatten().collect();
        let mark = if asked.is_empty() { "" } else { "?" };
        format!("/billing/why/{month}{mark}{}", asked.join("&"))
    }

    /// "CPU time of orchard, 17 November"
    pub fn words(&self, month: Month, running: bool) -> String {
        let when = match (self.day.map(|day| format!("{day} {}", month.name())), running) {
            (None, _) if self.since.is_some() => self.since.map(since).unwrap_or_default(),
            (Some(day), _) => day,
            (None, true) => format!("{} so far", month.name()),
            (None, false) => month.title(),
        };
        match (self.meter, self.app) {
            (Some(meter), Some(app)) => format!("{} of {}, {when}", meter.title(), named(app)),
            (Some(meter), None) => format!("{}, {when}", meter.title()),
            (None, Some(app)) => format!("{}, {when}", named(app)),
            (None, None) => when,
        }
    }
}

/// "since Mon 16 Nov 14:00"
pub fn since(at: Time) -> String {
    format!("since {} {}", weekday(at), day_minute(at))
}

/// A deleted app says so.
pub fn named(app: &AppRef) -> String {
    match app.deleted {
        Some(_) => format!("{} (deleted)", app.name),
        None => app.name.to_string(),
    }
}

/// An amount that leads to its arithmetic.
pub fn why(shown: String, href: String, what: &str) -> AnyView {
    let label = format!("{shown}: why, {what}");
    view! { <a class="money" href=href aria-label=label>{shown}</a> }.into_any()
}

/// In cents.
pub fn amount(currency: Currency, of: Money, figure: Figure<'_>, month: Month, running: bool) -> AnyView {
    why(currency.cents(of), figure.href(month), &figure.words(month, running))
}

/// What a meter costs, in a line: "€0.036", "€0.036, from 1,000 on €0.030".
pub fn price_words(currency: Currency, meter: Meter, price: &MeterPrice) -> String {
    let mut words = Vec::new();
    let mut from = None;
    for tier in &price.tiers {
        let each = currency.price(tier.micros);
        words.push(match from {
            None => each,
            Some(from) => format!("from {} on {each}", meter.exactly(from)),
        });
        from = tier.up_to;
    }
    if words.is_empty() {
        words.push(currency.price(0));
    }
    if price.included > 0 {
        words.push(format!("{} included", meter.exactly(price.included)));
    }
    words.join(", ")
}

/// What somebody who begins should expect.
pub fn what_it_costs((currency, amount): (Currency, Money)) -> AnyView {
    let month = currency.cents(amount);
    view! {
        <section class="sheet cost stack">
            <h2>"What it costs"</h2>
            <p>
                "You pay for what your apps use. A small Python app comes to about " <b class="money">{month}</b>
                " a month. " <a href="/#price">"See how that adds up"</a>
            </p>
        </section>
    }
    .into_any()
}

/// The price list.
pub fn price_table(currency: Currency, prices: &Prices, caption: String) -> AnyView {
    let row = |meter: &Meter| {
        let price = prices.get(meter).cloned().unwrap_or_default();
        view! {
            <tr>
                <th scope="row">{meter.title()}</th>
                <td class="n money">{price_words(currency, *meter, &price)}</td>
                <td>{meter.each()} {a_month(currency, *meter, &price)}</td>
            </tr>
        }
    };
    let rows: Vec<_> = Meter::ALL.iter().map(row).collect();
    view! {
        <table>
            <caption>{caption}</caption>
            {heads(&[("You use", ""), ("Price", "n"), ("for each", "")])}
            <tbody>{rows}</tbody>
        </table>
    }
    .into_any()
}

/// A small price by the hour, as people think of it: " (€0.10 a GiB-month)", of 720 hours.
fn a_month(currency: Currency, meter: Meter, price: &MeterPrice) -> Option<String> {
    let [only] = price.tiers.as_slice() else { return None };
    let month = i64::try_from(only.micros.checked_mul(720)?).ok()?;
    (meter == Meter::Storage && only.micros > 0)
        .then(|| format!(" ({} a GiB-month)", currency.cents(Money::from_micros(month))))
}

#[cfg(test)]
mod tests {
    use domain::Tier;

    use super::*;

    #[test]
    fn a_price_is_said_with_its_tiers_and_what_is_included() {
        let hour = Meter::Cpu.unit();
        let tier = |up_to, micros| Tier { up_to, micros };
        let price =
            MeterPrice { included: 10 * hour, tiers: vec![tier(Some(1000 * hour), 36_000), tier(None, 30_000)] };
        assert_eq!(price_words(Currency::EUR, Meter::Cpu, &price), "€0.036, from 1,000 on €0.030, 10 included");
        assert_eq!(price_words(Currency::EUR, Meter::Cpu, &MeterPrice::default()), "€0.000");
        let storage = MeterPrice::flat(140);
        assert_eq!(a_month(Currency::EUR, Meter::Storage, &storage).as_deref(), Some(" (€0.10 a GiB-month)"));
    }
}
