//! Prices: what is in force, what is coming, and how the operator decides on them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Currency, Meter, MeterPrice, Money, Month, PricePlanId, Prices, Tier, Time, parse_decimal};
use plan::{Segment, Share};

use super::now;
use crate::operator::operator;
use crate::{CommandError, Commands, Operator, timely};

/// What customers pay in, until one chooses another.
const CURRENCY: Currency = Currency::EUR;
/// How far ahead prices are decided on.
const AHEAD: Duration = Duration::from_secs(2 * 366 * 86_400);
const KEPT_FOR: Duration = Duration::from_secs(3);
/// Prices that anybody may see, for a few seconds.
pub(crate) type KeptPrices = Arc<Mutex<Option<(Instant, Arc<PriceList>)>>>;
/// Of a month as people speak of it.
const HOURS: u64 = 720;

/// One version of the prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionView {
    pub id: PricePlanId,
    /// Counts from 1, by when they begin to hold.
    pub list: usize,
    pub since: Time,
    pub until: Option<Time>,
    pub prices: Prices,
    pub created: Time,
    /// By name; `None`: Berth's own.
    pub by: Option<String>,
}

/// For the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricesView {
    pub currency: Currency,
    pub now: Time,
    /// The newest first: what is coming, what is in force, what was.
    pub versions: Vec<VersionView>,
}

impl PricesView {
    pub fn in_force(&self) -> Option<&VersionView> {
        self.versions.iter().find(|version| version.since <= self.now)
    }
}

/// What an app of some kind comes to in 30 days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub name: &'static str,
    pub what: &'static str,
    pub lines: Vec<(Meter, u64, Money)>,
    pub amount: Money,
}

/// For everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceList {
    pub currency: Currency,
    pub now: Time,
    pub list: usize,
    pub since: Time,
    pub prices: Prices,
    pub coming: Vec<VersionView>,
    pub examples: Vec<Example>,
}

impl PriceList {
    /// What a small app comes to in 30 days.
    pub fn small(&self) -> Option<Money> {
        self.examples.get(1).map(|example| example.amount)
    }
}

/// As typed, each in the meter's unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterTyped {
    pub included: String,
    pub price: String,
    /// Another price from so much on; both empty: none.
    pub more: [(String, String); 2],
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPrices {
    /// `2026-12-01T00:00`, UTC.
    pub since: String,
    pub meters: BTreeMap<Meter, MeterTyped>,
}

/// By the name of the field: what is wrong with it.
pub type Wrong = Vec<(String, String)>;

impl MeterTyped {
    /// What is in force, to be changed.
    pub fn of(meter: Meter, price: &MeterPrice) -> Self {
        let decimal = |micros: u64| domain::plain(&domain::decimal(u128::from(micros), 6, 0));
        let bound = |at: usize| price.tiers.get(at).and_then(|tier| tier.up_to);
        let more = [1, 2].map(|at| match (bound(at - 1), price.tiers.get(at)) {
            (Some(from), Some(tier)) => (domain::plain(&meter.exactly(from)), decimal(tier.micros)),
            _ => Default::default(),
        });
        Self {
            included: domain::plain(&meter.exactly(price.included)),
            price: decimal(price.tiers.first().map_or(0, |tier| tier.micros)),
            more,
        }
    }

    fn parse(&self, meter: Meter, wrong: &mut Wrong) -> MeterPrice {
        let mut refused = |field: &str, why: &str| wrong.push((format!("{meter}-{field}"), why.to_owned()));
        let quantity = |text: &str| meter.parse(text);
        let included = match self.included.trim() {
            "" => 0,
            typed => quantity(typed).unwrap_or_else(|| {
                refused("included", "Give a number with at most three decimals, such as 10 or 0.5.");
                0
            }),
        };
        let mut tiers = Vec::new();
        match micros(&self.price) {
            Ok(micros) => tiers.push(Tier { up_to: None, micros }),
            Err(why) => refused("price", why),
        }
        let mut from = included;
        for (i, (bound, price)) in self.more.iter().enumerate() {
            let (bound_field, price_field) = (format!("from-{}", i + 2), format!("price-{}", i + 2));
            let (bound, price) = (bound.trim(), price.trim());
            if bound.is_empty() && price.is_empty() {
                continue;
            }
            if i == 1 && self.more.first().is_some_and(|first| first.0.trim().is_empty()) {
                refused(&bound_field, "Fill in the row above first.");
                continue;
            }
            match quantity(bound) {
                None => refused(&bound_field, "Give a number with at most three decimals: from how much on."),
                Some(bound) if bound <= from => {
                    refused(&bound_field, "Each price begins at more than the one before, and than what is included.");
                }
                Some(bound) => {
                    from = bound;
                    if let Some(last) = tiers.last_mut() {
                        last.up_to = Some(bound);
                    }
                }
            }
            match micros(price) {
                Ok(micros) => tiers.push(Tier { up_to: None, micros }),
                Err(why) => refused(&price_field, why),
            }
        }
        MeterPrice { included, tiers }
    }
}

