//! An app's graphs with a thousand apps and a month behind them: what is asked of PostgreSQL, what is drawn; and how
//! samples of all of them are taken in. It prints figures and judges nothing.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use app::{Page, Site};
use commands::{Actor, Commands, Door, Range, Urls};
use domain::{AppId, AppName, CustomerId, Latency, SAMPLE_EVERY, Sample, Secret, Time, Traffic, UserId, Work};

const APPS: u32 = 1_000;
const DAYS: u32 = 30;
const RAW_HOURS: u32 = 2;
const LOOKS: u32 = 100;
const BATCHES: u32 = 20;

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(measured())
}

async fn measured() -> Result<()> {
    let postgres = harness::postgres().await?;
    let sql = |query: &str| harness::read(Command::new("psql").args(["-XAtq", postgres.url(), "-c", query]));
    sql("alter table app disable trigger user")?;
    sql(&format!(
        "with c as (insert into customer (name) values ('Bench') returning id)
         insert into app (customer_id, name, state) select c.id, 'crowd-' || n, 'stopped' from c, generate_series(1, {APPS}) n"
    ))?;
    let begun = Instant::now();
    for statement in harness::series::statements(DAYS, RAW_HOURS) {
        sql(&statement)?;
    }
    sql("analyze")?;
    println!("{APPS} apps, {DAYS} days of minutes and hours, {RAW_HOURS} h of samples in {:.0?}", begun.elapsed());

    let urls = Urls {
        site: "http://localhost:8080".to_owned(),
        apps_domain: "localhost".to_owned(),
        apps_scheme: "http".to_owned(),
        apps_port: Some(8080),
        ssh: "berth@localhost:2222".to_owned(),
    };
    let database_url = Secret::new(postgres.url_as("berth_web"));
    let commands =
        Commands::connect(commands::Config { database_url, logs: None, urls: urls.clone(), seal: None }).await?;
    let customer = CustomerId(sql("select id from customer where name = 'Bench'")?.trim().parse()?);
    let actor = Actor { user: UserId(1), customer, door: Door::Page, origin: None, key: None };
    let site = Site {
        assets: "/assets/x".to_owned(),
        islands: true,
        sign_up: true,
        approval: false,
        confirmation: false,
        letters: None,
        urls,
    };
    println!("{:<22} {:>10} {:>10} {:>10} {:>10}", "median (p99)", "asked", "", "drawn", "");
    for range in Range::ALL {
        let (mut asked, mut drawn) = (Vec::new(), Vec::new());
        for n in 0..LOOKS + 5 {
            let name: AppName = format!("crowd-{}", n * 9 % APPS + 1).parse()?;
            let begun = Instant::now();
            let usage = commands.usage(&actor, &name, range).await?;
            let read = begun.elapsed();
            ensure!(usage.total.is_some(), "nothing was seen of {name}");
            let view = commands.app(&actor, &name).await?;
            let page = Page { site: &site, user: None, now: Time::from(SystemTime::now()) };
            let begun = Instant::now();
            let html = app::usage(page, view, usage, None);
            ensure!(html.contains("</html>"), "no page");
            // The first ones are not what the others are.
            if n >= 5 {
                asked.push(read);
                drawn.push(begun.elapsed());
            }
        }
        let (asked, drawn) = (spread(asked), spread(drawn));
        println!("{:<22} {:>10.1?} {:>10.1?} {:>10.1?} {:>10.1?}", range.as_str(), asked.0, asked.1, drawn.0, drawn.1);
    }
    let mut asked = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        ensure!(commands.sparks(&actor).await?.len() == APPS as usize, "a spark is missing");
        asked.push(begun.elapsed());
    }
    println!("{:<22} {:>10.1?}", format!("sparks of {APPS} apps"), spread(asked).0);

    let db = store::Db::open(&Secret::new(postgres.url_as("berth_control")), 1)?;
    let first = Time::from(SystemTime::now()).floor(SAMPLE_EVERY).minus(Duration::from_secs(4 * 3600));
    let begun = Instant::now();
    for n in 0..BATCHES {
        let at = first.plus(SAMPLE_EVERY * n);
        let samples: Vec<Sample> = (1..=i64::from(APPS)).flat_map(|app| pair(AppId(app), at)).collect();
        for some in samples.chunks(1000) {
            store::series::add(db.pool(), some, Time::from(SystemTime::now())).await?;
        }
    }
    let rows = f64::from(BATCHES * APPS * 2);
    println!("samples taken in: {:.0} a second", rows / begun.elapsed().as_secs_f64());
    Ok(())
}

fn pair(app: AppId, at: Time) -> [Sample; 2] {
    let work =
        Work { cpu_micros: 4_000_000, memory_bytes: 90 << 20, memory_reserved_bytes: 256 << 20, bytes_out: 9_000 };
    let mut latency = Latency::default();
    (30..42).for_each(|bucket| latency.add(bucket, 20));
    let traffic = Traffic { latency, bytes_out: 90_000, ..Traffic::default() };
    let sample = |source: &str, work, traffic| Some(Sample { source: source.parse().ok()?, app, at, work, traffic });
    [sample("boot/1", Some(work), None), sample("balancer", None, Some(traffic))].map(|sample| match sample {
        Some(sample) => sample,
        None => unreachable!("both are lives"),
    })
}

fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    (at(50), at(99))
}
