//! Against a real PostgreSQL: from readings and rows to postings, whoever dies and whatever comes when.

// A test that cannot be set up has failed; clippy's exception for tests does not see helpers.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use billing::Poster;
use domain::{AppId, Meter, Reading, Secret, Time};
use sqlx::{AssertSqlSafe, Row, query_scalar};
use store::{Db, StoreError, leader, ledger};

const HOUR: i64 = 3_600_000_000;
const SERVER: &str = "main";

struct Lab {
    postgres: harness::Postgres,
    owner: Db,
    control: Db,
    epoch: i64,
    /// A full hour, two days ago: what the tests call hour 0.
    begun: Time,
}

impl Lab {
    /// A ledger that is two days behind, and one that leads.
    async fn new() -> Self {
        let postgres = harness::postgres().await.unwrap();
        let open = |url: String| Db::open(&Secret::new(url), 6).unwrap();
        let (owner, control) = (open(postgres.url().to_owned()), open(postgres.url_as("berth_control")));
        let epoch = leader::take(control.pool(), SERVER, 600_000).await.unwrap().unwrap();
        let now = ledger::progress(owner.pool()).await.unwrap().now;
        let begun = Time::from_unix_micros(now.hour().unix_micros() - 48 * HOUR);
        let lab = Self { postgres, owner, control, epoch, begun };
        lab.run(&format!("update billing set begun = '{begun}', derived = '{begun}', posted = '{begun}'")).await;
        lab.run("insert into customer (name) values ('one'), ('two')").await;
        lab
    }

    fn at(&self, hours: f64) -> Time {
        Time::from_unix_micros(self.begun.unix_micros() + (hours * HOUR as f64) as i64)
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(self.owner.pool()).await.unwrap();
    }

    async fn number(&self, sql: &str) -> i64 {
        let row = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_one(self.owner.pool()).await.unwrap();
        row.get(0)
    }

    async fn app(&self, customer: i64, name: &str) -> AppId {
        let sql = format!("insert into app (customer_id, name) values ({customer}, '{name}') returning id");
        AppId(self.number(&sql).await)
    }

    async fn read(&self, app: AppId, life: &str, meter: Meter, hour: f64, value: u64) {
        let at = self.at(hour);
        let reading = Reading { life: life.parse().unwrap(), app, meter, hour: at.hour(), value, at };
        store::reading::merge(self.control.pool(), &[reading]).await.unwrap();
    }

    async fn post(&self) -> billing::Progress {
        Poster::new(&self.control, self.epoch).look().await.unwrap()
    }

    /// Units of an app and a meter by hour, as they are posted.
    async fn posted(&self, app: AppId, meter: Meter) -> Vec<(i64, i64)> {
        let sql = format!(
            "select (extract(epoch from hour - '{}') / 3600)::int8, sum(units)::int8 from posting
             where app_id = {app} and meter = '{meter}' group by hour having sum(units) <> 0 order by hour",
            self.begun
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(self.owner.pool()).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Nothing differs when all is counted again, by `plan` instead of in PostgreSQL.
    async fn is_clean(&self) {
        let now = ledger::progress(self.owner.pool()).await.unwrap().now;
        for month in [domain::Month::of(self.begun), domain::Month::of(now)] {
            let report = billing::verify(&self.owner, &[], Some(month), Duration::ZERO).await.unwrap();
            assert!(report.is_clean(), "{report:#?}");
        }
        assert_eq!(self.wrong().await, 0);
    }

    /// What is wrong with the postings: chains with gaps, sums that do not add up, entries that do not balance.
    async fn wrong(&self) -> i64 {
        self.number(
            "select (select count(*) from (
                 select place, row_number() over chain as nth, used_after, sum(units) over chain as units,
                        owed_after_micros, sum(amount_micros) over chain as owed
                 from posting window chain as (partition by customer_id, month, plan_id, meter order by place)) p
                 where place <> nth or used_after <> units or owed_after_micros <> owed)
             + (select count(*) from (select posting_id from ledger_entry group by posting_id
                                      having sum(amount_micros) <> 0) e)
             + (select count(*) from posting p where (select count(*) from ledger_entry e where e.posting_id = p.id)
                                                     <> case when p.amount_micros = 0 then 0 else 2 end)",
        )
        .await
    }
}

