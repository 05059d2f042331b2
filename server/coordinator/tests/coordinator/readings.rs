//! Readings through the coordinator, the Redis stream and the consumer into PostgreSQL.

use std::time::SystemTime;

use crate::lab::{BOOT, Balancer, Lab, Runner, until};
use domain::{AppId, InstanceId, Life, Meter, Reading, SAMPLE_EVERY, Sample, Time, Traffic, Work};

fn now() -> Time {
    Time::from(SystemTime::now())
}

fn reading(life: &str, app: AppId, meter: Meter, value: u64) -> Reading {
    let at = now();
    Reading { life: life.parse::<Life>().unwrap(), app, meter, hour: at.hour(), value, at }
}

/// The samples that are in the stream; each may be there more than once.
async fn samples(lab: &Lab) -> Vec<Sample> {
    let client = redis::Client::open(lab.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let all: redis::streams::StreamRangeReply = redis::cmd("XRANGE")
        .arg(domain::wire::READINGS_STREAM)
        .arg("-")
        .arg("+")
        .query_async(&mut connection)
        .await
        .unwrap();
    let jsons = all.ids.iter().filter_map(|entry| entry.get::<String>(domain::wire::SAMPLE_FIELD));
    let mut samples: Vec<Sample> = jsons.map(|json| serde_json::from_str(&json).unwrap()).collect();
    samples.sort_by_key(|s| (s.at, s.traffic.is_some()));
    samples.dedup();
    samples
}

async fn stream_length(lab: &Lab) -> usize {
    let client = redis::Client::open(lab.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("XLEN").arg(domain::wire::READINGS_STREAM).query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_reading_is_acknowledged_when_postgresql_has_it_and_not_before() {
    let lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    lab.push(app, 1, None).await;
    let instance: InstanceId =
        until("an instance", async || lab.view(&shop).await.instances.first().map(|i| i.id)).await;

    let cpu = reading(&format!("{BOOT}/{instance}"), app, Meter::Cpu, 1_000);
    let requests = reading("9f8e7d6c", app, Meter::Requests, 17);
    runner.lock().readings = vec![cpu.clone()];
    balancer.lock().readings = vec![requests.clone()];
    // Nobody consumes: they wait in the stream, each once.
    until("both in the stream", async || (stream_length(&lab).await == 2).then_some(())).await;
    assert!(runner.lock().committed.readings.is_empty() && balancer.lock().committed.readings.is_empty());

    // What is in the stream is merged; a consumer's acknowledgement is PostgreSQL's.
    let db = lab.db().await;
    store::reading::merge(db.pool(), &[cpu.clone(), requests.clone()]).await.unwrap();
    until("both acknowledged", async || {
        let of = |c: &domain::wire::Committed| c.readings.first().map(|r| r.value);
        (of(&runner.lock().committed) == Some(1_000) && of(&balancer.lock().committed) == Some(17)).then_some(())
    })
    .await;
    coordinator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    let (_, other) = lab.app("notes").await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    lab.push(app, 1, None).await;
    let instance = until("an instance", async || lab.view(&shop).await.instances.first().map(|i| i.id)).await;
    let life = format!("{BOOT}/{instance}");

    let good = reading(&life, app, Meter::Cpu, 5);
    // Of a server whose clock is an hour ahead, and of one whose clock is an hour behind: before its instance was.
    let hour = std::time::Duration::from_secs(3600);
    let clock = |at: Time| Reading { at, hour: at.hour(), ..reading(&life, app, Meter::Cpu, 6) };
    let (ahead, behind) = (clock(now().plus(hour)), clock(now().minus(hour)));
    let mut torn = reading(&life, app, Meter::Cpu, 6);
    torn.hour = torn.hour.minus(hour);
    runner.lock().readings = vec![
        good.clone(),
        reading(&life, other, Meter::Cpu, 6),
        reading(&format!("{BOOT}/{}", instance.0 + 1000), app, Meter::Cpu, 6),
        reading(&life, app, Meter::Requests, 6),
        reading(&life, app, Meter::Memory, 6),
        reading(&format!("{life}/3"), app, Meter::BytesOut, 7),
        // More than 100 Gbit/s.
        reading(&life, app, Meter::BytesOut, 3_600 * 12_500_000_000),
        // More than four cores can use.
        reading(&format!("other/{instance}"), app, Meter::Cpu, 4 * 3_600_000_000),
        reading(&life, app, Meter::Cpu, u64::MAX),
        ahead,
        behind,
        torn,
    ];
    balancer.lock().readings = vec![
        reading("9f8e", app, Meter::Cpu, 6),
        reading("9f8e", app, Meter::Storage, 6),
        reading("9f8e", app, Meter::BytesOut, u64::MAX >> 1),
        reading("9f8e", AppId(app.0 + 1000), Meter::Requests, 6),
        reading("9f8e", other, Meter::Requests, 6),
    ];
    until("what can be", async || (stream_length(&lab).await >= 4).then_some(())).await;
    // Several reports later it is still only that.
    let reported = runner.lock().committed.clone();
    until("another report", async || (runner.lock().committed == reported).then_some(())).await;
    assert_eq!(stream_length(&lab).await, 4);
    coordinator.stop().await;
}

#[tokio::test]
async fn samples_are_taken_when_redis_has_them_and_only_those_that_can_be() {
    let lab = Lab::new().await;
    let (_, app) = lab.app("shop").await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let every = i64::try_from(SAMPLE_EVERY.as_micros()).unwrap();
    let minute = std::time::Duration::from_secs(60);
    let at = Time::from_unix_micros(now().unix_micros() / every * every).minus(minute);
    let work = Work { cpu_micros: 4 * 15_000_000, memory_bytes: 1 << 30, memory_reserved_bytes: 2 << 30, bytes_out: 9 };
    let of_runner = Sample { source: format!("{BOOT}/1").parse().unwrap(), app, at, work: Some(work), traffic: None };
    let of_balancer = Sample {
        source: "9f8e/1".parse().unwrap(),
        work: None,
        traffic: Some(Traffic::default()),
        ..of_runner.clone()
    };
    let with = |change: &dyn Fn(&mut Sample)| {
        let mut sample = of_runner.clone();
        change(&mut sample);
        sample
    };
    runner.lock().samples = vec![
        of_runner.clone(),
        of_balancer.clone(),
        with(&|s| s.at = s.at.plus(minute * 60)),
        with(&|s| s.at = s.at.minus(minute * 60 * 25)),
        with(&|s| s.at = s.at.plus(std::time::Duration::from_secs(1))),
        with(&|s| s.app = AppId(app.0 + 1000)),
        with(&|s| s.work = Some(Work { cpu_micros: 4 * 21_000_000, ..work })),
        with(&|s| s.work = Some(Work { bytes_out: 1 << 40, ..work })),
        with(&|s| s.work = Some(Work { memory_bytes: u64::MAX, ..work })),
    ];
    balancer.lock().samples = vec![of_balancer.clone(), of_runner.clone()];
    until("both to be taken", async || {
        (runner.lock().committed.samples_taken && balancer.lock().committed.samples_taken).then_some(())
    })
    .await;
    assert_eq!(samples(&lab).await, [of_runner, of_balancer]);
    coordinator.stop().await;
}

#[tokio::test]
async fn without_redis_reports_are_taken_and_readings_wait_at_their_source() {
    let mut lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    // The old one is ended here.
    let gone = harness::redis().await.unwrap();
    let kept = std::mem::replace(&mut lab.redis, gone);
    let coordinator = lab.coordinator("s1");
    let gone = std::mem::replace(&mut lab.redis, kept);
    drop(gone);
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    balancer.lock().readings = vec![reading("9f8e", app, Meter::Requests, 6)];
    let (source, at) = ("9f8e/1".parse().unwrap(), now().hour());
    balancer.lock().samples = vec![Sample { source, app, at, work: None, traffic: Some(Traffic::default()) }];
    lab.push(app, 1, None).await;
    until("live", async || (lab.deploy(&shop, 1).await.row.state == domain::DeployState::Live).then_some(())).await;
    assert!(balancer.lock().committed.readings.is_empty() && !balancer.lock().committed.samples_taken);
    drop((runner, balancer));
    coordinator.stop().await;
}
