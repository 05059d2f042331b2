//! The ground of all others, against a real PostgreSQL.

// A test that cannot be set up has failed; clippy's exception for tests does not see helpers.
#![allow(clippy::unwrap_used)]

use domain::wire::Manifest;
use domain::{AppId, Life, Meter, Reading, Secret, Time};
use store::{Db, RolePassword, StoreError, leader, migrate, reading};

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

#[tokio::test]
async fn migrating_makes_roles_and_tables_and_once_more_is_the_same() {
    let postgres = harness::empty().await.unwrap();
    let role = format!("berth_test_{}", std::process::id());
    let roles = |password: &str| [RolePassword { role: role.clone(), password: secret(password) }];
    migrate(&secret(postgres.url()), &roles("first")).await.unwrap();
    migrate(&secret(postgres.url()), &roles("it's \"second\"; --")).await.unwrap();

    let url = postgres.url().replace("berth:berth@", &format!("{role}:it%27s%20%22second%22%3B%20--@"));
    let db = Db::open(&secret(&url), 1).unwrap();
    // It may sign in, and has no right that was not granted.
    let refused = store::user::by_email(db.pool(), &"a@b.example".parse().unwrap()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Statement { .. }), "{refused:?}");
    let old = postgres.url().replace("berth:berth@", &format!("{role}:first@"));
    let old = Db::open(&secret(&old), 1).unwrap();
    assert!(old.begin().await.is_err(), "the password of a former start is void");
    drop((db, old));

    let owner = Db::open(&secret(postgres.url()), 1).unwrap();
    let which = store::truth::which(owner.pool()).await.unwrap();
    assert_eq!(which, store::truth::Which { incarnation: 1, is_older: false });
    // Roles are the server's, not the database's.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop role {role}"))).execute(owner.pool()).await.unwrap();
}

#[tokio::test]
async fn who_stops_waiting_for_a_transaction_leaves_none_open() {
    let postgres = harness::postgres().await.unwrap();
    let db = Db::open(&secret(&postgres.url_as("berth_control")), 1).unwrap();
    let (mut left, mut stayed) = (0, 0);
    // How far a transaction's beginning is by a turn of others depends on how busy the machine is.
    while left + stayed < 150 || (left <= 10 && stayed < 5_000) {
        let patience = (left + stayed) % 150;
        let goes = async {
            for _ in 0..patience {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = db.begin() => stayed += 1,
            _ = goes => left += 1,
        }
        db.snapshot().await.unwrap().commit().await.unwrap();
    }
    assert!(left > 10, "{left} stopped waiting, {stayed} did not");
}

#[tokio::test]
async fn one_leads_and_what_a_former_leader_writes_is_refused() {
    let postgres = harness::postgres().await.unwrap();
    let db = Db::open(&secret(&postgres.url_as("berth_control")), 4).unwrap();
    let first = leader::take(db.pool(), "s1", 60_000).await.unwrap().unwrap();
    assert_eq!(leader::take(db.pool(), "s2", 60_000).await.unwrap(), None, "the lease is held");
    assert!(leader::renew(db.pool(), first, 0, 60_000).await.unwrap());

    // A successor of the same name need not wait; its predecessor can write nothing more.
    let mut late = db.begin().await.unwrap();
    leader::check(&mut late, first).await.unwrap();
    drop(late);
    let second = leader::take(db.pool(), "s1", 60_000).await.unwrap().unwrap();
    assert!(second > first);
    let mut late = db.begin().await.unwrap();
    assert!(matches!(leader::check(&mut late, first).await, Err(StoreError::NotLeading { .. })));
    drop(late);
    assert!(!leader::renew(db.pool(), first, 0, 60_000).await.unwrap());

    leader::give_back(db.pool(), first).await.unwrap();
    assert_eq!(leader::take(db.pool(), "s2", 60_000).await.unwrap(), None, "only the holder gives it back");
    leader::give_back(db.pool(), second).await.unwrap();
    let third = leader::take(db.pool(), "s2", 1).await.unwrap().unwrap();
    // A lease that has run out is nobody's.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while leader::renew(db.pool(), third, 0, 1).await.unwrap() {
        assert!(std::time::Instant::now() < deadline);
    }
    let mut late = db.begin().await.unwrap();
    assert!(matches!(leader::check(&mut late, third).await, Err(StoreError::NotLeading { .. })));
}