#[tokio::test]
async fn each_hour_that_is_over_is_posted_and_what_comes_late_too() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    for (hour, value) in [(0.5, 40), (1.2, 100), (1.9, 130), (5.0, 130), (6.5, 200)] {
        lab.read(app, "boot/1", Meter::Cpu, hour, value).await;
    }
    lab.read(app, "boot/2", Meter::Cpu, 6.9, 7).await;
    // It is still running, and its hour is not over.
    lab.read(app, "boot/2", Meter::Cpu, 48.0, 1_000).await;
    let done = lab.post().await;
    assert!(done.hours >= 47, "{done:?}");
    assert_eq!(lab.posted(app, Meter::Cpu).await, [(0, 40), (1, 90), (6, 77)]);
    assert_eq!(lab.post().await, billing::Progress::default(), "once");

    // Two hours late, one of them new, and a life that nobody knew of.
    lab.read(app, "boot/1", Meter::Cpu, 3.5, 160).await;
    lab.read(app, "boot/1", Meter::Cpu, 1.95, 131).await;
    lab.read(app, "boot/3", Meter::Cpu, 2.0, 5).await;
    // A clock that was set back: it said that when it had said 200.
    lab.read(app, "boot/1", Meter::Cpu, 5.9, 210).await;
    let done = lab.post().await;
    assert!(done.late >= 4 && done.postings > 0, "{done:?}");
    assert_eq!(lab.posted(app, Meter::Cpu).await, [(0, 40), (1, 91), (2, 5), (3, 29), (5, 50), (6, 7)]);
    assert_eq!(lab.number("select count(*) from reading_late").await, 0);
    lab.is_clean().await;
}

#[tokio::test]
async fn a_price_that_is_decided_on_cuts_what_is_posted_already() {
    let lab = Lab::new().await;
    let (app, idle) = (lab.app(1, "shop").await, lab.app(2, "idle").await);
    let month = domain::Month::of(lab.begun);
    let prices = r#"{"requests": {"included": 720000000, "tiers": [{"up_to": null, "micros": 1000000}]}}"#;
    lab.run(&format!("update price_plan set prices = '{prices}'")).await;
    lab.read(app, "file", Meter::Requests, 0.5, 10_000_000).await;
    lab.read(idle, "file", Meter::Requests, 0.5, 719_000_000).await;
    lab.post().await;
    let owed = "select coalesce(sum(amount_micros), 0)::int8 from posting where customer_id = ";
    assert_eq!(lab.number(&format!("{owed}2")).await, 0, "all of it is included");
    // As if it had been decided on in time, for the hour that is under way: the part before is shorter.
    let now = lab.number("select (extract(epoch from date_trunc('hour', now())) * 1000000)::int8").await;
    let cut = Time::from_unix_micros(now);
    if domain::Month::of(cut) == month {
        lab.run(&format!("insert into price_plan (currency, since, prices) values ('EUR', '{cut}', '{prices}')")).await;
        let hour = Time::from_unix_micros(now - 2 * HOUR);
        lab.run(&format!("update billing set posted = '{hour}'")).await;
        lab.post().await;
        let part = cut.since(month.from()).as_secs();
        let included = 720_000_000 * part / month.length().as_secs();
        let over = i64::try_from(719_000_000_u64.saturating_sub(included)).unwrap();
        assert_eq!(lab.number(&format!("{owed}2")).await, over, "a unit of a million costs a million micro-units");
        // As if it had been taken back: what was posted is of the whole month again, of whoever uses nothing too.
        lab.run(&format!("delete from price_plan where since = '{cut}'; update billing set posted = '{hour}'")).await;
        lab.post().await;
        assert_eq!(lab.number(&format!("{owed}2")).await, 0);
    }
    lab.is_clean().await;
}

