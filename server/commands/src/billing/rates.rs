//! What a day of an app costs with each of its releases: what it reserves, what lies on disk, and what was asked of it.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Currency, CustomerId, DeployState, Meter, Money, Month, Time, signed};
use store::app::{App, Reserved};

use super::books::{price_plans, too_much};
use crate::verbs::memory;
use crate::{CommandError, Commands};

/// As many as a page shows.
const RELEASES: i64 = 20;
const DAY: Duration = Duration::from_secs(86_400);
/// What a release was asked lately says more than what it was asked once.
const LOOK_BACK: Duration = Duration::from_secs(7 * 86_400);

/// At the prices of now, on top of what was used this month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayRate {
    pub number: i64,
    pub amount: Money,
    /// Against the release before, by its number.
    pub change: Option<(i64, Money)>,
    /// CPU time, requests and bytes are in it, as they were in a whole hour at least; else only what it reserves.
    pub busy: bool,
}

impl DayRate {
    /// "€1.07 a day, 2 cents more than v140"
    pub fn words(&self, currency: Currency) -> String {
        let day = format!("{} a day", currency.cents(self.amount));
        let day = if self.busy { day } else { format!("{day} for what it reserves, before anybody uses it") };
        match self.change {
            None => day,
            Some((before, change)) => match change.cents().unsigned_abs() {
                0 => format!("{day}, the same as v{before}"),
                cents => {
                    let more = if change > Money::ZERO { "more" } else { "less" };
                    let by = match cents {
                        1 => "1 cent".to_owned(),
                        2..100 => format!("{cents} cents"),
                        _ => currency.cents(Money::from_micros(change.micros().saturating_abs())),
                    };
                    format!("{day}, {by} {more} than v{before}")
                }
            },
        }
    }

    /// "+€0.02 a day", "same cost"
    pub fn change_words(&self, currency: Currency) -> Option<String> {
        let (_, change) = self.change?;
        Some(match change.cents() {
            0 => "same cost".to_owned(),
            _ => format!("{} a day", signed(currency, change)),
        })
    }
}

/// When a release served.
struct Served {
    number: i64,
    from: Time,
    to: Time,
}

