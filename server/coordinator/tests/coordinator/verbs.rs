//! What is asked of an app besides a push, carried to its end.

use std::collections::BTreeMap;

use commands::{CommandError, Scale};
use domain::wire::RouteState;
use domain::{AppId, AppName, Cause, DeployState, ReleaseNumber, Step};

use crate::lab::{Balancer, Lab, Runner, manifest, until};

pub async fn reaches(lab: &Lab, app: &AppName, number: i64, state: DeployState) -> commands::DeployView {
    until(&format!("deploy {number} {state}"), async || {
        let view = lab.deploy(app, number).await;
        (view.row.state == state).then_some(view)
    })
    .await
}

async fn state(balancer: &Balancer, app: AppId, state: Option<RouteState>) {
    until("the route's state", async || {
        let table = balancer.lock();
        let row = table.routes.as_ref()?.apps.iter().find(|a| a.app == app).map(|a| a.state);
        (row == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restart_and_a_roll_back_are_deploys_without_a_build_that_always_leave_a_route() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (_runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    lab.push(app, 1, None).await;
    reaches(&lab, &shop, 1, DeployState::Live).await;
    lab.move_branches().await;
    let first = balancer.routed(app);

    assert_eq!(lab.commands.app_restart(&lab.actor, &shop).await.unwrap(), 2);
    let restarted = until("the restart", async || {
        assert!(!balancer.routed(app).is_empty(), "there is always somebody to answer");
        let view = lab.deploy(&shop, 2).await;
        (view.row.state == DeployState::Live).then_some(view)
    })
    .await;
    assert_eq!((restarted.row.cause, restarted.row.origin), (Cause::Restart, Some(1)));
    let steps: Vec<Step> = restarted.row.steps.iter().map(|s| s.step).collect();
    assert_eq!(steps, [Step::Start, Step::Switch, Step::Drain], "nothing is built and no branch moves");
    assert_ne!(balancer.routed(app), first);
    assert!(lab.commands.branch_moves().await.unwrap().is_empty());

    // The next push builds on the branch as it is; rolled back, its predecessor serves again.
    lab.push(app, 2, Some(1)).await;
    reaches(&lab, &shop, 3, DeployState::Live).await;
    lab.move_branches().await;
    assert_eq!(lab.commands.deploy_roll_back(&lab.actor, &shop, 1).await.unwrap(), 4);
    let back = reaches(&lab, &shop, 4, DeployState::Live).await;
    assert_eq!((back.row.cause, back.row.commit), (Cause::Rollback, crate::lab::commit(1)));
    assert_eq!(back.serving, Some(ReleaseNumber(4)));
    // And what was rolled back from is still where the branch is.
    lab.push(app, 3, Some(2)).await;
    reaches(&lab, &shop, 5, DeployState::Live).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_stopped_app_has_its_page_and_comes_back_and_a_deleted_one_is_gone() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (_runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    lab.push(app, 1, None).await;
    reaches(&lab, &shop, 1, DeployState::Live).await;

    lab.commands.app_stop(&lab.actor, &shop).await.unwrap();
    state(&balancer, app, Some(RouteState::Stopped)).await;
    until("no instance", async || lab.view(&shop).await.instances.is_empty().then_some(())).await;
    lab.commands.app_start(&lab.actor, &shop).await.unwrap();
    until("a route", async || (!balancer.routed(app).is_empty()).then_some(())).await;
    assert_eq!(lab.view(&shop).await.summary, "v1 serves");

    let (deleted, mut told) = tokio::sync::mpsc::channel(1);
    let logs = axum::Router::new().route(
        "/v1/app/{id}",
        axum::routing::delete(move |axum::extract::Path(id): axum::extract::Path<i64>| async move {
            deleted.send(id).await.unwrap();
        }),
    );
    let listener = std::os::unix::net::UnixListener::bind(lab.dir.path().join("logs.sock")).unwrap();
    let callers =
        vec![link::Caller { role: link::Role::Control, uid: 0, token: crate::lab::token(link::Role::Control) }];
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn(link::serve(listener, logs, callers, stop.clone()));

    lab.commands.app_delete(&lab.actor, &shop, "shop").await.unwrap();
    state(&balancer, app, None).await;
    let db = lab.db().await;
    until("its instances' end", async || {
        let mut tx = db.begin().await.unwrap();
        let living = store::instance::all::instances(&mut tx).await.unwrap();
        living.iter().all(|i| i.ended.is_some()).then_some(())
    })
    .await;
    // Its logs go when nobody can say more.
    assert_eq!(tokio::time::timeout(crate::lab::DEADLINE, told.recv()).await.unwrap(), Some(app.0));
    stop.cancel();
    serving.await.unwrap().unwrap();
    coordinator.stop().await;
}

#[tokio::test]
async fn a_canceled_build_ends_and_once_more_it_is_built() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, _balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    let build = runner.lock().build.take();
    lab.push(app, 1, None).await;
    reaches(&lab, &shop, 1, DeployState::Building).await;
    lab.commands.deploy_cancel(&lab.actor, &shop, 1).await.unwrap();
    until("no build", async || runner.lock().assignments.as_ref().is_some_and(|a| a.builds.is_empty()).then_some(()))
        .await;
    assert_eq!(lab.deploy(&shop, 1).await.row.state, DeployState::Canceled);
    runner.lock().build = build;
    assert_eq!(lab.commands.deploy_again(&lab.actor, &shop, 1).await.unwrap(), 2);
    reaches(&lab, &shop, 2, DeployState::Live).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn as_many_run_as_are_wanted_also_in_the_next_release() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    lab.push(app, 1, None).await;
    reaches(&lab, &shop, 1, DeployState::Live).await;
    lab.move_branches().await;
    let count = |n: u16| Scale { counts: BTreeMap::from([("web".parse().unwrap(), n)]), ..Scale::default() };
    lab.commands.app_scale(&lab.actor, &shop, &count(3)).await.unwrap();
    until("three", async || (balancer.routed(app).len() == 3).then_some(())).await;
    lab.push(app, 2, Some(1)).await;
    reaches(&lab, &shop, 2, DeployState::Live).await;
    assert_eq!(balancer.routed(app).len(), 3);
    lab.move_branches().await;
    lab.commands.app_scale(&lab.actor, &shop, &count(1)).await.unwrap();
    until("one", async || (balancer.routed(app).len() == 1).then_some(())).await;
    let error = lab.commands.app_scale(&lab.actor, &shop, &count(5)).await.unwrap_err();
    let said = "It would use 2560 MiB of memory, and with your other apps 2560 MiB; your limit is 2048 MiB.";
    assert!(error.message().starts_with(said), "{error}");

    // Another size is a deploy, with the same image; what would be too much is refused.
    let size = |bytes: u64| Scale { memory: BTreeMap::from([("web".parse().unwrap(), bytes)]), ..Scale::default() };
    assert_eq!(lab.commands.app_scale(&lab.actor, &shop, &size(512 << 20)).await.unwrap(), None, "it has that");
    assert_eq!(lab.commands.app_scale(&lab.actor, &shop, &size(1 << 30)).await.unwrap(), Some(3));
    let view = reaches(&lab, &shop, 3, DeployState::Live).await;
    assert_eq!((view.row.cause, view.row.origin), (domain::Cause::Resize, Some(2)));
    let processes = lab.view(&shop).await.processes;
    assert_eq!((processes[0].count, processes[0].memory_bytes), (1, 1 << 30));
    for wrong in [size(4 << 30), size(300 << 20)] {
        let error = lab.commands.app_scale(&lab.actor, &shop, &wrong).await.unwrap_err();
        assert!(matches!(&error, CommandError::Scale { process: Some(p), .. } if p.is_web()), "{error}");
    }
    // A second app that asks for more than is left is told so when it is deployed.
    let (cart, other) = lab.app("cart").await;
    let web = domain::wire::ProcessSettings { memory_bytes: Some(1 << 30), count: Some(2), ..Default::default() };
    let mut big = manifest(&["web"]);
    big.settings.processes.insert("web".parse().unwrap(), web);
    runner.lock().build = Some(Ok(big));
    lab.push(other, 1, None).await;
    let view = reaches(&lab, &cart, 1, DeployState::Failed).await;
    let reason = view.row.reason.unwrap();
    assert!(reason.message.contains("2048 MiB of memory, and with your other apps 3072 MiB"), "{reason}");
    coordinator.stop().await;
}