#[tokio::test]
async fn who_cannot_be_posted_is_told_and_tried_again_and_nobody_waits_for_them() {
    let lab = Lab::new().await;
    let (dear, other) = (lab.app(1, "dear").await, lab.app(2, "other").await);
    let price = async |micros: u64| {
        let sql =
            format!("update price_plan set prices = jsonb_set(prices, '{{requests,tiers,0,micros}}', '{micros}')");
        lab.run(&sql).await;
    };
    price(u64::MAX / 2).await;
    for (hour, value) in [(0.5, 40_000_000), (2.5, 90_000_000)] {
        lab.read(dear, "file", Meter::Requests, hour, value).await;
        lab.read(dear, "boot/1", Meter::Cpu, hour, value).await;
        lab.read(other, "boot/2", Meter::Cpu, hour, value).await;
    }
    for turn in 0..3 {
        let done = lab.post().await;
        let told: Vec<String> = done.unposted.iter().map(|(of, cause)| format!("{of}: {cause}")).collect();
        let first = lab.at(0.0);
        assert_eq!(told, [format!("1: requests of app {dear} in the hour of {first}: more than an amount holds")]);
        assert!((done.hours > 0) == (turn == 0), "{done:?}");
        assert_eq!(lab.posted(other, Meter::Cpu).await, [(0, 40_000_000), (2, 50_000_000)]);
        assert_eq!(lab.posted(dear, Meter::Cpu).await, []);
    }
    // What one counter says is too much for any price.
    lab.read(other, "boot/2", Meter::Cpu, 3.5, u64::MAX).await;
    lab.read(other, "boot/3", Meter::Cpu, 3.5, u64::MAX).await;
    price(100_000).await;
    let done = lab.post().await;
    assert_eq!(done.unposted.keys().map(|of| of.0).collect::<Vec<_>>(), [2]);
    assert_eq!(lab.posted(dear, Meter::Requests).await, [(0, 40_000_000), (2, 50_000_000)]);
    assert_eq!(lab.posted(dear, Meter::Cpu).await, [(0, 40_000_000), (2, 50_000_000)]);
    lab.run(&format!("delete from reading where app_id = {other} and hour = '{}'", lab.at(3.0))).await;
    let done = lab.post().await;
    assert!(done.unposted.is_empty() && done.postings == 0, "{done:?}");
    assert_eq!(lab.post().await, billing::Progress::default());
    lab.is_clean().await;
}

/// An app with a release, its deploy, and the instance of a slot.
struct Rows<'a> {
    lab: &'a Lab,
    app: AppId,
}

impl Rows<'_> {
    async fn release(&self, number: i64, switched: Option<f64>) {
        let Self { lab, app } = self;
        lab.run(&format!(
            "insert into image (hash, bytes, manifest) values ('i', 1, '{{}}') on conflict do nothing;
             insert into server (name) values ('{SERVER}') on conflict do nothing;
             insert into release (app_id, number, image, formation) values ({app}, {number}, 'i', '{{}}');
             insert into deploy (app_id, number, cause, commit_id, branch, source)
                 values ({app}, {number}, 'push', 'c', 'main', 's')"
        ))
        .await;
        if let Some(at) = switched {
            lab.run(&format!(
                "insert into deploy_step (deploy_id, step, started)
                 select id, 'switch', '{}' from deploy where app_id = {app} and number = {number}",
                lab.at(at)
            ))
            .await;
        }
    }

    async fn instance(&self, release: i64, process: &str, [created, healthy, drained, ended]: [Option<f64>; 4]) -> i64 {
        let Self { lab, app } = self;
        let time = |at: Option<f64>| at.map_or("null".to_owned(), |at| format!("'{}'", lab.at(at)));
        lab.number(&format!(
            "insert into instance (app_id, release_number, process, index, server_id, address, memory_bytes,
                                   created, healthy, drain_since, ended, address_free)
             select {app}, {release}, '{process}', 1, s.id, '10.0.0.1', 512 << 20, {}, {}, {}, {}, true from server s
             returning id",
            time(created),
            time(healthy),
            time(drained),
            time(ended)
        ))
        .await
    }
}

/// 512 MiB for so many hours.
fn memory(hours: f64) -> i64 {
    (hours * 3600.0 * f64::from(512 << 10)) as i64
}

