//! Config vars, from the command to what an instance is started with.

use commands::{Shown, VarSet};
use domain::{AppName, Cause, DeployState, Secret};

use crate::lab::{Balancer, Lab, Runner, until};
use crate::verbs::reaches;

/// What the latest instance that should run was given.
fn given(runner: &Runner) -> Vec<(String, String)> {
    let orders = runner.lock();
    let newest = orders.assignments.iter().flat_map(|a| &a.instances).max_by_key(|i| i.release);
    let vars = newest.map(|i| i.config.clone()).unwrap_or_default();
    vars.into_iter().map(|(name, value)| (name, value.expose().clone())).collect()
}

async fn set(lab: &Lab, app: &AppName, name: &str, value: &str) -> Option<i64> {
    let var = VarSet { name: name.into(), value: Secret::new(value.into()), shown: Shown::Secret };
    lab.commands.config_set(&lab.actor, app, &[var]).await.unwrap()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_change_is_rolled_out_like_a_deploy_and_a_roll_back_takes_it_back() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (runner, _balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    let (shop, app) = lab.app("shop").await;
    assert_eq!(set(&lab, &shop, "KEY", "one").await, None, "nothing serves yet");
    lab.push(app, 1, None).await;
    reaches(&lab, &shop, 1, DeployState::Live).await;
    assert_eq!(given(&runner), pairs(&[("KEY", "one")]));
    lab.move_branches().await;

    assert_eq!(set(&lab, &shop, "KEY", "two").await, Some(2));
    let changed = reaches(&lab, &shop, 2, DeployState::Live).await;
    assert_eq!((changed.row.cause, changed.row.commit), (Cause::Config, crate::lab::commit(1)));
    assert_eq!(given(&runner), pairs(&[("KEY", "two")]));

    // Changed while a push is under way: what the push brought stays, with the change.
    runner.lock().slow = true;
    lab.push(app, 2, Some(1)).await;
    reaches(&lab, &shop, 3, DeployState::Starting).await;
    assert_eq!(set(&lab, &shop, "OTHER", "x").await, Some(4));
    assert_eq!(set(&lab, &shop, "KEY", "three").await, Some(4), "a change that waits takes another one with it");
    runner.lock().slow = false;
    reaches(&lab, &shop, 3, DeployState::Live).await;
    lab.move_branches().await;
    let both = reaches(&lab, &shop, 4, DeployState::Live).await;
    assert_eq!((both.row.commit, both.row.origin), (crate::lab::commit(2), Some(3)));
    assert_eq!(given(&runner), pairs(&[("KEY", "three"), ("OTHER", "x")]));

    lab.commands.deploy_roll_back(&lab.actor, &shop, 1).await.unwrap();
    reaches(&lab, &shop, 5, DeployState::Live).await;
    assert_eq!(given(&runner), pairs(&[("KEY", "one")]));
    let config = lab.commands.config(&lab.actor, &shop).await.unwrap();
    assert_eq!((config.vars.len(), config.stale), (1, false), "the app's config is the old one again");

    // Changed while it is stopped: there when it starts.
    lab.commands.app_stop(&lab.actor, &shop).await.unwrap();
    assert_eq!(set(&lab, &shop, "KEY", "four").await, None);
    lab.commands.app_start(&lab.actor, &shop).await.unwrap();
    reaches(&lab, &shop, 6, DeployState::Live).await;
    assert_eq!(given(&runner), pairs(&[("KEY", "four")]));
    coordinator.stop().await;
}

#[tokio::test]
async fn what_cannot_be_opened_fails_its_deploy_and_what_runs_goes_on() {
    let lab = Lab::new().await;
    let coordinator = lab.coordinator("s1");
    let (shop, app) = lab.app("shop").await;
    set(&lab, &shop, "KEY", "one").await;
    let (_runner, _balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    lab.push(app, 1, None).await;
    reaches(&lab, &shop, 1, DeployState::Live).await;
    lab.move_branches().await;
    coordinator.stop().await;

    let coordinator = lab.coordinator_with("s1", |config| config.seal_key = seal::PrivateKey::new());
    let (runner, balancer) = (Runner::start(&coordinator), Balancer::start(&coordinator));
    until("the route", async || (!balancer.routed(app).is_empty()).then_some(())).await;
    let before = balancer.routed(app);
    let number = lab.commands.app_restart(&lab.actor, &shop).await.unwrap();
    let failed = reaches(&lab, &shop, number, DeployState::Failed).await;
    let reason = failed.row.reason.unwrap();
    assert!(reason.message.contains("cannot read KEY"), "{reason}");
    // This runner began anew: the instance is healthy once more in a moment.
    until("what ran to be as it was", async || (balancer.routed(app) == before).then_some(())).await;
    let locked = runner.lock().assignments.iter().flat_map(|a| &a.instances).all(|i| i.locked.is_some());
    assert!(locked, "an instance without its config may be started");
    coordinator.stop().await;
}
