//! What a person is shown of a bill: its sums by app, by meter and by day, the arithmetic of one amount, what more would
//! cost, and how a month goes on.
//!
//! What was posted is taken as it is; what was used since then is rated on top of it, by the same [`rate`].

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{AppId, Meter, MeterPrice, Money, Month, PricePlanId, Time};

use crate::{Bill, Segment, Share, Use, Used, owed, rate, share_out};

/// What was used and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// In what the meter counts; of several meters zero.
    pub units: u64,
    /// To the micro-unit.
    pub exact: Money,
    /// In whole cents.
    pub amount: Money,
}

impl Cost {
    fn add(&mut self, other: Self) -> Option<()> {
        self.units = self.units.checked_add(other.units)?;
        self.exact = self.exact.plus(other.exact)?;
        self.amount = self.amount.plus(other.amount)?;
        Some(())
    }

    /// In cents, to be shown. What is not zero but has no cent is a micro-unit, which is written "<€0.01".
    pub fn shown(self) -> Money {
        match (self.amount.cents(), self.exact) {
            (0, exact) if exact != Money::ZERO => Money::from_micros(1),
            _ => self.amount,
        }
    }

    fn of_several(self) -> Self {
        Self { units: 0, ..self }
    }
}

/// The sums of a bill.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cuts {
    pub total: Cost,
    pub meters: BTreeMap<Meter, Cost>,
    pub apps: BTreeMap<AppId, Cost>,
    pub lines: BTreeMap<(AppId, Meter), Cost>,
    pub days: BTreeMap<u8, Cost>,
    /// To the micro-unit only: the cents are of whole days.
    pub day_meters: BTreeMap<(u8, Meter), Cost>,
}

/// By (day from 1, meter): units, and to the micro-unit what they cost.
pub type Days = BTreeMap<(u8, Meter), (u64, Money)>;

/// `days` are of what `bill` is of. `None`: more than an amount holds.
pub fn cuts(bill: &Bill, days: &Days) -> Option<Cuts> {
    let mut cuts = Cuts::default();
    for line in &bill.lines {
        let cost = Cost { units: line.used, exact: line.owed, amount: Money::from_cents(line.cents)? };
        cuts.total.add(cost.of_several())?;
        cuts.meters.entry(line.meter).or_default().add(cost)?;
        for of in &line.apps {
            let cost = Cost { units: of.used, exact: of.owed, amount: Money::from_cents(of.cents)? };
            cuts.apps.entry(of.app).or_default().add(cost.of_several())?;
            cuts.lines.entry((of.app, line.meter)).or_default().add(cost)?;
        }
    }
    for ((day, meter), (units, exact)) in days {
        let cost = Cost { units: *units, exact: *exact, amount: Money::ZERO };
        cuts.day_meters.insert((*day, *meter), cost);
        cuts.days.entry(*day).or_default().add(cost.of_several())?;
    }
    // The cents of the whole, by what each day cost.
    if cuts.days.is_empty() && cuts.total.amount != Money::ZERO {
        cuts.days.insert(1, Cost::default());
    }
    let weights: Vec<u64> = cuts.days.values().map(|cost| u64::try_from(cost.exact.micros()).unwrap_or(0)).collect();
    let cents = share_out(cuts.total.amount.cents(), &weights);
    for (cost, cents) in cuts.days.values_mut().zip(cents) {
        cost.amount = Money::from_cents(cents)?;
    }
    Some(cuts)
}

/// Adds to the days of a month what was used and is not posted, on top of what is. Other months' is left out.
pub fn add_fresh(
    days: &mut Days,
    month: Month,
    segments: &[Segment],
    posted: &Used,
    fresh: &BTreeMap<Use, u64>,
) -> Option<()> {
    let mut used: BTreeMap<(PricePlanId, Meter), u64> = BTreeMap::new();
    for ((plan, meter, _), units) in posted {
        let sum = used.entry((*plan, *meter)).or_default();
        *sum = sum.checked_add(u64::try_from(*units).unwrap_or(0))?;
    }
    // In the order of hours: a tier is reached once.
    for (of, units) in fresh {
        let Some(segment) = segments.iter().find(|segment| segment.holds(of.hour)) else { continue };
        let used = used.entry((segment.plan, of.meter)).or_default();
        let before = owed(segment, of.meter, *used)?;
        *used = used.checked_add(*units)?;
        let more = owed(segment, of.meter, *used)?.minus(before)?;
        let day = days.entry((month.day_of(of.hour), of.meter)).or_default();
        *day = (day.0.checked_add(*units)?, day.1.plus(more)?);
    }
    Some(())
}