#[tokio::test]
async fn memory_is_counted_while_an_instance_is_awake_and_once_where_two_overlap() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    let rows = Rows { lab: &lab, app };
    for (release, switched) in [(1, Some(0.5)), (2, Some(2.5)), (3, None)] {
        rows.release(release, switched).await;
    }
    // Healthy before it was switched on; drained after its successor was. Both instances of one slot count once.
    rows.instance(1, "web", [Some(0.25), Some(0.3), Some(2.6), Some(2.7)]).await;
    rows.instance(2, "web", [Some(2.25), Some(2.3), None, Some(4.5)]).await;
    // Never switched on; never healthy.
    rows.instance(3, "web", [Some(3.0), Some(3.1), None, Some(4.0)]).await;
    rows.instance(2, "worker", [Some(3.0), None, None, Some(4.0)]).await;
    // A process that runs once.
    rows.instance(2, "release", [Some(2.0), None, None, Some(2.125)]).await;
    lab.post().await;
    let posted = lab.posted(app, Meter::Memory).await;
    assert_eq!(
        posted,
        [(0, memory(0.5)), (1, memory(1.0)), (2, memory(1.125)), (3, memory(1.0)), (4, memory(0.5))],
        "from 0.5 to 4.5, and an eighth of an hour"
    );
    lab.is_clean().await;
}

#[tokio::test]
async fn memory_of_a_server_that_nobody_heard_costs_nothing() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    let rows = Rows { lab: &lab, app };
    rows.release(1, Some(0.0)).await;
    rows.instance(1, "web", [Some(0.0), Some(0.0), None, None]).await;
    // It was cut off from power for three hours, and then again until now.
    for (from, to) in [(1.5, 1.51), (2.0, 5.0)] {
        lab.run(&format!("update server set seen = '{}'", lab.at(from))).await;
        lab.run(&format!("update server set seen = '{}'", lab.at(to))).await;
    }
    lab.run(&format!("delete from server_silent where until < '{}'", lab.at(2.1))).await;
    lab.run(&format!("update server set seen = '{}'", lab.at(5.01))).await;
    lab.run(&format!("update server set seen = '{}'", lab.at(5.02))).await;
    lab.post().await;
    let posted = lab.posted(app, Meter::Memory).await;
    let hours: Vec<i64> = posted.iter().map(|(hour, _)| *hour).collect();
    assert_eq!(hours, [0, 1, 5]);
    assert_eq!(posted[0].1, memory(1.0));
    lab.is_clean().await;
}

#[tokio::test]
async fn storage_is_the_exact_sum_of_sizes_over_time_and_ends_with_the_app() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    let control = &lab.control;
    let measure = async |kind: domain::DiskKind, bytes: i64| {
        store::disk::all::measure(control.pool(), kind, &[app.0], &[bytes]).await.unwrap();
    };
    measure(domain::DiskKind::Log, 3 << 20).await;
    measure(domain::DiskKind::Log, 5 << 20).await;
    measure(domain::DiskKind::Cache, 1 << 40).await;
    // As if that had been two days ago, the second half an hour after the first.
    let (first, second) = (lab.at(0.0), lab.at(1.5));
    lab.run(&format!(
        "delete from disk_size where bytes = 0;
         update disk_size set since = '{first}', byte_micros = 0 where bytes = 3 << 20;
         update disk_size set since = '{second}', byte_micros = {} where bytes = 5 << 20",
        (3_i64 << 20) * HOUR * 3 / 2
    ))
    .await;
    lab.run(&format!("update app set state = 'deleted', deleted = '{}' where id = {app}", lab.at(3.25))).await;
    lab.post().await;
    let mib = |hours: f64| (hours * 3600.0 * 1024.0) as i64;
    let posted = lab.posted(app, Meter::Storage).await;
    assert_eq!(posted, [(0, mib(3.0)), (1, mib(4.0)), (2, mib(5.0)), (3, mib(1.25))]);
    store::disk::all::forget_usage(control.pool()).await.unwrap();
    assert_eq!(lab.post().await, billing::Progress::default());
    lab.is_clean().await;
}

