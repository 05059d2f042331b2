//! The consumer against a real Redis and PostgreSQL: whatever dies in the middle, totals stay exact.

// A test that cannot be set up has failed; clippy's exception for tests does not see helpers.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::wire::{READING_FIELD, READINGS_STREAM};
use domain::{AppId, Life, Meter, Reading, Secret, Time};
use redis::aio::MultiplexedConnection;
use store::Db;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod series;

const DEADLINE: Duration = Duration::from_secs(40);

struct Lab {
    postgres: harness::Postgres,
    redis: harness::Redis,
    db: Db,
}

impl Lab {
    async fn new() -> Self {
        let (postgres, redis) = (harness::postgres().await.unwrap(), harness::redis().await.unwrap());
        let db = Db::open(&Secret::new(postgres.url_as("berth_control")), 4).unwrap();
        Self { postgres, redis, db }
    }

    fn consumer(&self) -> (JoinHandle<Result<(), stats::StatsError>>, CancellationToken) {
        let config = stats::Config {
            database_url: Secret::new(self.postgres.url_as("berth_control")),
            redis_url: Secret::new(self.redis.url().to_owned()),
        };
        let stop = CancellationToken::new();
        (tokio::spawn(stats::run(config, stop.clone())), stop)
    }

    async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    async fn add(&self, readings: &[Reading]) {
        let mut pipeline = redis::pipe();
        for reading in readings {
            let json = serde_json::to_string(reading).unwrap();
            pipeline.cmd("XADD").arg(READINGS_STREAM).arg("*").arg(READING_FIELD).arg(json).ignore();
        }
        pipeline.query_async::<()>(&mut self.connection().await).await.unwrap();
    }

    async fn length(&self) -> usize {
        redis::cmd("XLEN").arg(READINGS_STREAM).query_async(&mut self.connection().await).await.unwrap()
    }

    /// What is held of `readings`' keys, as soon as the stream is empty.
    async fn settled(&self, readings: &[Reading]) -> BTreeMap<(String, i64), i64> {
        let deadline = Instant::now() + DEADLINE;
        while self.length().await > 0 {
            assert!(Instant::now() < deadline, "{} entries are left", self.length().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let held = store::reading::held(self.db.pool(), readings).await.unwrap();
        held.into_iter().map(|h| ((h.life.to_string(), h.hour.unix_micros()), h.value)).collect()
    }
}

fn reading(life: u32, hour: i64, value: u64) -> Reading {
    let hour = Time::from_unix_micros((400_000 + hour) * 3_600_000_000);
    let life = format!("boot/{life}").parse::<Life>().unwrap();
    Reading { life, app: AppId(1), meter: Meter::Cpu, hour, value, at: hour }
}

/// Counters of many lives over some hours, each value sent several times, out of order.
fn traffic() -> Vec<Reading> {
    let mut readings = Vec::new();
    for round in 0..4_u64 {
        for life in 0..200 {
            for hour in 0..5 {
                // The order in which values come is not theirs.
                let value = (round * 7 + u64::from(life)) % 5 * 1000 + hour as u64;
                readings.push(reading(life, hour, value));
            }
        }
    }
    readings.extend(readings.clone().into_iter().rev().step_by(3));
    readings
}

fn highest(readings: &[Reading]) -> BTreeMap<(String, i64), i64> {
    let mut highest = BTreeMap::new();
    for r in readings {
        let value = highest.entry((r.life.to_string(), r.hour.unix_micros())).or_insert(0);
        *value = (*value).max(r.value as i64);
    }
    highest
}

#[tokio::test]
async fn repeated_and_reordered_readings_give_the_highest_of_each_life_and_hour() {
    let lab = Lab::new().await;
    let (_running, stop) = lab.consumer();
    let traffic = traffic();
    lab.add(&traffic).await;
    assert_eq!(lab.settled(&traffic).await, highest(&traffic));
    stop.cancel();
}

#[tokio::test]
async fn consumers_killed_in_the_middle_of_traffic_lose_nothing() {
    let lab = Lab::new().await;
    let traffic = traffic();
    for piece in traffic.chunks(traffic.len() / 8 + 1) {
        let (running, _stop) = lab.consumer();
        lab.add(piece).await;
        // Wherever it is: reading, committing, acknowledging.
        tokio::time::sleep(Duration::from_millis(u64::from(rand::random_range(0..30_u32)))).await;
        running.abort();
    }
    let (_running, stop) = lab.consumer();
    assert_eq!(lab.settled(&traffic).await, highest(&traffic));
    stop.cancel();
}

#[tokio::test]
async fn what_a_dead_consumer_was_given_is_taken_over() {
    let lab = Lab::new().await;
    let traffic = traffic();
    lab.add(&traffic).await;
    let mut connection = lab.connection().await;
    let _: () = redis::cmd("XGROUP")
        .arg("CREATE")
        .arg(READINGS_STREAM)
        .arg("stats")
        .arg("0")
        .query_async(&mut connection)
        .await
        .unwrap();
    let given: redis::streams::StreamReadReply = redis::cmd("XREADGROUP")
        .arg(&["GROUP", "stats", "dead", "COUNT", "3000", "STREAMS", READINGS_STREAM, ">"])
        .query_async(&mut connection)
        .await
        .unwrap();
    // It had committed some, and died before it said so.
    assert_eq!(given.keys[0].ids.len(), 3000);
    store::reading::merge(lab.db.pool(), &traffic[..500]).await.unwrap();
    let (_running, stop) = lab.consumer();
    assert_eq!(lab.settled(&traffic).await, highest(&traffic));
    stop.cancel();
}

#[tokio::test]
async fn when_postgresql_refuses_the_stream_keeps_what_it_has() {
    let lab = Lab::new().await;
    let traffic = traffic();
    // An open transaction that wrote one of the rows: no batch that has it can be committed.
    let mut held = lab.db.begin().await.unwrap();
    store::reading::merge(&mut **held, &traffic[..1]).await.unwrap();
    lab.add(&traffic).await;
    let (_running, stop) = lab.consumer();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(lab.length().await, traffic.len(), "nothing is acknowledged that is not committed");
    drop(held);
    assert_eq!(lab.settled(&traffic).await, highest(&traffic));
    stop.cancel();
}

#[tokio::test]
async fn what_is_no_reading_is_passed_over() {
    let lab = Lab::new().await;
    let (_running, stop) = lab.consumer();
    let mut connection = lab.connection().await;
    for (field, text) in [(READING_FIELD, "{"), ("other", "1"), (READING_FIELD, "null")] {
        let _: String =
            redis::cmd("XADD").arg(&[READINGS_STREAM, "*", field, text]).query_async(&mut connection).await.unwrap();
    }
    let good = [reading(1, 1, 5)];
    lab.add(&good).await;
    assert_eq!(lab.settled(&good).await, highest(&good));
    stop.cancel();
}

#[tokio::test]
async fn it_goes_on_when_its_stream_is_gone() {
    let lab = Lab::new().await;
    let (_running, stop) = lab.consumer();
    let first = [reading(1, 1, 5)];
    lab.add(&first).await;
    assert_eq!(lab.settled(&first).await, highest(&first));
    // Redis came back empty: readings come again from their sources.
    let _: () = redis::cmd("FLUSHALL").query_async(&mut lab.connection().await).await.unwrap();
    let second = [reading(1, 1, 6)];
    lab.add(&second).await;
    assert_eq!(lab.settled(&second).await, highest(&second));
    stop.cancel();
}
