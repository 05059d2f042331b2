//! Who leads, what a former leader can still do (nothing), and who may call.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::{BOOT, Balancer, Lab, Runner, manifest, status, until};
use bytes::Bytes;
use domain::wire::{Ask, Assignments, BalancerReport, BuildReport, BuildState, Committed, Routes, RunnerReport};
use domain::{DeployId, DeployState, Secret};
use futures_util::{StreamExt, stream};
use link::Role;

const CALL: Duration = Duration::from_secs(10);

fn report(builds: Vec<BuildReport>) -> RunnerReport {
    RunnerReport {
        boot_id: BOOT.into(),
        cores: 2,
        memory_bytes: 4 << 30,
        memory_used_bytes: 0,
        seen: None,
        instances: vec![],
        builds,
        readings: vec![],
        samples: vec![],
        disk: None,
        addresses: BTreeMap::new(),
    }
}

#[tokio::test]
async fn a_former_leader_can_write_nothing_and_says_that_it_does_not_lead() {
    let lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    let coordinator = lab.coordinator("s1");
    let runner = Runner::start(&coordinator);
    runner.lock().build = None;
    lab.push(app, 1, None).await;
    until("building", async || (lab.deploy(&shop, 1).await.row.state == DeployState::Building).then_some(())).await;
    runner.lock().silent = true;

    // Another leads from here on; the old one hears of a build's end before it knows.
    let db = lab.db().await;
    until("the lease", async || {
        let epoch = store::leader::take(db.pool(), "s1", 60_000).await.unwrap()?;
        store::leader::give_back(db.pool(), epoch).await.unwrap();
        store::leader::take(db.pool(), "thief", 3_600_000).await.unwrap()
    })
    .await;
    let deploy = runner.lock().assignments.as_ref().unwrap().builds[0].deploy;
    let done = BuildState::Done { image: "a".repeat(64).parse().unwrap(), manifest: manifest(&["web"]) };
    let told = report(vec![BuildReport { deploy, attempt: 1, state: done }]);
    let answer = coordinator.client(Role::Runner).post::<Committed>("/v1/report", &told, CALL).await;
    assert_eq!(status(answer), 503);
    // Nor does it answer later, or act on what is asked for.
    lab.commands.app_create(&lab.actor, "notes").await.unwrap();
    until("it knows that it does not lead", async || {
        let ask = Ask { seen: None, wait_ms: 0, ..Ask::default() };
        let routes = coordinator.client(Role::Balancer).post::<Routes>("/v1/routes", &ask, CALL).await.unwrap();
        routes.is_none().then_some(())
    })
    .await;
    assert_eq!(lab.deploy(&shop, 1).await.row.state, DeployState::Building);
    coordinator.stop().await;
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_takes_over_when_it_is_gone() {
    let lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    let first = lab.coordinator("s1");
    until("a leader", async || {
        first
            .client(Role::Balancer)
            .post::<Routes>("/v1/routes", &Ask { seen: None, wait_ms: 100, ..Ask::default() }, CALL)
            .await
            .unwrap()
    })
    .await;
    let second = lab.coordinator("s2");
    // The second knows nothing to tell as long as the first leads.
    let ask = Ask { seen: None, wait_ms: 1500, ..Ask::default() };
    assert!(second.client(Role::Balancer).post::<Routes>("/v1/routes", &ask, CALL).await.unwrap().is_none());
    assert_eq!(status(second.client(Role::Runner).post::<Committed>("/v1/report", &report(vec![]), CALL).await), 503);

    first.stop().await;
    let (_runner, balancer) = (Runner::start(&second), Balancer::start(&second));
    lab.push(app, 1, None).await;
    until("live", async || (lab.deploy(&shop, 1).await.row.state == DeployState::Live).then_some(())).await;
    assert_eq!(balancer.routed(app).len(), 1);
    second.stop().await;
}

#[tokio::test]
async fn a_revision_changes_with_the_content_only_and_grows_with_each_leader() {
    let lab = Lab::new().await;
    lab.app("shop").await;
    let coordinator = lab.coordinator("s1");
    let balancer = coordinator.client(Role::Balancer);
    let ask = |seen, wait_ms| Ask { seen, wait_ms, ..Ask::default() };
    let first =
        until("a table", async || balancer.post::<Routes>("/v1/routes", &ask(None, 5000), CALL).await.unwrap()).await;
    let nothing = balancer.post::<Routes>("/v1/routes", &ask(Some(first.seen.clone()), 1500), CALL).await.unwrap();
    assert!(nothing.is_none(), "nothing changed: {nothing:?}");
    // A question that is held is answered as soon as something does.
    let held = tokio::spawn({
        let balancer = balancer.clone();
        let seen = Some(first.seen.clone());
        async move {
            balancer.post::<Routes>("/v1/routes", &Ask { seen, wait_ms: 30_000, ..Ask::default() }, CALL * 4).await
        }
    });
    lab.app("notes").await;
    let second = held.await.unwrap().unwrap().unwrap();
    assert!(second.seen.revision > first.seen.revision && second.apps.len() == 2);
    coordinator.stop().await;

    let coordinator = lab.coordinator("s1");
    let balancer = coordinator.client(Role::Balancer);
    let third = balancer.post::<Routes>("/v1/routes", &ask(Some(second.seen.clone()), 20_000), CALL * 4).await;
    let third = third.unwrap().unwrap();
    assert!(third.seen.revision > second.seen.revision && third.apps == second.apps);
    coordinator.stop().await;
}

#[tokio::test]
async fn each_role_may_call_what_is_its_own_and_strangers_nothing() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (coordinator.client(Role::Runner), coordinator.client(Role::Balancer));
    let ask = Ask { seen: None, wait_ms: 0, ..Ask::default() };
    let counts = BalancerReport {
        seen: None,
        open: vec![],
        readings: vec![],
        samples: vec![],
        switches: vec![],
        life: None,
        gone: vec![],
    };
    assert_eq!(status(balancer.post::<Assignments>("/v1/assignments", &ask, CALL).await), 403);
    assert_eq!(status(balancer.post::<Committed>("/v1/report", &report(vec![]), CALL).await), 403);
    assert_eq!(status(runner.post::<Routes>("/v1/routes", &ask, CALL).await), 403);
    assert_eq!(status(runner.post::<Committed>("/v1/counts", &counts, CALL).await), 403);
    let image = format!("/v1/objects/images/{}", "a".repeat(64));
    assert_eq!(status(balancer.get_stream(&image, CALL).await.map(|_| ())), 403);
    let stranger = link::Client::new(&coordinator.socket, Secret::new("guess".to_owned()));
    assert_eq!(status(stranger.post::<Routes>("/v1/routes", &ask, CALL).await), 403);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_runner_stores_images_under_their_hash_and_reads_what_is_there() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let runner = coordinator.client(Role::Runner);
    let image = Bytes::from(vec![7_u8; 3_000_000]);
    let stored = objects::Objects::open(lab.dir.path().join("objects")).unwrap();
    let source = stored.put::<domain::SourceHash, std::io::Error>(stream::iter([Ok(image.clone())]), None, 1 << 30);
    let hash = source.await.unwrap().hash;

    let body = |bytes: &Bytes| {
        let pieces: Vec<std::io::Result<Bytes>> =
            bytes.chunks(100_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
        stream::iter(pieces)
    };
    runner.put_stream(&format!("/v1/objects/images/{hash}"), body(&image), CALL).await.unwrap();
    let wrong = format!("/v1/objects/images/{}", "a".repeat(64));
    assert_eq!(status(runner.put_stream(&wrong, body(&image), CALL).await), 422);
    assert_eq!(status(runner.put_stream(&format!("/v1/objects/sources/{hash}"), body(&image), CALL).await), 404);
    assert_eq!(status(runner.get_stream(&wrong, CALL).await.map(|_| ())), 404);
    assert_eq!(status(runner.get_stream("/v1/objects/images/..%2f..%2fkeys", CALL).await.map(|_| ())), 404);
    for kind in ["images", "sources"] {
        let mut bytes = Vec::new();
        let mut read = runner.get_stream(&format!("/v1/objects/{kind}/{hash}"), CALL).await.unwrap();
        while let Some(piece) = read.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(bytes, image);
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_report_that_was_answered_late_comes_again_and_one_of_an_older_attempt_is_refused() {
    let lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    let coordinator = lab.coordinator("s1");
    let runner = Runner::start(&coordinator);
    runner.lock().build = None;
    lab.push(app, 1, None).await;
    let deploy: DeployId =
        until("a build", async || runner.lock().assignments.as_ref()?.builds.first().map(|b| b.deploy)).await;
    runner.lock().silent = true;
    let client = coordinator.client(Role::Runner);
    let say = async |attempt, state| {
        let told = report(vec![BuildReport { deploy, attempt, state }]);
        client.post::<Committed>("/v1/report", &told, CALL).await.unwrap();
    };
    let image = "a".repeat(64).parse().unwrap();
    let failed = BuildState::Failed { reason: domain::Reason::new("an older attempt") };
    say(0, failed.clone()).await;
    say(2, failed.clone()).await;
    assert_eq!(lab.deploy(&shop, 1).await.row.state, DeployState::Building);
    let done = BuildState::Done { image, manifest: manifest(&["web"]) };
    say(1, done.clone()).await;
    say(1, done).await;
    say(1, failed).await;
    let view = lab.deploy(&shop, 1).await;
    assert_eq!(view.row.state, DeployState::Starting, "{view:?}");
    coordinator.stop().await;
}