#[tokio::test]
async fn a_build_counts_when_it_has_ended_unless_its_builder_was_lost() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    lab.run("insert into users (email, name) values ('a@b.example', 'A')").await;
    let rows = Rows { lab: &lab, app };
    let cases = [(1, "null", 0.25), (2, "'npm failed'", 0.125), (3, "'its builder was lost 3 times'", 0.5)];
    for (number, reason, hours) in cases {
        rows.release(number, None).await;
        lab.run(&format!(
            "update deploy set reason = {reason}, user_id = 1 where app_id = {app} and number = {number};
             insert into deploy_step (deploy_id, step, started, ended)
             select id, 'build', '{}', '{}' from deploy where app_id = {app} and number = {number}",
            lab.at(3.9),
            lab.at(3.9 + hours)
        ))
        .await;
    }
    lab.post().await;
    let posted = lab.posted(app, Meter::Builds).await;
    let hours: Vec<i64> = posted.iter().map(|(hour, _)| *hour).collect();
    // What ended in the hour after counts there; which float arithmetic moves by a microsecond.
    assert_eq!(hours, [4]);
    assert!((posted[0].1 - HOUR * 3 / 8).abs() <= 2, "{posted:?}");
}

#[tokio::test]
async fn two_at_once_and_whoever_dies_in_the_middle_post_each_unit_once() {
    let lab = Lab::new().await;
    let mut apps = Vec::new();
    for n in 0..6 {
        let app = lab.app(1 + n % 2, &format!("app{n}")).await;
        for hour in 0..40 {
            lab.read(app, "boot/1", Meter::Cpu, hour as f64 + 0.5, (hour + 1) * 1_000).await;
            lab.read(app, "file", Meter::Requests, hour as f64 + 0.5, (hour + 1) * 7).await;
        }
        apps.push(app);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut turns = 0_u64;
    loop {
        assert!(Instant::now() < deadline);
        turns += 1;
        let one = tokio::spawn({
            let (db, epoch) = (lab.control.clone(), lab.epoch);
            async move { Poster::new(&db, epoch).look().await }
        });
        let two = Poster::new(&lab.control, lab.epoch);
        // Wherever they are: reading, writing, committing.
        let killed = tokio::time::timeout(Duration::from_millis(3 * turns), two.look()).await;
        one.abort();
        if turns.is_multiple_of(4) {
            // And the connection, on PostgreSQL's side.
            lab.run(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where usename = 'berth_control' and datname = current_database()",
            )
            .await;
        }
        if let Ok(Ok(done)) = killed
            && done == billing::Progress::default()
        {
            break;
        }
    }
    for app in apps {
        let hours: Vec<(i64, i64)> = (0..40).map(|hour| (hour, 1_000)).collect();
        assert_eq!(lab.posted(app, Meter::Cpu).await, hours);
    }
    lab.is_clean().await;
}

#[tokio::test]
async fn who_does_not_lead_any_more_posts_nothing() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    lab.read(app, "boot/1", Meter::Cpu, 0.5, 40).await;
    leader::take(lab.control.pool(), SERVER, 600_000).await.unwrap().unwrap();
    let refused = Poster::new(&lab.control, lab.epoch).look().await.unwrap_err();
    let billing::BillingError::Store { cause: StoreError::NotLeading { .. }, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(lab.number("select count(*) from posting").await, 0);
    assert_eq!(lab.number("select count(*) from reading where meter = 'memory'").await, 0);
}

#[tokio::test]
async fn nobody_changes_what_is_posted_and_nothing_is_posted_that_does_not_balance() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    lab.read(app, "boot/1", Meter::Cpu, 0.5, 4_000_000_000).await;
    lab.post().await;
    for role in ["berth_web", "berth_receiver", "berth_control"] {
        let db = Db::open(&Secret::new(lab.postgres.url_as(role)), 1).unwrap();
        let mut refused = vec![
            "update posting set amount_micros = 0",
            "delete from posting",
            "update ledger_entry set amount_micros = 1",
            "delete from ledger_entry",
            "truncate posting cascade",
            "update billing set begun = now()",
            "insert into disk_size values (1, 'log', now(), 1, 1)",
            "update disk_size set bytes = 0",
            "update price_plan set prices = '{}'",
        ];
        if role != "berth_control" {
            refused.extend([
                "insert into posting (customer_id, app_id, meter, plan_id, month, hour, place, units, used_after,
                     amount_micros, owed_after_micros) select 1, 1, 'cpu', 1, now(), now(), 99, 1, 1, 1, 1",
                "insert into ledger_entry values (1, 'customer/2', 5)",
                "insert into reading_late (life, app_id, meter, hour) values ('b/1', 1, 'cpu', now())",
                "update billing set posted = now()",
            ]);
        }
        for sql in refused {
            let said = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(db.pool()).await;
            let said = said.unwrap_err().to_string();
            assert!(said.contains("permission denied"), "{role}: {sql}: {said}");
        }
    }
    // Whoever may write both, cannot write one without the other.
    let posting = "insert into posting (customer_id, app_id, meter, plan_id, month, hour, place, units, used_after,
                       amount_micros, owed_after_micros) values (1, 1, 'cpu', 1, '2020-01-01', now(), 1, 1, 1, 5, 5)
                   returning id";
    for (amounts, holds) in [
        ("", false),
        ("(ID, 'customer/1', 5)", false),
        ("(ID, 'customer/1', 5), (ID, 'revenue/cpu', -4)", false),
        ("(ID, 'customer/1', 4), (ID, 'revenue/cpu', -4)", false),
        ("(ID, 'customer/1', 5), (ID, 'revenue/cpu', -5)", true),
    ] {
        let mut tx = lab.control.begin().await.unwrap();
        let id: i64 = query_scalar(posting).fetch_one(&mut **tx).await.unwrap();
        if !amounts.is_empty() {
            let sql = format!("insert into ledger_entry values {}", amounts.replace("ID", &id.to_string()));
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **tx).await.unwrap();
        }
        assert_eq!(tx.commit().await.is_ok(), holds, "{amounts}");
    }
    // Nor add a line to what is posted.
    let more = "insert into ledger_entry select min(id), 'customer/9', 5 from posting";
    assert!(sqlx::query(more).execute(lab.control.pool()).await.is_err());
}