/// What one unit costs, at most a million.
fn micros(text: &str) -> Result<u64, &'static str> {
    let dear = "A price is at most 1,000,000.";
    if text.trim().is_empty() {
        return Err("Give a price; 0 if it costs nothing.");
    }
    let parsed = parse_decimal(text, 6).ok_or("Give a price such as 0.036, with a point and at most six decimals.")?;
    u64::try_from(parsed).ok().filter(|micros| *micros <= 1_000_000_000_000).ok_or(dear)
}

/// `2026-12-01T00:00` or with a space, UTC.
fn moment(text: &str) -> Option<Time> {
    let text = text.trim();
    let (day, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let month: Month = day.get(..7)?.parse().ok()?;
    let digits = |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok());
    let of_month: u8 = digits(day.get(7..)?.strip_prefix('-')?)??;
    let (hours, minutes) = clock.get(..5).filter(|_| matches!(clock.len(), 5 | 8))?.split_once(':')?;
    if clock.len() == 8 && clock.get(5..) != Some(":00") {
        return None;
    }
    let (hours, minutes): (u8, u8) = (digits(hours)??, digits(minutes)??);
    let real = (1..=month.days()).contains(&of_month) && hours < 24 && minutes < 60;
    real.then(|| month.day(of_month).plus(Duration::from_secs(u64::from(hours) * 3600 + u64::from(minutes) * 60)))
}

impl NewPrices {
    /// What is in force, from the next month on.
    pub fn of(prices: &Prices, now: Time) -> Self {
        let typed = |meter: &Meter| (*meter, MeterTyped::of(*meter, &prices.get(meter).cloned().unwrap_or_default()));
        let since = format!("{}-01T00:00", Month::of(now).next());
        Self { since, meters: Meter::ALL.iter().map(typed).collect() }
    }

    /// Exactly, in decimals; or all that is wrong.
    pub fn parse(&self, now: Time) -> Result<(Time, Prices), Wrong> {
        let mut wrong = Wrong::new();
        let since = match moment(&self.since) {
            None => Err("Give a day and an hour (UTC), such as 2026-12-01 00:00."),
            Some(at) if at != at.hour() => Err("Prices change at a full hour."),
            Some(at) if at <= now => Err("That is over: prices never apply to what was used already."),
            Some(at) if at > now.plus(AHEAD) => Err("That is more than two years ahead."),
            Some(at) => Ok(at),
        };
        let since = since.unwrap_or_else(|why| {
            wrong.push(("since".to_owned(), why.to_owned()));
            now
        });
        let mut prices = Prices::new();
        for meter in Meter::ALL {
            let typed = self.meters.get(meter).cloned().unwrap_or_default();
            let before = wrong.len();
            let price = typed.parse(*meter, &mut wrong);
            if wrong.len() == before
                && let Err(why) = price.check()
            {
                wrong.push((format!("{meter}-price"), format!("{why}.")));
            }
            prices.insert(*meter, price);
        }
        if wrong.is_empty() { Ok((since, prices)) } else { Err(wrong) }
    }
}