impl Commands {
    /// Of an app whose owner was checked; the newest release first.
    pub(super) async fn rates(&self, customer: CustomerId, app: &App, now: Time) -> Result<Vec<DayRate>, CommandError> {
        let mut tx = self.db.snapshot().await?;
        let currency = store::bill::currency(&mut **tx, customer).await?.unwrap_or_default();
        let versions = price_plans(store::bill::prices(&mut **tx, &currency).await?);
        let complete = store::ledger::progress(&mut **tx).await?.posted;
        let month = Month::of(now);
        let posted = store::bill::posted(&mut **tx, customer, month).await?;
        let deploys = store::deploy::list(&mut **tx, app.id, RELEASES).await?;
        let formations = store::bill::formations(&mut **tx, app.id, RELEASES).await?;
        let reserved = store::app::reserved(&mut **tx, customer).await?;
        let disk = store::disk::usage(&mut **tx, customer).await?;

        let mut spans: Vec<Served> = Vec::new();
        let mut to = now;
        for deploy in deploys.iter().filter(|d| d.state == DeployState::Live) {
            let Some(from) = deploy.ended else { continue };
            spans.push(Served { number: deploy.number, from, to });
            to = from;
        }
        // Whole hours only: in others it was not alone.
        let asked: Vec<(i64, Time, Time)> = spans.iter().filter_map(|span| hours(span, complete)).collect();
        let served = store::bill::served(&mut **tx, app.id, &asked).await?;
        tx.commit().await?;

        let Some(segment) = plan::segments(month, &versions).into_iter().find(|s| s.holds(now)) else {
            return Ok(Vec::new());
        };
        let mut used: BTreeMap<Meter, u64> = BTreeMap::new();
        for row in posted.iter().filter(|row| row.plan_id == segment.plan) {
            let sum = used.entry(row.meter).or_default();
            *sum = sum.saturating_add(u64::try_from(row.units).unwrap_or(0));
        }
        let chosen = reserved.iter().find(|row| row.app_id == app.id);
        let caches = domain::DiskKind::Cache;
        let bytes: i64 = disk.iter().filter(|d| d.app_id == app.id && d.kind != caches).map(|d| d.bytes).sum();
        let a_day = |bytes: u64| bytes / 1024 * DAY.as_secs();

        let mut rates: Vec<DayRate> = Vec::new();
        let mut traffic: Option<BTreeMap<Meter, u64>> = None;
        // The oldest first: what has not served an hour is taken to be asked what the one before was.
        for span in spans.iter().rev() {
            let formation = formations.iter().find(|f| f.number.0 == span.number);
            let Some(formation) = formation else { continue };
            let counts = chosen.map(|row| row.counts.clone()).unwrap_or_default();
            let reserves = memory(&Reserved {
                app_id: app.id,
                state: app.state,
                counts,
                memory: Default::default(),
                formation: formation.formation.clone(),
            });
            if let Some((_, from, to)) = asked.iter().find(|(number, ..)| *number == span.number) {
                let seconds = to.since(*from).as_secs().max(1);
                let of_day = |units: i64| {
                    let units = u128::try_from(units).unwrap_or(0) * u128::from(DAY.as_secs()) / u128::from(seconds);
                    u64::try_from(units).unwrap_or(u64::MAX)
                };
                let mine = served.iter().filter(|row| row.number == span.number);
                traffic = Some(mine.map(|row| (row.meter, of_day(row.units))).collect());
            }
            let mut more = traffic.clone().unwrap_or_default();
            more.insert(Meter::Memory, a_day(reserves));
            more.insert(Meter::Storage, a_day(u64::try_from(bytes).unwrap_or(0)));
            let amount = plan::cost::on_top(&segment, &used, &more).ok_or_else(too_much)?;
            let before = rates.last().map(|before: &DayRate| (before.number, before.amount));
            let change = before.and_then(|(number, before)| Some((number, amount.minus(before)?)));
            rates.push(DayRate { number: span.number, amount, change, busy: traffic.is_some() });
        }
        rates.reverse();
        Ok(rates)
    }
}

/// The whole hours of the last week of a span that are posted, if there are any.
fn hours(span: &Served, complete: Time) -> Option<(i64, Time, Time)> {
    let from = span.from.max(span.to.minus(LOOK_BACK)).plus(Duration::from_secs(3599)).hour();
    let to = span.to.hour().min(complete);
    (from < to).then_some((span.number, from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_said_against_the_release_before() {
        let rate = |amount: i64, change: Option<i64>| DayRate {
            number: 141,
            amount: Money::from_micros(amount),
            change: change.map(|change| (140, Money::from_micros(change))),
            busy: true,
        };
        let said = |rate: DayRate| (rate.words(Currency::EUR), rate.change_words(Currency::EUR).unwrap_or_default());
        let (day, more) = said(rate(1_070_000, Some(20_000)));
        assert_eq!((day.as_str(), more.as_str()), ("€1.07 a day, 2 cents more than v140", "+€0.02 a day"));
        assert_eq!(said(rate(1_070_000, Some(-14_999))).0, "€1.07 a day, 1 cent less than v140");
        assert_eq!(said(rate(9_070_000, Some(-1_500_000))).1, "−€1.50 a day");
        assert_eq!(said(rate(1_070_000, Some(4_000))), ("€1.07 a day, the same as v140".into(), "same cost".into()));
        assert_eq!(said(rate(2_000_000, Some(1_200_000))).0, "€2.00 a day, €1.20 more than v140");
        let quiet = DayRate { busy: false, ..rate(72_000, None) };
        assert_eq!(said(quiet), ("€0.07 a day for what it reserves, before anybody uses it".into(), String::new()));
    }
}