/// What so much more costs, on top of what was used in a segment.
pub fn on_top(segment: &Segment, used: &BTreeMap<Meter, u64>, more: &BTreeMap<Meter, u64>) -> Option<Money> {
    let mut sum = Money::ZERO;
    for (meter, more) in more {
        let used = used.get(meter).copied().unwrap_or(0);
        let cost = owed(segment, *meter, used.checked_add(*more)?)?.minus(owed(segment, *meter, used)?)?;
        sum = sum.plus(cost)?;
    }
    Some(sum)
}

/// What one tier of a price makes of the usage: its arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierLine {
    pub units: u64,
    pub micros: u64,
    pub amount: Money,
    /// It costs nothing, by what is included.
    pub included: bool,
}

/// The tiers that `used` reaches. Their amounts add up to its [`rate`].
pub fn tiers(meter: Meter, price: &MeterPrice, share: Share, used: u64) -> Option<Vec<TierLine>> {
    let mut lines = Vec::new();
    let included = share.part(price.included).min(u128::from(used));
    let mut from = u64::try_from(included).ok()?;
    if from > 0 {
        lines.push(TierLine { units: from, micros: 0, amount: Money::ZERO, included: true });
    }
    for (i, tier) in price.tiers.iter().enumerate() {
        let bound = tier.up_to.filter(|_| i + 1 < price.tiers.len());
        let to = bound.map_or(u128::from(used), |bound| share.part(bound).min(u128::from(used)));
        let to = u64::try_from(to).ok()?;
        if to > from {
            let amount = rate(meter, price, share, to)?.minus(rate(meter, price, share, from)?)?;
            lines.push(TierLine { units: to - from, micros: tier.micros, amount, included: false });
            from = to;
        }
    }
    if used > from {
        lines.push(TierLine { units: used - from, micros: 0, amount: Money::ZERO, included: false });
    }
    Some(lines)
}

/// What the rest of a month will cost at the pace of lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The hours that the pace is taken from: seven whole days, or what there is.
    pub hours: u64,
    pub past: Money,
    pub left: Duration,
    pub more: Money,
}

const DAYS_BACK: u32 = 7;
const DAY: Duration = Duration::from_secs(86_400);

/// `costs`: what each day cost, by when it began. `first`: when the first hour of use began.
pub fn forecast(month: Month, costs: &BTreeMap<Time, Money>, first: Option<Time>, now: Time) -> Option<Forecast> {
    let first = first.filter(|first| *first <= now && month.holds(now))?;
    let (today, left) = (now.midnight(), month.to().since(now));
    let whole = (1..=DAYS_BACK).take_while(|n| today.minus(DAY * *n) >= first).last();
    let (from, until, span) = match whole {
        Some(days) => (today.minus(DAY * days), today, DAY * days),
        // Not one whole day: since the first hour, if that was one.
        None => (first.midnight(), now, now.since(first)),
    };
    if span < Duration::from_secs(3600) {
        return None;
    }
    let past = costs.range(from..until).try_fold(Money::ZERO, |sum, (_, cost)| sum.plus(*cost))?;
    let micros = u128::try_from(past.micros()).ok()? * u128::from(left.as_secs()) / u128::from(span.as_secs());
    Some(Forecast { hours: span.as_secs() / 3600, past, left, more: Money::from_micros(i64::try_from(micros).ok()?) })
}

#[cfg(test)]
mod tests {
    use domain::Tier;
    use proptest::prelude::*;

    use super::*;
    use crate::{PricePlan, add_units, bill, segments};

    fn month() -> Month {
        "2026-11".parse().unwrap()
    }

    fn version(id: i64, since: Time, micros: u64) -> PricePlan {
        let prices = Meter::ALL.iter().map(|meter| (*meter, MeterPrice::flat(micros))).collect();
        PricePlan { id: PricePlanId(id), since, prices }
    }

    #[test]
    fn what_costs_less_than_a_cent_is_not_shown_as_nothing() {
        let shown = |exact, amount| {
            let cost = Cost { units: 1, exact: Money::from_micros(exact), amount: Money::from_micros(amount) };
            domain::Currency::EUR.cents(cost.shown())
        };
        // The second: a share that got no cent.
        assert_eq!(
            [shown(0, 0), shown(127, 0), shown(6_000, 0), shown(6_000, 10_000)],
            ["€0.00", "<€0.01", "<€0.01", "€0.01"]
        );
    }

