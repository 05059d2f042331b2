//! A bill, its arithmetic, prices.

use std::collections::BTreeMap;

use plan::cost::{Cost, TierLine};

use super::*;

pub fn month() -> Month {
    Month::of(NOW)
}

pub fn spent() -> Spent {
    Spent { currency: Currency::EUR, month: month(), amount: Money::from_micros(25_900_000) }
}

pub fn cost(units: u64, micros: i64) -> Cost {
    let exact = Money::from_micros(micros);
    Cost { units, exact, amount: Money::from_cents(exact.cents()).unwrap() }
}

pub fn app(name: &str, deleted: Option<Time>) -> AppRef {
    let key = if deleted.is_some() { format!("{name}~1") } else { name.to_owned() };
    AppRef { name: name.parse().unwrap(), deleted, key }
}

pub fn bill() -> BillView {
    let apps = [("orchard", 17_730_000), ("pressroom", 4_050_000), ("atlas", 1_770_000), ("fieldnotes", 1_640_000)];
    let mut apps: Vec<AppCost> =
        apps.map(|(name, micros)| AppCost { app: app(name, None), cost: cost(0, micros) }).into();
    apps.push(AppCost { app: app("kiln", Some(ago(500_000))), cost: cost(0, 710_000) });
    let meters = [
        (Meter::Cpu, 220.17, 7_910_000, 36_000),
        (Meter::Memory, 1_039.7, 6_230_000, 6_000),
        (Meter::BytesOut, 161.07, 3_220_000, 20_000),
        (Meter::Requests, 80.073, 6_060_000, 100_000),
        (Meter::Storage, 9_804.0, 1_370_000, 140),
        (Meter::Builds, 221.7, 1_110_000, 5_000),
    ];
    let meter = |(meter, units, micros, price): (Meter, f64, i64, u64)| MeterCost {
        meter,
        cost: cost((units * meter.unit() as f64) as u64, micros),
        prices: vec![price],
    };
    let mut so_far = Money::ZERO;
    let days = (1..=17).map(|day| {
        let cost = cost(0, 1_523_000 + i64::from(day % 4) * 120_000);
        so_far = so_far.plus(cost.amount).unwrap();
        DayCost { day, cost, so_far }
    });
    BillView {
        month: month(),
        running: true,
        currency: Currency::EUR,
        until: NOW,
        total: cost(0, 25_900_000),
        apps,
        meters: meters.map(meter).into(),
        days: days.collect(),
        forecast: Some(ForecastView {
            total: Money::from_micros(47_540_000),
            hours: 168,
            past: Money::from_micros(11_310_000),
            left: Duration::from_secs(1_157_400),
            more: Money::from_micros(21_640_000),
        }),
        months: vec![month(), month().before()],
    }
}

pub fn empty_bill() -> BillView {
    BillView { apps: vec![], meters: vec![], days: vec![], forecast: None, total: Cost::default(), ..bill() }
}

pub fn rate(number: i64, micros: i64, change: Option<i64>) -> DayRate {
    let change = change.map(|change| (number - 1, Money::from_micros(change)));
    DayRate { number, amount: Money::from_micros(micros), change, busy: true }
}

pub fn orchard() -> AppCostView {
    let releases = vec![rate(141, 1_070_000, Some(20_000)), rate(140, 1_050_000, Some(0)), rate(139, 1_050_000, None)];
    AppCostView {
        month: month(),
        currency: Currency::EUR,
        until: NOW,
        app: app("orchard", None),
        total: cost(0, 17_730_000),
        meters: vec![(Meter::Cpu, cost(0, 6_060_000)), (Meter::Memory, cost(0, 3_870_000))],
        forecast: Some(Money::from_micros(32_550_000)),
        day: releases.first().copied(),
        releases,
    }
}

pub fn deploy_cost() -> DeployCost {
    let build = Some((Duration::from_millis(14_100), Money::from_micros(1_175)));
    DeployCost { currency: Currency::EUR, build, day: None, serving: Some(rate(141, 1_070_000, Some(20_000))) }
}

/// CPU time of orchard in a month whose prices changed.
pub fn why() -> WhyView {
    let hour = Meter::Cpu.unit();
    let tier = |units: u64, micros: u64, amount: i64| TierLine {
        units,
        micros,
        amount: Money::from_micros(amount),
        included: micros == 0,
    };
    let segment = |list: usize, from: u8, to: u8, tiers: Vec<TierLine>| WhySegment {
        list,
        since: month().day(from),
        from: month().day(from),
        to: month().day(to),
        cut: true,
        all: cost(120 * hour, 4_320_000),
        tiers,
        mine: cost(100 * hour, 3_600_000),
    };
    let reading = |n: u64| ReadingView {
        app: app("orchard", None),
        hour: ago(3600 * n).hour(),
        at: ago(3600 * n),
        life: format!("b0a1c2d3/{n}").parse().unwrap(),
        before: 1_000_000_000,
        value: 4_600_000_000,
        used: hour,
    };
    WhyView {
        month: month(),
        running: true,
        currency: Currency::EUR,
        until: NOW,
        app: Some(app("orchard", None)),
        meter: Some(Meter::Cpu),
        day: None,
        since: None,
        cost: cost(200 * hour, 7_200_000),
        segments: vec![
            segment(2, 1, 9, vec![tier(120 * hour, 36_000, 4_320_000)]),
            segment(3, 9, 31, vec![tier(20 * hour, 0, 0), tier(100 * hour, 40_000, 4_000_000)]),
        ],
        meters: vec![],
        apps: vec![],
        days: (1..=17).map(|day| DayCost { day, cost: cost(11 * hour, 423_529), so_far: Money::ZERO }).collect(),
        hours: vec![],
        readings: (0..6).map(reading).collect(),
        computed: 0,
        next: Some("1.1.x".to_owned()),
    }
}

