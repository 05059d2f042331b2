//! Use, against a real PostgreSQL: what a list of apps shows of their requests.

use domain::{Answers, AppId, Sample, Time, Traffic};
use plan::series::{roll_up, steps};
use store::{Db, series};

use super::billing::app_of;
use super::*;

const QUARTER: Duration = Duration::from_secs(15);

async fn take_in(db: &Db, app: AppId, source: &str, at: Time, ok: u64, now: Time) {
    let traffic = Traffic { answers: Answers { ok, ..Answers::default() }, ..Traffic::default() };
    let sample = Sample { source: source.parse().unwrap(), app, at, work: None, traffic: Some(traffic) };
    assert_eq!(series::add(db.pool(), &[sample], now).await.unwrap().dropped, 0);
}

/// As the engine does.
async fn rolled_up(db: &Db, before: Time) {
    let mut tx = db.begin().await.unwrap();
    for (app, hour) in series::take_due(&mut tx, before, 10).await.unwrap() {
        let seen = series::seen(&mut **tx, app, hour, hour.plus(Duration::from_secs(3600))).await.unwrap();
        let of = roll_up(hour, &steps(seen));
        series::put(&mut tx, app, hour, &of.minutes, &of.whole).await.unwrap();
    }
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_spark_has_what_came_in_since_the_last_roll_up_and_nothing_twice() {
    let doors = doors().await;
    let ada = signed_up(&doors, "ada@example.com").await;
    let eve = signed_up(&doors, "eve@example.com").await;
    let shop = app_of(&doors, &ada, "shop").await;
    let db = Db::open(&Secret::new(doors._postgres.url_as("berth_control")), 1).unwrap();
    let now = Time::from(std::time::SystemTime::now()).floor(QUARTER);
    let seen = async || {
        let sparks = doors.web.sparks(&ada).await.unwrap();
        let all: f64 = sparks.get(&name("shop")).map_or(0.0, |spark| spark.points.iter().flatten().sum());
        (sparks.get(&name("shop")).map(|spark| spark.requests), all > 0.0)
    };
    assert_eq!(seen().await, (None, false));
    // Two balancers see the same quarter of a minute; nothing is rolled up yet.
    let (first, second) = (now.minus(QUARTER * 4), now.minus(QUARTER * 2));
    take_in(&db, shop, "one/1", first, 30, first).await;
    take_in(&db, shop, "two/1", first, 15, first).await;
    assert_eq!(seen().await, (Some(45), true));
    rolled_up(&db, now).await;
    assert_eq!(seen().await, (Some(45), true), "it is not counted from both");
    // What comes in now makes its hour due again, and is there before that is rolled up again.
    take_in(&db, shop, "one/1", second, 15, second).await;
    assert_eq!(seen().await, (Some(60), true));
    let point = |spark: &commands::Spark| spark.points.iter().flatten().copied().fold(0.0, f64::max);
    let sparks = doors.web.sparks(&ada).await.unwrap();
    if first.hour() == second.hour() {
        assert_eq!(point(&sparks[&name("shop")]), 2.0, "60 in two quarters of a minute");
    }
    rolled_up(&db, now).await;
    assert_eq!(seen().await, (Some(60), true));
    assert!(doors.web.sparks(&eve).await.unwrap().is_empty());
}