    #[test]
    fn the_tiers_of_an_amount_are_its_arithmetic() {
        let million = Meter::Requests.unit();
        let tier = |up_to, micros| Tier { up_to, micros };
        let price = MeterPrice { included: million, tiers: vec![tier(Some(3 * million), 100), tier(None, 50)] };
        let lines = tiers(Meter::Requests, &price, Share::WHOLE, 5 * million).unwrap();
        let said: Vec<_> = lines.iter().map(|l| (l.units / million, l.micros, l.amount.micros(), l.included)).collect();
        assert_eq!(said, [(1, 0, 0, true), (2, 100, 200, false), (2, 50, 100, false)]);
        let free = tiers(Meter::Requests, &MeterPrice::default(), Share::WHOLE, 5).unwrap();
        assert_eq!(free, [TierLine { units: 5, micros: 0, amount: Money::ZERO, included: false }]);
    }

    #[test]
    fn the_rest_of_a_month_goes_on_as_the_last_seven_whole_days_did_or_what_there_is() {
        let month = month();
        let now = month.day(17).plus(DAY / 2);
        let costs: BTreeMap<Time, Money> = (1..=17).map(|n| (month.day(n), Money::from_micros(24))).collect();
        let of = |first: u8| forecast(month, &costs, Some(month.day(first)), now).unwrap();
        let (past, more) = (Money::from_micros(168), Money::from_micros(324));
        assert_eq!(of(1), Forecast { hours: 168, past, left: DAY * 27 / 2, more });
        assert_eq!((of(15).hours, of(15).past, of(15).more), (48, Money::from_micros(48), more));
        assert_eq!((of(17).hours, of(17).more), (12, Money::from_micros(24 * 27)));
        assert_eq!(forecast(month, &costs, Some(now), now), None);
        assert_eq!(forecast(month, &costs, None, now), None);
        assert_eq!(forecast(month.next(), &costs, Some(month.from()), now), None);
    }

    type Rows = Vec<(i64, usize, u8, u64)>;

    fn rows() -> impl Strategy<Value = Rows> {
        prop::collection::vec((1..6_i64, 0..Meter::ALL.len(), 1..31_u8, 0..50_000_000_000_u64), 0..60)
    }

    proptest! {
        #[test]
        fn each_cut_of_a_bill_gives_one_sum(posted in rows(), fresh in rows(), change in 1..30_u8, price in 0..90_000_000_u64) {
            let month = month();
            let versions = [version(1, Time::from_unix_micros(0), 36_000), version(2, month.day(change), price)];
            let cut = segments(month, &versions);
            let of = |row: &(i64, usize, u8, u64)| Use { app: AppId(row.0), meter: Meter::ALL[row.1], hour: month.day(row.2) };
            // As the ledger posts: each on top of the one before.
            let (mut used, mut days) = (Used::new(), Days::new());
            for row in &posted {
                let fresh = BTreeMap::from([(of(row), row.3)]);
                add_fresh(&mut days, month, &cut, &used, &fresh).unwrap();
                add_units(&mut used, &cut, [(of(row), row.3 as i64)]);
            }
            let mut later: BTreeMap<Use, u64> = BTreeMap::new();
            fresh.iter().for_each(|row| *later.entry(of(row)).or_default() += row.3);
            add_fresh(&mut days, month, &cut, &used, &later).unwrap();
            add_units(&mut used, &cut, later.iter().map(|(of, units)| (*of, *units as i64)));

            let bill = bill(&cut, &used).unwrap();
            let cuts = cuts(&bill, &days).unwrap();
            let sum = |costs: &mut dyn Iterator<Item = &Cost>| costs.fold((0, 0), |sum, cost| {
                (sum.0 + cost.amount.micros(), sum.1 + cost.exact.micros())
            });
            let whole = (cuts.total.amount.micros(), cuts.total.exact.micros());
            prop_assert_eq!(whole.0 % 10_000, 0, "whole cents");
            prop_assert_eq!(sum(&mut cuts.apps.values()), whole, "by app");
            prop_assert_eq!(sum(&mut cuts.meters.values()), whole, "by meter");
            prop_assert_eq!(sum(&mut cuts.lines.values()), whole, "by app and meter");
            prop_assert_eq!(sum(&mut cuts.days.values()), whole, "by day");
            prop_assert_eq!(sum(&mut cuts.day_meters.values()).1, whole.1, "by day and meter");
            for line in &bill.lines {
                let price = &line.segment.prices[&line.meter];
                let lines = tiers(line.meter, price, line.segment.share, line.used).unwrap();
                prop_assert_eq!(lines.iter().map(|l| l.units).sum::<u64>(), line.used);
                prop_assert_eq!(lines.iter().map(|l| l.amount.micros()).sum::<i64>(), line.owed.micros());
            }
        }
    }
}
