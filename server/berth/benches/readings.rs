//! Readings a second from a balancer's report into PostgreSQL, beside what the same Redis takes in raw.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use domain::wire::{BalancerReport, Committed, READING_FIELD};
use domain::{AppId, Meter, Reading, Secret, Time};
use link::{Caller, Role};
use tokio_util::sync::CancellationToken;

const APPS: i64 = 1_000;
const HOURS: u64 = 100;
/// As a balancer reports them.
const AT_ONCE: usize = 5_000;
const TIMEOUT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measured())
}

async fn measured() -> Result<()> {
    let (postgres, redis) = (harness::postgres().await?, harness::redis().await?);
    let sql = |query: &str| harness::read(Command::new("psql").args(["-XAtq", postgres.url(), "-c", query]));
    sql("alter table app disable trigger user")?;
    sql(&format!(
        "with c as (insert into customer (name) values ('Bench') returning id)
         insert into app (customer_id, name, state) select c.id, 'bench-' || n, 'stopped' from c, generate_series(1, {APPS}) n"
    ))?;
    let readings = readings()?;

    // Raw: the same entries, pipelined, into a stream that nobody reads.
    let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let begun = Instant::now();
    for part in readings.chunks(AT_ONCE) {
        let mut pipeline = redis::pipe();
        for reading in part {
            let json = serde_json::to_string(reading)?;
            pipeline.cmd("XADD").arg("readings:raw").arg("*").arg(READING_FIELD).arg(json).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await?;
    }
    told("raw, pipelined XADD", readings.len(), begun.elapsed());
    redis::cmd("DEL").arg("readings:raw").query_async::<()>(&mut connection).await?;

    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("objects"))?;
    let socket = dir.path().join("coordinator.sock");
    let (database_url, redis_url) =
        (Secret::new(postgres.url_as("berth_control")), Secret::new(redis.url().to_owned()));
    let token = Secret::new("a balancer's".to_owned());
    let config = coordinator::Config {
        database_url: database_url.clone(),
        redis_url: redis_url.clone(),
        objects_dir: dir.path().join("objects"),
        apps_uid_base: 1 << 21,
        subnet: "10.100.0.0/16".parse()?,
        server_name: "bench".to_owned(),
        logs: (dir.path().join("logs.sock"), Secret::new(String::new())),
        callers: vec![Caller { role: Role::Balancer, uid: nix::unistd::getuid().as_raw(), token: token.clone() }],
        releases_kept: 10,
        seal_key: seal::PrivateKey::new(),
        disk_reserve_bytes: Some(0),
    };
    let stop = CancellationToken::new();
    let coordinator = tokio::spawn(coordinator::run(config, UnixListener::bind(&socket)?, stop.clone()));
    let stats = tokio::spawn(stats::run(stats::Config { database_url, redis_url }, stop.clone()));
    let balancer = link::Client::new(socket, token);
    let report = |readings: &[Reading]| BalancerReport {
        seen: None,
        open: vec![],
        readings: readings.to_vec(),
        samples: vec![],
        switches: vec![],
        life: None,
        gone: vec![],
    };
    // It leads, and everything is connected.
    told_until_held(&balancer, &report(&readings[..1])).await?;

    let begun = Instant::now();
    for part in readings.chunks(AT_ONCE) {
        balancer.post::<Committed>("/v1/counts", &report(part), TIMEOUT).await?;
    }
    let held = format!("select count(*) from reading where life = '{}'", readings[0].life);
    while sql(&held)?.trim() != readings.len().to_string() {
        ensure!(begun.elapsed() < TIMEOUT, "not all readings were committed within {TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    told("from report to PostgreSQL", readings.len(), begun.elapsed());
    stop.cancel();
    coordinator.await??;
    stats.await??;
    Ok(())
}

async fn told_until_held(balancer: &link::Client, report: &BalancerReport) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = balancer.post::<Committed>("/v1/counts", report, TIMEOUT).await;
        if answer.is_ok_and(|told| told.is_some_and(|told| !told.readings.is_empty())) {
            return Ok(());
        }
        ensure!(begun.elapsed() < TIMEOUT, "nothing was committed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Each once, of an hour of its own.
fn readings() -> Result<Vec<Reading>> {
    let now = Time::from(SystemTime::now()).hour();
    let life = "0123456789abcdef".parse().ok().context("that is no life")?;
    let of = |(hour, app)| {
        let hour = now.minus(Duration::from_secs(3600 * hour));
        Reading { life: domain::Life::clone(&life), app: AppId(app), meter: Meter::Requests, hour, value: 7, at: hour }
    };
    Ok((1..=HOURS).flat_map(|hour| (1..=APPS).map(move |app| (hour, app))).map(of).collect())
}

fn told(what: &str, readings: usize, time: Duration) {
    println!(
        "{what:<34} {readings} readings in {:.2} s: {:.0} a second",
        time.as_secs_f64(),
        readings as f64 / time.as_secs_f64()
    );
}