#[tokio::test]
async fn verifying_finds_whatever_does_not_follow_from_what_was_counted() {
    let lab = Lab::new().await;
    let app = lab.app(1, "shop").await;
    let rows = Rows { lab: &lab, app };
    rows.release(1, Some(0.0)).await;
    lab.run("update server set seen = now()").await;
    rows.instance(1, "web", [Some(0.0), Some(0.1), None, None]).await;
    for hour in 0..30 {
        lab.read(app, "boot/1", Meter::Cpu, f64::from(hour) + 0.5, u64::try_from(hour + 1).unwrap() * 40_000_000).await;
        lab.read(app, "file", Meter::Requests, f64::from(hour) + 0.5, u64::try_from(hour + 1).unwrap() * 7_000_000)
            .await;
    }
    lab.run(&format!("insert into life_end values ('boot/1', {app}, 'cpu', 1200000000, '{}')", lab.at(29.6))).await;
    lab.post().await;
    // Not posted yet: it counts all the same.
    lab.read(app, "file", Meter::Requests, 48.0, 280_000_000).await;
    let month = domain::Month::of(lab.begun);
    let counter =
        |value| billing::Counter { life: "file".parse().unwrap(), app: Some(app), meter: Meter::Requests, value };
    let verify =
        async |value| billing::verify(&lab.owner, &[counter(value)], Some(month), Duration::ZERO).await.unwrap();
    let clean = verify(280_000_000).await;
    assert!(clean.is_clean(), "{clean:#?}");
    let compared: Vec<bool> = clean.checks.iter().map(|check| check.compared > 0).collect();
    assert!(compared.iter().all(|compared| *compared), "{clean:#?}");
    let account = billing::show(&lab.owner, "one", Some(month)).await.unwrap();
    let shown: i64 = account.meters.iter().map(|line| line.cents).sum();
    assert_eq!((shown, account.apps.iter().map(|line| line.cents).sum::<i64>()), (account.cents, account.cents));
    assert!(account.micros > account.posted_micros && account.posted_micros > 0, "{}", account.text());

    let behind = verify(280_000_001).await;
    assert_eq!(differing(&behind), [0], "a counter that readings are behind of");
    // Each by itself, in a transaction that is taken back: who may do that is nobody but the owner.
    let cases: &[(&str, &[usize])] = &[
        ("update life_end set value = value + 1", &[1]),
        (
            "update reading set value = value + 1 where meter = 'memory' and hour = (select max(hour) from reading where meter = 'memory')",
            &[2, 3],
        ),
        ("update reading set value = value + 1000000 where meter = 'requests' and value = 7000000 * 3", &[3]),
        ("delete from reading where meter = 'cpu' and value = 40000000 * 30", &[1, 3, 4]),
        (
            "update posting set units = units + 1 where id = (select max(id) from posting where meter = 'requests')",
            &[3, 5, 7],
        ),
        ("update posting set amount_micros = amount_micros + 1 where id = 1", &[4, 5, 6, 7]),
        ("update ledger_entry set amount_micros = amount_micros * 2 where posting_id = 1", &[4, 6]),
        ("update ledger_entry set account = 'customer/2' where posting_id = 1 and account = 'customer/1'", &[4, 6]),
        (
            "update ledger_entry set amount_micros = amount_micros - 1 where posting_id = 1 and account like 'revenue/%'",
            &[6],
        ),
        ("update posting set place = place + 1000 where id = 1", &[5]),
        ("update price_plan set prices = jsonb_set(prices, '{cpu,tiers,0,micros}', '72000')", &[4]),
    ];
    for (sql, differ) in cases {
        lab.run(
            "create table kept as table reading; create table kept_posting as table posting;
                 create table kept_entry as table ledger_entry; create table kept_end as table life_end;
                 create table kept_plan as table price_plan",
        )
        .await;
        lab.run(sql).await;
        let found = verify(280_000_000).await;
        assert_eq!(differing(&found), *differ, "{sql}: {found:#?}");
        lab.run(
            "begin; set constraints all deferred;
                 delete from reading; insert into reading select * from kept; drop table kept;
                 delete from ledger_entry; update posting p set (units, amount_micros, place) =
                     (select k.units, k.amount_micros, k.place from kept_posting k where k.id = p.id);
                 insert into ledger_entry select * from kept_entry; delete from life_end;
                 insert into life_end select * from kept_end;
                 update price_plan p set prices = (select prices from kept_plan k where k.id = p.id);
                 drop table kept_posting, kept_entry, kept_end, kept_plan; commit",
        )
        .await;
    }
    assert!(verify(280_000_000).await.is_clean());
    lab.run("update posted_app set units = units + 1 where meter = 'cpu'").await;
    assert_eq!(differing(&verify(280_000_000).await), [7]);
}

