//! Graphs from samples in the database to the page and its stream.

use std::time::SystemTime;

use domain::{Answers, AppId, Latency, SAMPLE_EVERY, Sample, Time, Traffic, Work};
use store::Db;

use super::*;

/// What a runner and two balancers saw of an app in the `steps` quarters of a minute before `until`.
fn samples(app: AppId, until: Time, steps: u32) -> Vec<Sample> {
    let mut latency = Latency::default();
    latency.add(Latency::bucket(30_000), 15);
    let traffic =
        Traffic { answers: Answers { ok: 14, server_error: 1, ..Answers::default() }, bytes_out: 1 << 20, latency };
    let work = Work { cpu_micros: 7_500_000, memory_bytes: 213 << 20, memory_reserved_bytes: 512 << 20, bytes_out: 0 };
    let of = |n: u32, source: &str, work, traffic| Sample {
        source: source.parse().unwrap(),
        app,
        at: until.minus(SAMPLE_EVERY * n),
        work,
        traffic,
    };
    (1..=steps)
        .flat_map(|n| {
            [
                of(n, "boot", Some(work), None),
                of(n, "balancer/1", None, Some(traffic.clone())),
                of(n, "balancer/2", None, Some(traffic.clone())),
            ]
        })
        .collect()
}

#[tokio::test]
async fn what_was_seen_of_an_app_is_on_its_page_and_comes_by_the_stream() -> Result<()> {
    let site = site().await?;
    let (cookie, actor) = site.user().await?;
    let name = site.app(&actor, "orchard").await?;
    let control = Db::open(&Secret::new(site.postgres.url_as("berth_control")), 2)?;
    let app = store::app::get(control.pool(), actor.customer, &name).await?.context("the app is there")?.id;
    let empty = site.get("/apps/orchard/usage?range=30d", &cookie).await?;
    assert!(empty.text.contains("Nothing runs yet."), "{}", empty.text);
    let mut body = site
        .send(request(Method::GET, "/apps/orchard/usage/events?after=", &cookie).body(Body::empty())?)
        .await?
        .into_body();
    hears(&mut body, "data: graphs ").await?;

    let now = Time::from(SystemTime::now());
    let until = now.floor(SAMPLE_EVERY);
    let all = samples(app, until, 40);
    store::series::add(control.pool(), &all, now).await?;
    // Two requests a second of each balancer, one in fifteen an error; the page comes before any roll-up.
    let hour = site.get("/apps/orchard/usage", &cookie).await?.text;
    let said = ["1,200 · 6.67 % errors", "at most 213 MiB of 512 MiB", "300 CPU-seconds", "80 MiB"];
    for said in said {
        assert!(hour.contains(said), "{said} is not in {hour}");
    }
    assert!(site.get("/apps/orchard/usage?range=1d", &cookie).await?.text.contains("1,200 · 6.67 % errors"));
    let app_page = site.get("/apps/orchard", &cookie).await?.text;
    assert!(app_page.contains("Last hour"), "{app_page}");
    // By its beat, not by a change.
    hears(&mut body, "1,200 · 6.67 % errors").await?;

    // What is older comes from what was rolled up; here, a day's first hour from minutes and a month's from hours.
    let old = now.hour().minus(Duration::from_secs(3600 * 20));
    let steps = |at: Time| {
        let seen = samples(app, at, 240).into_iter();
        plan::series::steps(seen.map(|s| (s.at, domain::Stretch::of(s.work.as_ref(), s.traffic.as_ref()))))
    };
    for hour in [old, now.hour().minus(Duration::from_secs(3600 * 24 * 9))] {
        let rolled = plan::series::roll_up(hour, &steps(hour.plus(Duration::from_secs(3600))));
        let mut tx = control.begin().await?;
        store::series::put(&mut tx, app, hour, &rolled.minutes, &rolled.whole).await?;
        tx.commit().await?;
    }
    assert!(site.get("/apps/orchard/usage?range=1d", &cookie).await?.text.contains("8,400 · 6.67 % errors"));
    assert!(site.get("/apps/orchard/usage?range=30d", &cookie).await?.text.contains("14,400 · 6.67 % errors"));
    let list = site.get("/apps", &cookie).await?.text;
    assert!(list.contains("Requests of orchard over 24 hours: 7,200; lately 2.00 a second"), "{list}");
    Ok(())
}