/// Of orchard's last day, as beside its graphs.
pub fn range_cost(range: Range) -> RangeCost {
    let meters =
        [(Meter::Cpu, 363_000), (Meter::Memory, 240_000), (Meter::Requests, 144_481), (Meter::BytesOut, 74_000)];
    let meters: BTreeMap<Meter, Cost> = meters.into_iter().map(|(meter, micros)| (meter, cost(1, micros))).collect();
    RangeCost {
        app: app("orchard", None),
        currency: Currency::EUR,
        month: month(),
        since: range.since(NOW).hour(),
        until: NOW,
        total: Cost { units: 0, exact: Money::from_micros(821_481), amount: Money::from_micros(810_000) },
        meters,
    }
}

/// Requests of orchard in the last 30 days, which are of two months.
pub fn why_since() -> WhyView {
    let since = Range::Month.since(NOW).hour();
    let million = Meter::Requests.unit();
    let days = (0..31).map(|n: u32| HourCost {
        hour: since.midnight().plus(Duration::from_secs(86_400) * n),
        cost: cost(million, 100_000),
    });
    let segment = |list: usize, from: Time| WhySegment {
        list,
        since: month().before().from(),
        from,
        to: Month::of(from).to(),
        cut: false,
        all: cost(40 * million, 4_000_000),
        tiers: vec![TierLine {
            units: 40 * million,
            micros: 100_000,
            amount: Money::from_micros(4_000_000),
            included: false,
        }],
        mine: cost(15 * million, 1_500_000),
    };
    WhyView {
        meter: Some(Meter::Requests),
        since: Some(since),
        cost: cost(30 * million, 3_000_000),
        segments: vec![segment(1, month().before().from()), segment(1, month().from())],
        days: vec![],
        hours: days.collect(),
        readings: vec![],
        next: None,
        ..why()
    }
}

/// All apps and meters of a day.
pub fn why_day() -> WhyView {
    let hours =
        (0..14).map(|n| HourCost { hour: month().day(17).plus(Duration::from_secs(3600 * n)), cost: cost(0, 92_142) });
    WhyView {
        app: None,
        meter: None,
        day: Some(17),
        cost: cost(0, 1_290_000),
        segments: vec![],
        meters: vec![(Meter::Cpu, cost(Meter::Cpu.unit(), 1_000_000)), (Meter::Memory, cost(1 << 40, 290_000))],
        apps: vec![AppCost { app: app("orchard", None), cost: cost(0, 1_290_000) }],
        days: vec![],
        hours: hours.collect(),
        readings: vec![],
        next: None,
        ..why()
    }
}

pub fn prices_now() -> Prices {
    let flat = [
        (Meter::Cpu, 36_000),
        (Meter::Memory, 6_000),
        (Meter::Requests, 100_000),
        (Meter::BytesOut, 20_000),
        (Meter::Storage, 140),
        (Meter::Builds, 5_000),
    ];
    flat.into_iter().map(|(meter, micros)| (meter, MeterPrice::flat(micros))).collect()
}

pub fn versions() -> Vec<VersionView> {
    let version = |list: usize, since: Time, until: Option<Time>| VersionView {
        id: PricePlanId(list as i64),
        list,
        since,
        until,
        prices: prices_now(),
        created: ago(1_000_000),
        by: (list > 1).then(|| "Olga Berg".to_owned()),
    };
    let next = month().next().from();
    vec![
        version(3, next, None),
        version(2, month().from(), Some(next)),
        version(1, Time::from_unix_micros(946_684_800_000_000), Some(month().from())),
    ]
}

pub fn prices() -> PricesView {
    PricesView { currency: Currency::EUR, now: NOW, versions: versions() }
}

pub fn price_list() -> PriceList {
    let line = |meter: Meter, units: u64, micros: i64| (meter, units * meter.unit(), Money::from_micros(micros));
    let example = |name, what, micros| Example {
        name,
        what,
        lines: vec![line(Meter::Memory, 360, 2_160_000), line(Meter::Requests, 1, 100_000)],
        amount: Money::from_micros(micros),
    };
    PriceList {
        currency: Currency::EUR,
        now: NOW,
        list: 2,
        since: month().from(),
        prices: prices_now(),
        coming: versions().into_iter().take(1).collect(),
        examples: vec![
            example("A static site", "256 MiB, 100,000 requests", 1_140_000),
            example("A small Python app", "512 MiB, 1 million requests", 2_600_000),
            example("A shop: 4 processes", "2 GiB, 40 million requests", 26_000_000),
        ],
    }
}