#[tokio::test]
async fn a_leaders_transaction_holds_the_lease_until_it_ends() {
    let postgres = harness::postgres().await.unwrap();
    let db = Db::open(&secret(&postgres.url_as("berth_control")), 4).unwrap();
    let epoch = leader::take(db.pool(), "s1", 60_000).await.unwrap().unwrap();
    let mut tx = db.begin().await.unwrap();
    leader::check(&mut tx, epoch).await.unwrap();
    let taking = leader::take(db.pool(), "s1", 60_000);
    tokio::pin!(taking);
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut taking).await;
    assert!(early.is_err(), "a successor begins after what its predecessor was writing");
    leader::decided(&mut tx, epoch, None, "a", "b").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(taking.await.unwrap(), Some(epoch + 1));
}

fn reading(life: &str, hour: i64, value: u64) -> Reading {
    let hour = Time::from_unix_micros(hour * 3_600_000_000);
    Reading { life: life.parse::<Life>().unwrap(), app: AppId(1), meter: Meter::Cpu, hour, value, at: hour }
}

#[tokio::test]
async fn readings_merge_by_maximum_whatever_their_order() {
    let postgres = harness::postgres().await.unwrap();
    let db = Db::open(&secret(&postgres.url_as("berth_control")), 4).unwrap();
    for batch in
        [vec![reading("b/1", 1, 5), reading("b/1", 2, 9)], vec![reading("b/1", 1, 7)], vec![reading("b/1", 1, 6)]]
    {
        reading::merge(db.pool(), &batch).await.unwrap();
        reading::merge(db.pool(), &batch).await.unwrap();
    }
    reading::merge(db.pool(), &[reading("b/2", 1, 0)]).await.unwrap();
    let asked = [reading("b/1", 1, 0), reading("b/1", 2, 0), reading("b/2", 1, 3), reading("b/3", 1, 3)];
    let mut held: Vec<(String, i64)> =
        reading::held(db.pool(), &asked).await.unwrap().into_iter().map(|h| (h.life.to_string(), h.value)).collect();
    held.sort();
    assert_eq!(held, [("b/1".into(), 7), ("b/1".into(), 9), ("b/2".into(), 0)]);
}

#[tokio::test]
async fn no_role_reads_what_is_not_its_own() {
    let postgres = harness::postgres().await.unwrap();
    let email = "a@b.example".parse().unwrap();
    for role in ["berth_receiver", "berth_control"] {
        let db = Db::open(&secret(&postgres.url_as(role)), 1).unwrap();
        let refused = store::user::credentials(db.pool(), &email).await;
        assert!(matches!(refused, Err(StoreError::Statement { .. })), "{role} reads password hashes");
    }
    for role in ["berth_web", "berth_receiver"] {
        let db = Db::open(&secret(&postgres.url_as(role)), 1).unwrap();
        assert!(leader::take(db.pool(), "x", 1).await.is_err(), "{role} leads");
        assert!(reading::merge(db.pool(), &[reading("b/1", 1, 5)]).await.is_err(), "{role} writes readings");
        let mut tx = db.begin().await.unwrap();
        let manifest = Manifest {
            processes: Default::default(),
            env: Default::default(),
            buildpack: String::new(),
            stack: String::new(),
            bytes: 0,
            settings: Default::default(),
        };
        let image = "a".repeat(64).parse().unwrap();
        assert!(store::deploy::all::built(&mut tx, domain::DeployId(1), &image, &manifest).await.is_err());
    }
}

#[tokio::test]
async fn a_statement_that_cannot_reach_postgresql_is_told_from_one_that_is_refused() {
    let db = Db::open(&secret("postgres://nobody@localhost/none?host=/nowhere"), 1).unwrap();
    assert!(db.begin().await.unwrap_err().is_away());
}
