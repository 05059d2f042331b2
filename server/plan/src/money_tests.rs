//! From values of counters to a bill: whatever way the readings come and whenever they are posted, it is the same.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{AppId, CustomerId, Meter, MeterPrice, Money, Month, PricePlanId, Reading, Tier, Time};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// What the tests count through: 2025-01-30T00:00Z and two weeks on.
const BEGUN: Time = Time::from_unix_micros(1_738_195_200_000_000);
const HOURS: u32 = 14 * 24;

fn hour(n: u32) -> Time {
    BEGUN.plus(HOUR * n)
}

fn reading(life: usize, app: i64, meter: Meter, hour: Time, value: u64) -> Reading {
    let life = format!("boot/{life}").parse().expect("a life");
    Reading { life, app: AppId(app), meter, hour, value, at: hour.plus(HOUR / 2) }
}

/// What really was used: (app, meter, hour, units), in the order of time.
#[derive(Debug, Clone)]
struct Truth(Vec<(i64, Meter, u32, u64)>);

fn truth() -> impl Strategy<Value = Truth> {
    let meter = prop::sample::select(vec![Meter::Cpu, Meter::Requests, Meter::Storage]);
    vec((1..4_i64, meter, 0..HOURS, 1..40_000_000_u64), 1..60).prop_map(|mut used| {
        used.sort_by_key(|(_, _, hour, _)| *hour);
        Truth(used)
    })
}

impl Truth {
    /// As a counter that never fails tells it: a life each of app and meter.
    fn clean(&self) -> Vec<Reading> {
        self.counted(&[])
    }

    /// After each of `restarts` a new life counts from zero.
    fn counted(&self, restarts: &[Index]) -> Vec<Reading> {
        let restarts: Vec<usize> = restarts.iter().map(|at| at.index(self.0.len())).collect();
        let (mut values, mut lives) = (BTreeMap::<_, (usize, u64)>::new(), 0);
        let mut readings = Vec::new();
        for (i, (app, meter, h, units)) in self.0.iter().enumerate() {
            if restarts.contains(&i) {
                values.clear();
            }
            let (life, value) = values.entry((*app, *meter)).or_insert_with(|| {
                lives += 1;
                (lives, 0)
            });
            *value += units;
            readings.push(reading(*life, *app, *meter, hour(*h), *value));
        }
        readings
    }
}

fn price() -> impl Strategy<Value = MeterPrice> {
    (0..100_000_000_u64, vec((1..500_000_000_u64, 0..1_000_000_000_u64), 0..4)).prop_map(|(included, mut tiers)| {
        tiers.sort_by_key(|tier| tier.0);
        let tiers = tiers.iter().map(|(up_to, micros)| Tier { up_to: Some(included + up_to), micros: *micros });
        MeterPrice { included, tiers: tiers.collect() }
    })
}

/// The first version holds from before the beginning.
fn plans() -> impl Strategy<Value = Vec<PricePlan>> {
    let prices = || vec((prop::sample::select(Meter::ALL.to_vec()), price()), 0..6);
    vec((0..HOURS, prices()), 1..4).prop_map(|versions| {
        let versions = versions.into_iter().enumerate().map(|(i, (at, prices))| {
            let since = if i == 0 { BEGUN.minus(HOUR) } else { hour(at) };
            (since, PricePlan { id: PricePlanId(i as i64 + 1), since, prices: prices.into_iter().collect() })
        });
        versions.collect::<BTreeMap<_, _>>().into_values().collect()
    })
}

/// What a database holds for one customer.
#[derive(Default)]
struct Books {
    readings: BTreeMap<(String, AppId, Meter, Time), Reading>,
    postings: Vec<Posting>,
}

impl Books {
    fn take(&mut self, reading: &Reading) {
        let key = (reading.life.to_string(), reading.app, reading.meter, reading.hour);
        let held = self.readings.entry(key).or_insert_with(|| reading.clone());
        held.value = held.value.max(reading.value);
    }