impl Commands {
    /// What is in force and what is coming, for anybody; `None` before any prices hold.
    pub async fn price_list(&self) -> Result<Option<Arc<PriceList>>, CommandError> {
        {
            let kept = self.prices.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, list)) = kept.as_ref()
                && at.elapsed() < KEPT_FOR
            {
                return Ok(Some(list.clone()));
            }
        }
        timely(async {
            let now = now();
            let code = CURRENCY.to_string();
            let view = versions(store::bill::versions(self.db.pool(), &code).await?, now)?;
            let Some(held) = view.in_force() else { return Ok(None) };
            let coming: Vec<VersionView> = view.versions.iter().filter(|v| v.since > now).rev().cloned().collect();
            let list = Arc::new(PriceList {
                currency: CURRENCY,
                now,
                list: held.list,
                since: held.since,
                examples: examples(&held.prices),
                prices: held.prices.clone(),
                coming,
            });
            *self.prices.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), list.clone()));
            Ok(Some(list))
        })
        .await
    }

    pub async fn prices(&self, by: &Operator) -> Result<PricesView, CommandError> {
        timely(async {
            let mut tx = self.db.snapshot().await?;
            operator(&mut tx, by).await?;
            let rows = store::bill::versions(&mut **tx, &CURRENCY.to_string()).await?;
            tx.commit().await?;
            versions(rows, now())
        })
        .await
    }

    /// New prices from a moment on; or what is wrong, field by field.
    pub async fn prices_set(&self, by: &Operator, typed: &NewPrices) -> Result<Result<(), Wrong>, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            operator(&mut tx, by).await?;
            let (since, prices) = match typed.parse(now()) {
                Ok(parsed) => parsed,
                Err(wrong) => return Ok(Err(wrong)),
            };
            let user = match by {
                Operator::User(actor) => Some(actor.user),
                Operator::Shell => None,
            };
            if !store::bill::create_version(&mut tx, &CURRENCY.to_string(), since, &prices, user).await? {
                let why = "There are prices from that hour on already. Take those back, or choose another hour.";
                return Ok(Err(vec![("since".to_owned(), why.to_owned())]));
            }
            let after = serde_json::json!({ "since": since.to_string(), "prices": prices });
            self.record_prices(&mut tx, by, "prices set", None, Some(after)).await?;
            tx.commit().await?;
            Ok(Ok(()))
        })
        .await
    }

    /// Prices that do not hold yet will not.
    pub async fn prices_take_back(&self, by: &Operator, version: PricePlanId) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            operator(&mut tx, by).await?;
            let taken = store::bill::take_back(&mut tx, version).await?;
            let (since, prices) = taken.ok_or(CommandError::NotFound { what: "list of prices to come" })?;
            let before = serde_json::json!({ "since": since.to_string(), "prices": prices });
            self.record_prices(&mut tx, by, "prices take back", Some(before), None).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn record_prices(
        &self,
        tx: &mut store::Tx,
        by: &Operator,
        verb: &str,
        before: Option<serde_json::Value>,
        after: Option<serde_json::Value>,
    ) -> Result<(), CommandError> {
        match by {
            Operator::User(actor) => self.record(tx, actor, verb, "", before, after).await,
            Operator::Shell => {
                let event = store::event::NewEvent { before, after, ..self.event(crate::Door::Shell, verb, "") };
                Ok(store::event::record(tx, event).await?)
            }
        }
    }
}

fn versions(rows: Vec<store::bill::Version>, now: Time) -> Result<PricesView, CommandError> {
    let ends: Vec<Option<Time>> = rows.iter().skip(1).map(|next| Some(next.since)).chain([None]).collect();
    let view = |((at, row), until): ((usize, store::bill::Version), Option<Time>)| VersionView {
        id: row.id,
        list: at + 1,
        since: row.since,
        until,
        prices: row.prices.0,
        created: row.created,
        by: row.by,
    };
    let mut versions: Vec<VersionView> = rows.into_iter().enumerate().zip(ends).map(view).collect();
    versions.reverse();
    Ok(PricesView { currency: CURRENCY, now, versions })
}

