//! Money, against a real PostgreSQL: a bill's cuts, its arithmetic, prices, and what strangers see of it.

use std::collections::BTreeMap;
use std::time::Instant;

use commands::{MeterTyped, NewPrices, Operator, WhyAsked};
use domain::{AppId, CustomerId, Meter, Money, Month, Prices, Reading, Time};
use futures_util::TryStreamExt;
use plan::cost::Cost;
use plan::{PricePlan, Use};
use store::Db;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Posts what was used as the ledger does, with a reading behind each hour.
pub async fn post(doors: &Doors, customer: CustomerId, usage: &BTreeMap<Use, u64>) {
    let db = Db::open(&Secret::new(doors._postgres.url_as("berth_control")), 2).unwrap();
    let plans = store::bill::prices(db.pool(), "EUR").await.unwrap();
    let plans: Vec<_> = plans.into_iter().map(|(id, since, prices)| PricePlan { id, since, prices }).collect();
    let postings = plan::post(&plans, usage, &BTreeMap::new(), &BTreeMap::new()).unwrap();
    let new = |posting: &plan::Posting| store::ledger::New {
        customer,
        app: posting.app,
        meter: posting.chain.meter,
        plan: posting.chain.plan,
        month: posting.chain.month,
        hour: posting.hour,
        place: posting.place as i64,
        units: posting.units,
        used_after: posting.used_after as i64,
        amount: posting.amount,
        owed_after: posting.owed_after,
    };
    let new: Vec<_> = postings.iter().map(new).collect();
    for some in new.chunks(20_000) {
        let mut tx = db.begin().await.unwrap();
        store::ledger::insert(&mut tx, some).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut values: BTreeMap<(AppId, Meter), u64> = BTreeMap::new();
    let readings = usage.iter().map(|(of, units)| {
        let value = values.entry((of.app, of.meter)).or_default();
        *value += units;
        let life = format!("{}/{}", of.meter.as_str().replace('_', "-"), of.app).parse().unwrap();
        Reading { life, app: of.app, meter: of.meter, hour: of.hour, value: *value, at: of.hour.plus(HOUR / 2) }
    });
    let readings: Vec<Reading> = readings.collect();
    for some in readings.chunks(5_000) {
        store::reading::merge(db.pool(), some).await.unwrap();
    }
}

/// What was used before an installation began costs nothing: this one began long ago, and is posted until now.
async fn began_long_ago(doors: &Doors) {
    doors._postgres.execute("update billing set begun = '2020-01-01'").await.unwrap();
}

pub async fn app_of(doors: &Doors, of: &Actor, named: &str) -> AppId {
    doors.web.app_create(of, named).await.unwrap();
    let db = Db::open(&Secret::new(doors._postgres.url().to_owned()), 1).unwrap();
    store::app::get(db.pool(), of.customer, &name(named)).await.unwrap().unwrap().id
}

pub fn month() -> Month {
    "2026-03".parse().unwrap()
}

/// The same each time, and odd enough that cents do not come out even.
fn odd(seed: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

pub fn usage(apps: &[AppId], days: std::ops::Range<u8>, hours: &[u64]) -> BTreeMap<Use, u64> {
    let mut usage = BTreeMap::new();
    for (a, app) in apps.iter().enumerate() {
        for day in days.clone() {
            for (h, hour) in hours.iter().enumerate() {
                for (m, meter) in Meter::ALL.iter().enumerate() {
                    let seed = (a * 100_000 + usize::from(day) * 1_000 + h * 10 + m) as u64;
                    let units = odd(seed) % (meter.unit() * 2) + 1;
                    let at = month().day(day).plus(HOUR * u32::try_from(*hour).unwrap());
                    usage.insert(Use { hour: at, app: *app, meter: *meter }, units);
                }
            }
        }
    }
    usage
}

fn sum(amounts: impl Iterator<Item = Money>) -> Money {
    amounts.fold(Money::ZERO, |sum, amount| sum.plus(amount).unwrap())
}

#[tokio::test]
async fn every_cut_of_a_bill_and_every_explanation_gives_the_same_sum() {
    let doors = doors().await;
    began_long_ago(&doors).await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let eve = signed_up(&doors, "eve@example.com").await;
    // Prices change on the 11th: two segments, the later one with tiers.
    let prices = r#"{"cpu": {"included": 3600000000, "tiers": [{"up_to": 72000000000, "micros": 50000}, {"up_to": null, "micros": 20000}]},
        "memory": {"included": 0, "tiers": [{"up_to": null, "micros": 7777}]}, "requests": {"included": 0, "tiers": []}}"#;
    let sql =
        format!("insert into price_plan (currency, since, prices) values ('EUR', '2026-03-11 00:00+00', '{prices}')");
    doors._postgres.execute(&sql).await.unwrap();
    let apps = [app_of(&doors, &ada, "shop").await, app_of(&doors, &ada, "notes").await];
    let used = usage(&apps, 3..20, &[0, 7, 13, 23]);
    post(&doors, ada.customer, &used).await;
    doors.web.app_delete(&ada, &name("notes"), "notes").await.unwrap();

    let bill = doors.web.bill(&ada, Some(month())).await.unwrap();
    let total = bill.total.amount;
    assert!(total > Money::ZERO && total.micros() % 10_000 == 0 && !bill.running);
    assert_eq!(sum(bill.apps.iter().map(|app| app.cost.amount)), total, "by app");
    assert_eq!(sum(bill.meters.iter().map(|meter| meter.cost.amount)), total, "by meter");
    assert_eq!(sum(bill.days.iter().map(|day| day.cost.amount)), total, "by day");
    assert_eq!(bill.days.last().map(|day| (day.day, day.so_far)), Some((31, total)));
    assert_eq!(sum(bill.days.iter().map(|day| day.cost.exact)), bill.total.exact);
    // What was deleted is still owed, under its name.
    let notes = bill.apps.iter().find(|app| app.app.name.as_str() == "notes").unwrap();
    assert!(notes.app.deleted.is_some() && notes.app.key == "notes~1" && notes.cost.amount > Money::ZERO);

    let why = async |app: Option<&str>, meter: Option<Meter>, day: Option<u8>| {
        let asked = WhyAsked { month: Some(month()), app: app.map(str::to_owned), meter, day, ..WhyAsked::default() };
        doors.web.why(&ada, &asked).await.unwrap()
    };
    for app in [None, Some("shop"), Some("notes~1")] {
        let of_app = bill.apps.iter().find(|of| Some(of.app.key.as_str()) == app).map(|of| of.cost.amount);
        let all = why(app, None, None).await;
        assert_eq!(all.cost.amount, of_app.unwrap_or(total));
        assert_eq!(sum(all.meters.iter().map(|(_, cost)| cost.amount)), all.cost.amount);
        for meter in [Meter::Cpu, Meter::Memory, Meter::Requests] {
            let of = why(app, Some(meter), None).await;
            let shown = all.meters.iter().find(|(m, _)| *m == meter).unwrap().1;
            assert_eq!(of.cost, shown, "{app:?} {meter}");
            assert_eq!(of.segments.len(), 2, "one a price");
            assert_eq!(sum(of.segments.iter().map(|part| part.mine.exact)), of.cost.exact);
            assert_eq!(sum(of.segments.iter().map(|part| part.mine.amount)), of.cost.amount);
            assert_eq!(sum(of.days.iter().map(|day| day.cost.exact)), of.cost.exact);
            assert_eq!(of.days.iter().map(|day| day.cost.units).sum::<u64>(), of.cost.units);
            for part in &of.segments {
                assert_eq!(sum(part.tiers.iter().map(|tier| tier.amount)), part.all.exact);
                assert_eq!(part.tiers.iter().map(|tier| tier.units).sum::<u64>(), part.all.units);
            }
            let day = why(app, Some(meter), Some(7)).await;
            let shown = of.days.iter().find(|day| day.day == 7).unwrap().cost;
            assert_eq!((day.cost.exact, day.cost.units), (shown.exact, shown.units));
            assert_eq!(sum(day.hours.iter().map(|hour| hour.cost.exact)), day.cost.exact);
            assert_eq!(day.readings.iter().map(|reading| reading.used).sum::<u64>(), day.cost.units);
        }
        let day = why(app, None, Some(7)).await;
        let shown = all.days.iter().find(|day| day.day == 7).unwrap().cost;
        assert_eq!(day.cost.exact, shown.exact);
        assert_eq!(sum(day.meters.iter().map(|(_, cost)| cost.exact)), day.cost.exact);
        if app.is_none() {
            assert_eq!(sum(day.apps.iter().map(|app| app.cost.exact)), day.cost.exact);
        }
    }

    // In hours that begin in the middle, of this month and asked from the next one.
    let since = month().day(9).plus(HOUR * 13);
    for (of, meter) in [month(), month().next()].into_iter().flat_map(|of| [(of, None), (of, Some(Meter::Cpu))]) {
        let asked =
            WhyAsked { month: Some(of), app: Some("shop".into()), meter, since: Some(since), ..WhyAsked::default() };
        let of = doors.web.why(&ada, &asked).await.unwrap();
        let used: u64 = used
            .iter()
            .filter(|(u, _)| u.app == apps[0] && u.hour >= since)
            .filter(|(u, _)| Some(u.meter) == meter)
            .map(|(_, n)| n)
            .sum();
        assert_eq!((of.cost.units, of.by_days()), (used, true));
        assert_eq!(of.hours.first().map(|day| day.hour), Some(month().day(9)));
        assert_eq!(sum(of.hours.iter().map(|day| day.cost.exact)), of.cost.exact);
        if meter.is_none() {
            assert_eq!(sum(of.meters.iter().map(|(_, cost)| cost.amount)), of.cost.amount);
            assert_eq!(sum(of.meters.iter().map(|(_, cost)| cost.exact)), of.cost.exact);
            continue;
        }
        assert_eq!(of.segments.len(), 2, "one a price");
        assert_eq!(sum(of.segments.iter().map(|part| part.mine.exact)), of.cost.exact);
        assert_eq!(of.readings.iter().map(|reading| reading.used).sum::<u64>(), used);
        let file = doors.web.why_file(&ada, &asked).await.unwrap().unwrap();
        let file = Box::pin(file).try_collect::<Vec<String>>().await.unwrap().concat();
        assert!(file.contains(",0.036,3600000000") && file.contains(",tiers,3600000000"), "{file}");
    }
    for (since, day, app) in [
        (since.plus(HOUR / 2), None, Some("shop")),
        (since, Some(9), Some("shop")),
        (since, None, None),
        (month().to(), None, Some("shop")),
        (month().before().from().minus(HOUR * 24 * 4), None, Some("shop")),
    ] {
        let app = app.map(str::to_owned);
        let asked = WhyAsked { month: Some(month()), app, day, since: Some(since), ..WhyAsked::default() };
        refused(doors.web.why(&ada, &asked).await, Kind::NotFound);
    }

    // Readings come in pages, and as a file; both say what was used.
    let of = why(None, Some(Meter::Cpu), None).await;
    let (mut rows, mut after) = (of.readings.clone(), of.next.clone());
    assert_eq!(rows.len(), 100);
    while let Some(place) = after {
        let asked =
            WhyAsked { month: Some(month()), meter: Some(Meter::Cpu), after: Some(place), ..WhyAsked::default() };
        let page = doors.web.why(&ada, &asked).await.unwrap();
        rows.extend(page.readings);
        after = page.next;
    }
    assert_eq!(rows.iter().map(|reading| reading.used).sum::<u64>(), of.cost.units);
    let asked = WhyAsked { month: Some(month()), meter: Some(Meter::Cpu), ..WhyAsked::default() };
    let file = doors.web.why_file(&ada, &asked).await.unwrap().unwrap();
    let file: Vec<String> = Box::pin(file).try_collect().await.unwrap();
    let file = file.concat();
    let used: u64 = file.lines().skip(1).map(|line| line.split(',').nth(6).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((file.lines().count() - 1, used), (rows.len(), of.cost.units));
    assert!(file.contains(",0.036,3600000000") && file.contains(",tiers,3600000000"), "{}", &file[..300]);

    // Nobody else's, and nothing that is none.
    let theirs = WhyAsked { month: Some(month()), app: Some("shop".into()), ..WhyAsked::default() };
    refused(doors.web.why(&eve, &theirs).await, Kind::NotFound);
    refused(doors.web.app_cost(&eve, &name("shop")).await, Kind::NotFound);
    refused(doors.web.release_cost(&eve, &name("shop"), 1).await, Kind::NotFound);
    assert_eq!(doors.web.cost_in(&eve, &name("shop"), commands::Range::Month).await, None);
    let bill = doors.web.bill(&eve, Some(month())).await.unwrap();
    assert!(bill.apps.is_empty() && bill.days.is_empty() && bill.total.amount == Money::ZERO);
    for after in ["", "x", "1.2", "9.9.\u{0}", "1.1.'; drop table reading"] {
        let asked = WhyAsked {
            month: Some(month()),
            meter: Some(Meter::Cpu),
            after: Some(after.into()),
            ..WhyAsked::default()
        };
        refused(doors.web.why(&ada, &asked).await, Kind::NotFound);
    }
}

#[tokio::test]
async fn what_runs_now_is_computed_on_top_of_what_is_posted() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let shop = app_of(&doors, &ada, "shop").await;
    let now: Time = std::time::SystemTime::now().into();
    assert_eq!(doors.web.spent(&ada).await.unwrap().amount, Money::ZERO);
    let db = Db::open(&Secret::new(doors._postgres.url_as("berth_control")), 1).unwrap();
    let life: domain::Life = "boot/1".parse().unwrap();
    let reading =
        |hour: Time, value| Reading { life: life.clone(), app: shop, meter: Meter::Cpu, hour, value, at: hour };
    // What was read before the last posted hour is not of now.
    let readings = [reading(now.hour().minus(HOUR), 7_200_000_000), reading(now.hour(), 18_000_000_000)];
    store::reading::merge(db.pool(), &readings).await.unwrap();
    // Another door has kept nothing.
    let fresh = doors.web_again().await;
    let bill = fresh.bill(&ada, None).await.unwrap();
    assert_eq!(bill.total.exact, Money::from_micros(3 * 36_000), "three CPU-hours");
    let of = WhyAsked { app: Some("shop".into()), meter: Some(Meter::Cpu), ..WhyAsked::default() };
    let why = fresh.why(&ada, &of).await.unwrap();
    assert_eq!((why.cost.units, why.days.len()), (3 * Meter::Cpu.unit(), 1));
    assert_eq!(fresh.spent(&ada).await.unwrap().amount, bill.total.shown());
    let app = fresh.app_with_cost(&ada, &name("shop")).await.unwrap();
    assert_eq!(app.cost.unwrap().total.amount, bill.total.amount);
    assert_eq!(fresh.apps_with_cost(&ada).await.unwrap()[0].cost.unwrap().amount, bill.total.amount);
    // Beside the graphs stands what was used in their range, as the explanation that it leads to has it.
    let million = Meter::Requests.unit();
    let hours = [(now.hour().minus(HOUR * 120), 5 * million), (now.hour().minus(HOUR * 24 * 40), 7 * million)];
    let posted = hours.map(|(hour, units)| (Use { hour, app: shop, meter: Meter::Requests }, units));
    post(&doors, ada.customer, &BTreeMap::from(posted)).await;
    let fresh = doors.web_again().await;
    for range in commands::Range::ALL {
        let cost = fresh.cost_in(&ada, &name("shop"), range).await.unwrap();
        assert_eq!(cost.meters[&Meter::Cpu].exact, Money::from_micros(3 * 36_000), "{range:?}");
        let requests = cost.meters.get(&Meter::Requests).map(|cost| cost.units);
        assert_eq!(requests, (range == commands::Range::Month).then_some(5 * million), "{range:?}");
        let of = WhyAsked { app: Some("shop".into()), since: Some(cost.since), ..WhyAsked::default() };
        let why = fresh.why(&ada, &of).await.unwrap();
        assert_eq!((why.cost, why.meters), (cost.total, cost.meters.into_iter().collect()), "{range:?}");
    }
    // An app that is younger than what is kept has a figure all the same.
    app_of(&doors, &ada, "sail").await;
    let of = WhyAsked { app: Some("sail".into()), ..WhyAsked::default() };
    assert_eq!(fresh.why(&ada, &of).await.unwrap().cost, Cost::default());
}

#[tokio::test]
async fn a_customer_of_500_apps_and_a_month_of_postings_waits_for_neither() {
    let doors = doors().await;
    began_long_ago(&doors).await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let sql = format!(
        "insert into app (customer_id, name) select {}, 'app-' || n from generate_series(1, 500) n returning id",
        ada.customer
    );
    doors._postgres.execute(&sql).await.unwrap();
    let db = Db::open(&Secret::new(doors._postgres.url().to_owned()), 1).unwrap();
    let apps = store::app::list(db.pool(), ada.customer).await.unwrap();
    let apps: Vec<AppId> = apps.into_iter().map(|app| app.id).collect();
    let used = usage(&apps, 1..13, &[9]);
    post(&doors, ada.customer, &used).await;
    doors._postgres.execute("analyze").await.unwrap();
    doors.web.bill(&ada, Some(month().before())).await.unwrap();
    let begun = Instant::now();
    let bill = doors.web.bill(&ada, Some(month())).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(bill.apps.len(), 500);
    assert_eq!(sum(bill.apps.iter().map(|app| app.cost.amount)), bill.total.amount);
    assert!(took < Duration::from_millis(500), "{took:?}");
    println!("a bill of 500 apps and {} postings: {took:?}", used.len());
}

#[tokio::test]
async fn prices_begin_in_an_hour_to_come_whoever_asks() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let olga = people::operator(&doors).await;
    let list = doors.web.price_list().await.unwrap().unwrap();
    assert_eq!((list.list, list.prices[&Meter::Cpu].tiers[0].micros, list.coming.len()), (1, 36_000, 0));
    assert!(list.small().unwrap() > Money::ZERO);
    let now: Time = std::time::SystemTime::now().into();
    let mut typed = NewPrices::of(&list.prices, now);
    typed.meters.insert(Meter::Cpu, MeterTyped { price: "0.04".into(), ..MeterTyped::default() });
    let stranger = Operator::User(ada.clone());
    refused(doors.web.prices(&stranger).await, Kind::NotFound);
    refused(doors.web.prices_set(&stranger, &typed).await, Kind::NotFound);

    doors.web.prices_set(&olga, &typed).await.unwrap().unwrap();
    let twice = doors.web.prices_set(&olga, &typed).await.unwrap().unwrap_err();
    assert_eq!(twice[0].0, "since");
    let wrong = NewPrices { since: "2026-01-01 00:00".into(), ..typed.clone() };
    assert!(doors.web.prices_set(&olga, &wrong).await.unwrap().unwrap_err()[0].1.starts_with("That is over"));
    let view = doors.web.prices(&olga).await.unwrap();
    let (next, held) = (&view.versions[0], view.in_force().unwrap());
    assert_eq!((next.list, next.since, next.by.as_deref()), (2, Month::of(now).to(), Some("Olga")));
    assert_eq!((held.list, held.until), (1, Some(next.since)));
    assert_eq!(next.prices[&Meter::Cpu].tiers[0].micros, 40_000);
    refused(doors.web.prices_take_back(&stranger, next.id).await, Kind::NotFound);
    // What is in force is not taken back.
    refused(doors.web.prices_take_back(&olga, held.id).await, Kind::NotFound);
    doors.web.prices_take_back(&olga, next.id).await.unwrap();
    assert_eq!(doors.web.prices(&olga).await.unwrap().versions.len(), 1);
    let Operator::User(olga_is) = &olga else { panic!("a user") };
    let events = doors.web.events(olga_is, None, None).await.unwrap();
    let verbs: Vec<&str> = events.iter().map(|event| event.verb.as_str()).collect();
    assert_eq!(verbs[..2], ["prices take back", "prices set"]);

    // The database itself says so, whatever a defect of ours lets through.
    let web = Db::open(&Secret::new(doors._postgres.url_as("berth_web")), 1).unwrap();
    let over = now.hour().minus(HOUR);
    let mut tx = web.begin().await.unwrap();
    assert!(store::bill::create_version(&mut tx, "EUR", over, &Prices::new(), None).await.is_err());
}