    /// Posts what is complete at `until`; a version that is decided on later is not known.
    fn post(&mut self, until: Time, plans: &[PricePlan]) {
        let complete: Usage =
            usage(self.readings.values()).into_iter().filter(|(of, _)| of.hour.plus(HOUR) <= until).collect();
        let (mut posted, mut tails) = (BTreeMap::<Use, i64>::new(), BTreeMap::new());
        for posting in &self.postings {
            let of = Use { hour: posting.hour, app: posting.app, meter: posting.chain.meter };
            *posted.entry(of).or_default() += posting.units;
            tails.insert(posting.chain, posting.tail());
        }
        self.postings.extend(post(plans, &complete, &posted, &tails).expect("it fits"));
    }

    fn units(&self) -> BTreeMap<Use, i64> {
        let mut units = BTreeMap::new();
        for posting in &self.postings {
            let of = Use { hour: posting.hour, app: posting.app, meter: posting.chain.meter };
            *units.entry(of).or_default() += posting.units;
        }
        units.retain(|_, sum| *sum != 0);
        units
    }

    fn owed(&self) -> BTreeMap<Chain, Money> {
        let mut owed = BTreeMap::<Chain, Money>::new();
        for posting in &self.postings {
            let sum = owed.entry(posting.chain).or_default();
            *sum = sum.plus(posting.amount).expect("it fits");
        }
        owed.retain(|_, sum| *sum != Money::ZERO);
        owed
    }
}

/// All at the end, from a counter that never failed.
fn clean(truth: &Truth, plans: &[PricePlan]) -> Books {
    let mut books = Books::default();
    truth.clean().iter().for_each(|reading| books.take(reading));
    books.post(hour(HOURS), plans);
    books
}

fn bill_of(books: &Books, plans: &[PricePlan], month: Month) -> Bill {
    let parts = segments(month, plans);
    let mut used = Used::new();
    add_units(&mut used, &parts, books.units());
    bill(&parts, &used).expect("it fits")
}

/// A step of what happens to readings: which one comes next, and whether the hour's postings are made after it.
fn steps() -> impl Strategy<Value = Vec<(Index, bool)>> {
    vec((any::<Index>(), any::<bool>()), 0..80)
}

