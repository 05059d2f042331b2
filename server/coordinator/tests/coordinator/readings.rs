//! Readings through the coordinator, the Redis stream and the consumer into PostgreSQL.

use std::time::SystemTime;

use crate::lab::{BOOT, Balancer, Lab, Runner, until};
use domain::{AppId, InstanceId, Life, Meter, Reading, Time};

fn now() -> Time {
    Time::from(SystemTime::now())
}

fn reading(life: &str, app: AppId, meter: Meter, value: u64) -> Reading {
    let at = now();
    Reading { life: life.parse::<Life>().unwrap(), app, meter, hour: at.hour(), value, at }
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
    let mut late = reading(&life, app, Meter::Cpu, 6);
    late.at = now().plus(std::time::Duration::from_secs(7200));
    late.hour = late.at.hour();
    let mut torn = reading(&life, app, Meter::Cpu, 6);
    torn.hour = torn.hour.minus(std::time::Duration::from_secs(3600));
    runner.lock().readings = vec![
        good.clone(),
        reading(&life, other, Meter::Cpu, 6),
        reading(&format!("{BOOT}/{}", instance.0 + 1000), app, Meter::Cpu, 6),
        reading(&life, app, Meter::Requests, 6),
        // More than four cores can use.
        reading(&format!("other/{instance}"), app, Meter::Cpu, 4 * 3_600_000_000),
        reading(&life, app, Meter::Cpu, u64::MAX),
        late,
        torn,
    ];
    balancer.lock().readings = vec![
        reading("9f8e", app, Meter::Cpu, 6),
        reading("9f8e", AppId(app.0 + 1000), Meter::Requests, 6),
        reading("9f8e", other, Meter::Requests, 6),
    ];
    until("what can be", async || (stream_length(&lab).await >= 2).then_some(())).await;
    // Several reports later it is still only that.
    let reported = runner.lock().committed.clone();
    until("another report", async || (runner.lock().committed == reported).then_some(())).await;
    assert_eq!(stream_length(&lab).await, 2);
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
    lab.push(app, 1, None).await;
    until("live", async || (lab.deploy(&shop, 1).await.row.state == domain::DeployState::Live).then_some(())).await;
    assert!(balancer.lock().committed.readings.is_empty());
    drop((runner, balancer));
    coordinator.stop().await;
}
