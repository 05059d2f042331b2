//! Deploys from a push to serving, or to the reason why not.

use std::time::Duration;

use crate::lab::{Balancer, Lab, Runner, commit, manifest, until};
use commands::TrafficView;
use domain::wire::{Counts, OpenRequests, RouteState, SwitchCount};
use domain::{DeployId, DeployState, InstanceState, Outcome, Reason, ReleaseNumber, Step, Wanted};

async fn live(lab: &Lab, app: &domain::AppName, number: i64) -> commands::DeployView {
    until(&format!("deploy {number} live"), async || {
        let view = lab.deploy(app, number).await;
        assert_ne!(view.row.state, DeployState::Failed, "{:?}", view.row.reason);
        (view.row.state == DeployState::Live).then_some(view)
    })
    .await
}

#[tokio::test]
async fn a_push_is_built_started_switched_on_and_the_release_before_is_drained() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    until("an empty route", async || {
        let table = balancer.lock();
        table.routes.as_ref()?.apps.iter().find(|a| a.app == app && a.state == RouteState::Empty).map(|_| ())
    })
    .await;

    assert_eq!(lab.push(app, 1, None).await, 1);
    let view = live(&lab, &shop, 1).await;
    assert!(view.row.serves);
    assert_eq!(view.serving, Some(ReleaseNumber(1)));
    let first = balancer.routed(app);
    assert_eq!(first.len(), 1, "live means that the balancer routes to it");
    // The branch waits for the receiver; what it says ends the step.
    let moves = lab.commands.branch_moves().await.unwrap();
    assert_eq!((moves.len(), &moves[0].branch, &moves[0].commit), (1, &"main".to_owned(), &commit(1)));
    assert_eq!(lab.commands.branch_moves().await.unwrap(), moves, "it stays with who took it");
    assert!(!lab.commands.branch_moved(moves[0].deploy, moves[0].attempt + 1, Ok(())).await.unwrap());
    assert!(lab.commands.branch_moved(moves[0].deploy, moves[0].attempt, Ok(())).await.unwrap());
    assert!(lab.commands.branch_moves().await.unwrap().is_empty());

    // The second: as long as a request is open on the old instance, it runs.
    balancer.lock().open = vec![OpenRequests { id: first[0], requests: 1 }];
    assert_eq!(lab.push(app, 2, Some(1)).await, 2);
    live(&lab, &shop, 2).await;
    let second = balancer.routed(app);
    assert!(second.len() == 1 && second != first);
    until("the old instance drains", async || {
        let instances = lab.view(&shop).await.instances;
        instances.iter().any(|i| i.id == first[0] && i.draining).then_some(())
    })
    .await;
    let wanted =
        runner.lock().assignments.as_ref().unwrap().instances.iter().find(|i| i.id == first[0]).map(|i| i.wanted);
    assert_ne!(wanted, Some(Wanted::Stop));
    // What failed meanwhile, told twice, out of order, of two lives, and of a deploy that is none of the app's.
    let deploy = lab.deploy(&shop, 2).await.id;
    let counted = |life: &str, deploy: DeployId, from: [u64; 3], to: [u64; 3]| {
        let counts = |[requests, unanswered, errors]: [u64; 3]| Counts { requests, unanswered, errors };
        SwitchCount { deploy, app, life: life.parse().unwrap(), from: counts(from), to: counts(to) }
    };
    let (early, late) =
        (counted("a", deploy, [100, 5, 1], [120, 5, 1]), counted("a", deploy, [110, 5, 1], [150, 6, 3]));
    let other = counted("b", deploy, [7, 0, 0], [17, 0, 0]);
    let strange = counted("a", lab.deploy(&shop, 1).await.id, [0, 0, 0], [9, 9, 9]);
    balancer.count(vec![early.clone(), strange]).await;
    balancer.count(vec![late.clone(), other]).await;
    balancer.count(vec![early]).await;
    balancer.lock().open.clear();
    let steps = until("all steps ended", async || {
        lab.move_branches().await;
        let steps = lab.deploy(&shop, 2).await.row.steps;
        (steps.len() == 5 && steps.iter().all(|s| s.ended.is_some())).then_some(steps)
    })
    .await;
    assert_eq!(
        steps.iter().map(|s| (s.step, s.outcome)).collect::<Vec<_>>(),
        [Step::Build, Step::Start, Step::Switch, Step::Branch, Step::Drain].map(|s| (s, Some(Outcome::Done)))
    );
    // The last word was said: what comes now is no part of it.
    balancer.count(vec![counted("a", deploy, [100, 5, 1], [999, 9, 9])]).await;
    let traffic = TrafficView { requests: 60, unanswered: 1, errors: 2 };
    assert_eq!(lab.deploy(&shop, 2).await.row.traffic, Some(traffic));
    assert_eq!(lab.deploy(&shop, 1).await.row.traffic, None);
    let app_view = lab.view(&shop).await;
    assert_eq!(app_view.instances.iter().map(|i| i.id).collect::<Vec<_>>(), second);
    assert_eq!(app_view.summary, "v2 serves");

    // What a runner is told of an instance.
    let spec = runner.lock().assignments.as_ref().unwrap().instances[0].clone();
    assert_eq!((spec.command.as_str(), spec.port), ("run web", Some(8000)));
    assert_eq!(spec.env["PATH"], "/usr/bin");
    assert_eq!((spec.env["BERTH_APP"].as_str(), spec.env["BERTH_RELEASE"].as_str()), ("shop", "2"));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_failed_build_says_why_and_the_old_release_goes_on() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    lab.push(app, 1, None).await;
    live(&lab, &shop, 1).await;
    lab.move_branches().await;
    let serving = balancer.routed(app);

    runner.lock().build = Some(Err(Reason::new("pip could not find flask==99").hint("see requirements.txt")));
    lab.push(app, 2, Some(1)).await;
    let failed = until("a failed deploy", async || {
        let view = lab.deploy(&shop, 2).await;
        (view.row.state == DeployState::Failed).then_some(view)
    })
    .await;
    assert_eq!(failed.row.reason, Some(Reason::new("pip could not find flask==99").hint("see requirements.txt")));
    assert_eq!(failed.serving, Some(ReleaseNumber(1)));
    assert!(failed.row.steps.iter().all(|s| s.outcome == Some(Outcome::Failed)));
    assert_eq!(balancer.routed(app), serving);
    assert_eq!(lab.view(&shop).await.summary, "v1 serves; deploy 2 failed: pip could not find flask==99");
    assert!(lab.commands.branch_moves().await.unwrap().is_empty(), "its branch does not move");

    // The same commit can be pushed again.
    runner.lock().build = Some(Ok(manifest(&["web", "worker"])));
    lab.push(app, 2, Some(1)).await;
    live(&lab, &shop, 3).await;
    let instances = lab.view(&shop).await.instances;
    let new: Vec<&str> =
        instances.iter().filter(|i| i.release == ReleaseNumber(3)).map(|i| i.process.as_str()).collect();
    assert_eq!(new, ["web", "worker"]);
    // And a build that found nothing to run is no release.
    lab.move_branches().await;
    runner.lock().build = Some(Ok(manifest(&["release"])));
    lab.push(app, 3, Some(2)).await;
    until("a failed deploy", async || {
        let reason = lab.deploy(&shop, 4).await.row.reason?;
        assert_eq!(reason.message, "the build found nothing to run");
        Some(())
    })
    .await;
    coordinator.stop().await;
}