proptest! {
    #[test]
    fn twice_late_in_any_order_and_posted_whenever_readings_make_the_same_bill(
        truth in truth(), plans in plans(), steps in steps(), restarts in vec(any::<Index>(), 0..6),
        decided_early in any::<bool>(),
    ) {
        let clean = clean(&truth, &plans);
        let readings = truth.counted(&restarts);
        let mut books = Books::default();
        let mut now = 0;
        for (which, posts) in steps {
            books.take(which.get(&readings));
            if posts {
                // Time goes on; what came meanwhile is posted, also of hours long over.
                now = (now + 7).min(HOURS);
                let known = plans.iter().filter(|p| decided_early || p.since <= hour(now)).cloned().collect::<Vec<_>>();
                books.post(hour(now), &known);
            }
        }
        readings.iter().for_each(|reading| books.take(reading));
        books.post(hour(HOURS), &plans);
        books.post(hour(HOURS), &plans);
        prop_assert_eq!(books.units(), clean.units());
        prop_assert_eq!(books.owed(), clean.owed());
        for month in [Month::of(BEGUN), Month::of(hour(HOURS))] {
            prop_assert_eq!(bill_of(&books, &plans, month), bill_of(&clean, &plans, month));
        }
        let mut places = BTreeMap::<Chain, u64>::new();
        for posting in &books.postings {
            let place = places.entry(posting.chain).or_default();
            *place += 1;
            prop_assert_eq!(posting.place, *place, "without a gap");
            let entries = posting.entries(CustomerId(1));
            prop_assert_eq!(entries.is_none(), posting.amount == Money::ZERO);
            if let Some([owes, earned]) = entries {
                prop_assert_eq!(owes.amount, posting.amount);
                prop_assert_eq!(owes.amount.plus(earned.amount), Some(Money::ZERO));
            }
        }
    }

    #[test]
    fn a_bill_is_one_sum_by_meter_and_by_app_and_what_its_postings_add_up_to(truth in truth(), plans in plans()) {
        let books = clean(&truth, &plans);
        let mut owed = Money::ZERO;
        for month in [Month::of(BEGUN), Month::of(hour(HOURS))] {
            let bill = bill_of(&books, &plans, month);
            let (apps, meters) = (bill.by_app(), bill.by_meter());
            prop_assert_eq!(apps.values().map(|(_, cents)| cents).sum::<i64>(), bill.cents);
            prop_assert_eq!(meters.values().map(|(_, cents)| cents).sum::<i64>(), bill.cents);
            prop_assert_eq!(apps.values().map(|(owed, _)| owed.micros()).sum::<i64>(), bill.owed.micros());
            for line in &bill.lines {
                prop_assert_eq!(line.cents, line.owed.cents());
                prop_assert_eq!(line.apps.iter().map(|app| app.used).sum::<u64>(), line.used);
            }
            owed = owed.plus(bill.owed).expect("it fits");
        }
        prop_assert_eq!(books.owed().values().map(|m| m.micros()).sum::<i64>(), owed.micros());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_use_and_loses_none(
        steps in vec((0..1_000_u64, -3..6_i64), 1..40),
    ) {
        let (mut value, mut now) = (0, 100_i64);
        let mut readings = Vec::new();
        for (units, on) in steps {
            value += units;
            now = (now + on).max(0);
            readings.push(reading(1, 1, Meter::Cpu, hour(now as u32), value));
        }
        prop_assert_eq!(usage(&readings).values().sum::<u64>(), value);
    }

    #[test]
    fn a_month_is_the_sum_of_its_segments(plans in plans()) {
        let month = Month::of(hour(HOURS));
        let parts = segments(month, &plans);
        prop_assert_eq!(parts.first().map(|p| p.from), Some(month.from()));
        prop_assert_eq!(parts.last().map(|p| p.to), Some(month.to()));
        prop_assert!(parts.windows(2).all(|two| matches!(two, [a, b] if a.to == b.from)));
        prop_assert_eq!(parts.iter().map(|p| p.share.seconds).sum::<u64>(), month.length().as_secs());
    }
}

#[test]
fn a_late_reading_takes_units_from_the_hour_they_were_posted_in() {
    let flat = BTreeMap::from([(Meter::Requests, MeterPrice::flat(1_000_000))]);
    let plans = [PricePlan { id: PricePlanId(1), since: BEGUN, prices: flat }];
    let mut books = Books::default();
    books.take(&reading(1, 1, Meter::Requests, hour(5), 100));
    books.post(hour(5), &plans);
    assert_eq!(books.postings, [], "an hour that is not over");
    books.post(hour(6), &plans);
    books.take(&reading(1, 1, Meter::Requests, hour(3), 60));
    books.post(hour(6), &plans);
    let said: Vec<_> = books.postings.iter().map(|p| (p.hour, p.units, p.used_after, p.amount.micros())).collect();
    assert_eq!(said, [(hour(5), 100, 100, 100), (hour(3), 60, 160, 60), (hour(5), -60, 100, -60)]);
}

#[test]
fn what_is_posted_is_corrected_when_its_segment_is_cut_and_nothing_is_used_any_more() {
    let included = |included| {
        let tiers = vec![Tier { up_to: None, micros: 1_000_000 }];
        BTreeMap::from([(Meter::Requests, MeterPrice { included, tiers })])
    };
    let first = PricePlan { id: PricePlanId(1), since: BEGUN.minus(HOUR * 24 * 40), prices: included(3_100) };
    let mut books = Books::default();
    books.take(&reading(1, 1, Meter::Requests, hour(0), 3_000));
    books.post(hour(1), std::slice::from_ref(&first));
    assert_eq!(books.owed(), BTreeMap::new(), "all of it is included");
    // The segment has 30 of 31 days now, and as much of what is included: 3,000. Then a day less an hour less.
    let cut = |at, id| [first.clone(), PricePlan { id: PricePlanId(id), since: at, prices: included(0) }];
    books.post(hour(1), &cut(hour(24), 2));
    assert_eq!(books.postings.len(), 1, "nothing changed");
    let plans = cut(hour(1), 3);
    books.post(hour(1), &plans);
    let owed: i64 = books.owed().values().map(|m| m.micros()).sum();
    let included = 3_100 * (29 * 24 + 1) / (31 * 24);
    assert_eq!((owed, books.postings.len(), books.postings[1].units), (3_000 - included, 2, 0));
    assert_eq!(bill_of(&books, &plans, Month::of(BEGUN)).owed.micros(), owed);
}