fn differing(report: &billing::Report) -> Vec<usize> {
    let differ = report.checks.iter().enumerate().filter(|(_, check)| !check.differences.is_empty());
    differ.map(|(nth, _)| nth).collect()
}

#[tokio::test]
async fn an_hour_of_a_thousand_apps_is_posted_in_seconds() {
    let lab = Lab::new().await;
    // One customer with 500 apps, 500 with one each.
    lab.run(
        "insert into customer (name) select 'c' || n from generate_series(1, 500) n;
         insert into app (customer_id, name) select case when n <= 500 then 1 else n - 498 end, 'app' || n
             from generate_series(1, 1000) n",
    )
    .await;
    // Two days of readings of lives that go on.
    lab.run(&format!(
        "insert into reading (life, app_id, meter, hour, value, at)
         select 'life/' || a.id, a.id, m, '{0}'::timestamptz + h * interval '1 hour', (h + 1) * 1000, '{0}'
         from app a, unnest(array['cpu', 'memory', 'requests', 'bytes_out', 'storage', 'builds']) m, generate_series(0, 40) h;
         analyze",
        lab.begun
    ))
    .await;
    lab.run(&format!("update billing set derived = '{0}', posted = '{0}'", lab.at(40.0))).await;
    // Only hour 40 is there to be posted; those after it are empty.
    let from = Instant::now();
    let done = lab.post().await;
    let took = from.elapsed();
    eprintln!("{} postings in {} ms", done.postings, took.as_millis());
    lab.run(&format!("update billing set begun = '{}'", lab.at(40.0))).await;
    let from = Instant::now();
    assert_eq!(done.postings, 6_000);
    lab.is_clean().await;
    eprintln!("held against 246,000 readings in {} ms", from.elapsed().as_millis());
    assert!(took < Duration::from_secs(20), "{took:?}");
}