#[tokio::test]
async fn an_instance_that_does_not_start_fails_the_deploy_with_its_words_and_is_ended() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    lab.push(app, 1, None).await;
    live(&lab, &shop, 1).await;
    lab.move_branches().await;
    let serving = balancer.routed(app);

    let words = Reason::new("web listens only on 127.0.0.1").hint("bind to 0.0.0.0:$PORT");
    runner.lock().broken = Some((2, words.clone()));
    lab.push(app, 2, Some(1)).await;
    let failed = until("a failed deploy", async || {
        let view = lab.deploy(&shop, 2).await;
        (view.row.state == DeployState::Failed).then_some(view)
    })
    .await;
    assert_eq!(failed.row.reason, Some(words));
    until("only the old instance is left", async || {
        let ids: Vec<_> = lab.view(&shop).await.instances.iter().map(|i| i.id).collect();
        (ids == serving).then_some(())
    })
    .await;
    assert_eq!(balancer.routed(app), serving);
    coordinator.stop().await;
}

#[tokio::test]
async fn two_pushes_to_one_app_queue_and_the_second_learns_that_the_branch_moved() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, _balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    runner.lock().build = None;
    lab.push(app, 1, None).await;
    lab.push(app, 2, None).await;
    until("the first builds", async || (lab.deploy(&shop, 1).await.row.state == DeployState::Building).then_some(()))
        .await;
    assert_eq!(lab.deploy(&shop, 2).await.row.state, DeployState::Queued);
    runner.lock().build = Some(Ok(manifest(&["web"])));
    live(&lab, &shop, 1).await;
    assert_eq!(lab.deploy(&shop, 2).await.row.state, DeployState::Queued, "until the branch of the first is moved");
    lab.move_branches().await;
    let refused = until("the second ends", async || {
        let view = lab.deploy(&shop, 2).await;
        view.row.state.is_final().then_some(view)
    })
    .await;
    assert_eq!(refused.row.state, DeployState::Failed);
    let reason = refused.row.reason.unwrap();
    assert_eq!(reason.message, "deploy 1 moved main to 0000000000 meanwhile");
    // After a failed one, the next goes on.
    lab.push(app, 3, Some(1)).await;
    live(&lab, &shop, 3).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_deploy_goes_on_where_it_was_when_the_coordinator_is_killed_at_any_step() {
    let lab = Lab::new().await;
    let (shop, app) = lab.app("shop").await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    runner.lock().build = None;
    lab.push(app, 1, None).await;
    until("building", async || (lab.deploy(&shop, 1).await.row.state == DeployState::Building).then_some(())).await;
    drop((runner, balancer));
    coordinator.kill();

    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    runner.lock().slow = true;
    until("starting", async || {
        let view = lab.view(&shop).await;
        let starting = view.instances.iter().any(|i| i.state == InstanceState::Starting);
        (lab.deploy(&shop, 1).await.row.state == DeployState::Starting && starting).then_some(())
    })
    .await;
    let placed = lab.view(&shop).await.instances[0].id;
    drop((runner, balancer));
    coordinator.kill();

    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    live(&lab, &shop, 1).await;
    assert_eq!(balancer.routed(app), [placed], "it is the same instance");
    assert_eq!(lab.deploy(&shop, 1).await.row.steps[0].attempt, 1);
    drop((runner, balancer));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_switch_waits_for_the_balancer_and_old_instances_stay_meanwhile() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (_runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    lab.push(app, 1, None).await;
    live(&lab, &shop, 1).await;
    lab.move_branches().await;
    let old = balancer.routed(app);
    // It goes on to report the old table.
    balancer.lock().stuck = true;
    lab.push(app, 2, Some(1)).await;
    until("switching", async || (lab.deploy(&shop, 2).await.row.state == DeployState::Switching).then_some(())).await;
    // Whatever is looked at meanwhile, the old instance is what it was.
    let watched = std::time::Instant::now();
    while watched.elapsed() < Duration::from_secs(3) {
        let instances = lab.view(&shop).await.instances;
        let one = instances.iter().find(|i| i.id == old[0]).unwrap();
        assert!(one.state == InstanceState::Healthy && !one.draining);
        assert_eq!(lab.deploy(&shop, 2).await.row.state, DeployState::Switching);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    balancer.lock().stuck = false;
    live(&lab, &shop, 2).await;
    assert_ne!(balancer.routed(app), old);
    coordinator.stop().await;
}

#[tokio::test]
async fn the_release_process_runs_once_before_the_switch_and_its_failure_keeps_what_serves() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    runner.lock().build = Some(Ok(manifest(&["web", "release"])));
    lab.push(app, 1, None).await;
    let view = live(&lab, &shop, 1).await;
    lab.move_branches().await;
    let steps: Vec<_> = view.row.steps.iter().map(|s| (s.step, s.outcome)).collect();
    assert_eq!(steps[..3], [Step::Build, Step::Release, Step::Start].map(|s| (s, Some(Outcome::Done))));
    assert_eq!(lab.view(&shop).await.processes.len(), 1, "it is no part of what runs");
    let serving = balancer.routed(app);

    runner.lock().broken = Some((2, Reason::new("`release` ended with code 3")));
    lab.push(app, 2, Some(1)).await;
    let failed = until("a failed deploy", async || {
        let view = lab.deploy(&shop, 2).await;
        (view.row.state == DeployState::Failed).then_some(view)
    })
    .await;
    assert_eq!(failed.row.reason, Some(Reason::new("`release` ended with code 3")));
    assert!(failed.row.steps.iter().all(|s| s.step != Step::Start), "nothing else of it was started");
    assert_eq!((failed.serving, balancer.routed(app)), (Some(ReleaseNumber(1)), serving));

    // While it runs, it can be canceled; a restart runs none.
    runner.lock().broken = None;
    runner.lock().slow = true;
    assert_eq!(lab.commands.deploy_again(&lab.actor, &shop, 2).await.unwrap(), 3);
    let releasing = async || {
        let assigned = runner.lock().assignments.clone()?;
        assigned.instances.into_iter().find(|i| i.once.is_some() && i.wanted == Wanted::Run)
    };
    let spec = until("a process that runs once", releasing).await;
    assert_eq!((spec.command.as_str(), spec.port, spec.once.unwrap().time_ms), ("run release", None, 600_000));
    lab.commands.deploy_cancel(&lab.actor, &shop, 3).await.unwrap();
    until("it is stopped", async || releasing().await.is_none().then_some(())).await;
    runner.lock().slow = false;
    let number = lab.commands.app_restart(&lab.actor, &shop).await.unwrap();
    assert!(live(&lab, &shop, number).await.row.steps.iter().all(|s| s.step != Step::Release));
    coordinator.stop().await;
}