/// What some apps come to in 30 days, by the same `rate` that makes the bill.
fn examples(prices: &Prices) -> Vec<Example> {
    let gib_hours = |mib: u64| mib * 1024 * 3600 * HOURS;
    let example = |name, what, mib: u64, cpu_hours: u64, requests: u64, gib: u64, disk_mib: u64, builds: u64| {
        let used = [
            (Meter::Memory, gib_hours(mib)),
            (Meter::Cpu, cpu_hours * Meter::Cpu.unit()),
            (Meter::Requests, requests),
            (Meter::BytesOut, gib * Meter::BytesOut.unit()),
            (Meter::Storage, gib_hours(disk_mib)),
            (Meter::Builds, builds * Meter::Builds.unit()),
        ];
        let id = PricePlanId(0);
        let whole = Month::of(Time::from_unix_micros(0));
        let (from, to) = (whole.from(), whole.to());
        let segment = Segment { month: whole, plan: id, prices: prices.clone(), from, to, share: Share::WHOLE };
        let line = |(meter, used): (Meter, u64)| Some((meter, used, plan::owed(&segment, meter, used)?));
        let lines: Vec<(Meter, u64, Money)> = used.into_iter().filter_map(line).collect();
        let amount = lines.iter().fold(Money::ZERO, |sum, line| {
            let cents = Money::from_cents(line.2.cents()).unwrap_or_default();
            sum.plus(cents).unwrap_or(sum)
        });
        Example { name, what, lines, amount }
    };
    vec![
        example("A static site", "256 MiB, 100,000 requests", 256, 0, 100_000, 1, 50, 2),
        example("A small Python app", "512 MiB, 1 million requests", 512, 4, 1_000_000, 10, 400, 10),
        example("A shop: 4 processes", "2 GiB, 40 million requests", 2048, 250, 40_000_000, 150, 2048, 120),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(since: &str, change: impl FnOnce(&mut BTreeMap<Meter, MeterTyped>)) -> NewPrices {
        let price = MeterTyped { price: "0.036".into(), ..MeterTyped::default() };
        let mut meters: BTreeMap<Meter, MeterTyped> = Meter::ALL.iter().map(|m| (*m, price.clone())).collect();
        change(&mut meters);
        NewPrices { since: since.into(), meters }
    }

    fn at(text: &str) -> Time {
        moment(text).unwrap()
    }

    #[test]
    fn prices_are_read_exactly_and_what_is_wrong_is_said_of_its_field() {
        let now = at("2026-11-17 14:32");
        let good = typed("2026-12-01T00:00", |meters| {
            let cpu = meters.get_mut(&Meter::Cpu).unwrap();
            cpu.included = "10".into();
            cpu.more = [("100".into(), "0.03".into()), ("1000.5".into(), "0".into())];
        });
        let (since, prices) = good.parse(now).unwrap();
        assert_eq!(since, at("2026-12-01 00:00"));
        let hour = Meter::Cpu.unit();
        let tier = |up_to, micros| Tier { up_to, micros };
        let tiers = vec![tier(Some(100 * hour), 36_000), tier(Some(1000 * hour + hour / 2), 30_000), tier(None, 0)];
        assert_eq!(prices[&Meter::Cpu], MeterPrice { included: 10 * hour, tiers });
        assert_eq!(prices[&Meter::Storage], MeterPrice::flat(36_000));
        // What a form is filled with is what it was.
        let again = NewPrices { since: good.since.clone(), ..NewPrices::of(&prices, now) };
        assert_eq!(again.parse(now).unwrap(), (since, prices));

        let forty = "9".repeat(40);
        for hostile in ["1e9", "NaN", "-1", "0,036", "0.0000001", "", " ", "1000000.000001", "0x10", "٣", &forty] {
            let wrong = typed("2026-12-01T00:00", |m| m.get_mut(&Meter::Cpu).unwrap().price = hostile.into());
            let fields: Vec<String> = wrong.parse(now).unwrap_err().into_iter().map(|wrong| wrong.0).collect();
            assert_eq!(fields, ["cpu-price"], "{hostile}");
            let wrong = typed("2026-12-01T00:00", |m| {
                m.get_mut(&Meter::Requests).unwrap().more[0] = (hostile.into(), "1".into());
            });
            // Of nothing there is nothing; a million of millions is a bound like another.
            if !["1000000.000001"].contains(&hostile) {
                let fields: Vec<String> = wrong.parse(now).unwrap_err().into_iter().map(|wrong| wrong.0).collect();
                assert_eq!(fields, ["requests-from-2"], "{hostile}");
            }
        }
        let order = typed("2026-12-01T00:00", |m| {
            m.get_mut(&Meter::Cpu).unwrap().more = [("10".into(), "1".into()), ("10".into(), "1".into())];
        });
        assert_eq!(order.parse(now).unwrap_err()[0].0, "cpu-from-3");
    }

    #[test]
    fn prices_begin_at_a_full_hour_to_come() {
        let now = at("2026-11-17 14:32");
        let refused = |since: &str| typed(since, |_| {}).parse(now).unwrap_err();
        for since in ["2026-11-17 14:00", "2026-11-17T14:00:00", "2026-11-17", "2020-01-01T00:00"] {
            assert!(refused(since)[0].1.starts_with("That is over"), "{since}");
        }
        for since in [
            "",
            "tomorrow",
            "2026-13-01 00:00",
            "2026-02-30 00:00",
            "2026-12-01 24:00",
            "2026-12-01T00:00:01",
            "9999999-01-01",
        ] {
            assert!(refused(since)[0].1.starts_with("Give a day"), "{since}");
        }
        assert_eq!(refused("2026-12-01 00:30")[0].1, "Prices change at a full hour.");
        assert!(refused("2036-12-01 00:00")[0].1.contains("two years"));
        assert!(typed("2026-11-17T15:00", |_| {}).parse(now).is_ok());
    }

    #[test]
    fn an_example_is_the_sum_of_its_lines() {
        let prices: Prices = Meter::ALL.iter().map(|meter| (*meter, MeterPrice::flat(6_000))).collect();
        for example in examples(&prices) {
            let sum: i64 = example.lines.iter().map(|line| line.2.cents()).sum();
            assert_eq!(example.amount.cents(), sum);
            assert_eq!(example.lines.len(), Meter::ALL.len());
        }
    }
}
