//! Actions to rows: one transaction, the epoch checked and held, each action only if what it was decided
//! on still holds. What does not hold any more is dropped: the next look decides again.

use std::net::IpAddr;

use domain::{Cause, DeployId, DeployState, Outcome, Reason, ReleaseNumber, ServerId, Step, Wanted};
use plan::{Act, Action, Fleet, Slot};
use store::{Db, StoreError, Tx, config, deploy, instance, leader};

use crate::report;

/// How many of `actions` were applied.
pub async fn apply(db: &Db, epoch: i64, fleet: &Fleet, actions: &[Action]) -> Result<usize, StoreError> {
    let mut tx = db.begin().await?;
    leader::check(&mut tx, epoch).await?;
    let mut addresses = plan::addresses(fleet);
    let mut applied = 0;
    for action in actions {
        if !one(&mut tx, fleet, action, &mut addresses).await? {
            tracing::debug!(what = %action, "dropped: what it was decided on has changed");
            continue;
        }
        applied += 1;
        if !action.what.is_empty() {
            tracing::info!(app.id = action.app.map(|a| a.0), reason = action.reason, "{action}: {}", action.reason);
            leader::decided(&mut tx, epoch, action.app, &action.what, &action.reason).await?;
        }
    }
    tx.commit().await?;
    Ok(applied)
}

async fn one(
    tx: &mut Tx,
    fleet: &Fleet,
    action: &Action,
    addresses: &mut impl Iterator<Item = std::net::Ipv4Addr>,
) -> Result<bool, StoreError> {
    let mut address = || {
        let free = addresses.next();
        if free.is_none() {
            tracing::error!("no address is free in the instances' subnet");
        }
        free.map(IpAddr::V4)
    };
    match &action.act {
        Act::Start { slot, server, memory_bytes } => {
            let Some(address) = address() else { return Ok(false) };
            instance::all::place(tx, new(slot, *server, address, *memory_bytes)).await?;
            Ok(true)
        }
        Act::Drain { instance } => instance::all::want(tx, *instance, Wanted::Run, Wanted::Drain).await,
        Act::Stop { instance, from } => instance::all::want(tx, *instance, *from, Wanted::Stop).await,
        Act::FreeAddress { instance } => {
            instance::all::free_address(tx, *instance).await?;
            Ok(true)
        }
        Act::Build { deploy, server } => {
            let Some(address) = address() else { return Ok(false) };
            if !deploy::all::enter(tx, *deploy, DeployState::Queued, DeployState::Building).await? {
                return Ok(false);
            }
            deploy::all::assign_build(tx, *deploy, *server, address).await?;
            deploy::all::begin_step(tx, *deploy, Step::Build).await?;
            Ok(true)
        }
        Act::Begin { deploy } => {
            let Some(known) = fleet.deploys.iter().find(|d| d.id == *deploy) else { return Ok(false) };
            config::all::hold(tx, *deploy).await?;
            if known.cause == Cause::Config {
                config::all::take_serving(tx, *deploy).await?;
            }
            let Some((image, manifest)) = deploy::all::image(tx, *deploy).await? else { return Ok(false) };
            let formation = match report::formation(tx, known.app, &manifest).await? {
                Ok(formation) => formation,
                Err(reason) => return fail(tx, *deploy, DeployState::Queued, &reason).await,
            };
            if !report::go_on(tx, *deploy, DeployState::Queued, known.cause, &manifest).await? {
                return Ok(false);
            }
            report::release(tx, known.app, known.number, &image, formation).await?;
            Ok(true)
        }
        Act::Release { deploy, slot, server, memory_bytes } => {
            let Some(address) = address() else { return Ok(false) };
            if !deploy::all::claim_step(tx, *deploy, Step::Release, "its instance").await? {
                return Ok(false);
            }
            instance::all::place(tx, new(slot, *server, address, *memory_bytes)).await?;
            Ok(true)
        }
        Act::BuildAgain { deploy, attempt, server } => {
            let Some(address) = address() else { return Ok(false) };
            if !deploy::all::retry_step(tx, *deploy, Step::Build, *attempt).await? {
                return Ok(false);
            }
            deploy::all::assign_build(tx, *deploy, *server, address).await?;
            Ok(true)
        }
        Act::Switch { deploy } => {
            let Some(known) = fleet.deploys.iter().find(|d| d.id == *deploy) else { return Ok(false) };
            if !deploy::all::enter(tx, *deploy, DeployState::Starting, DeployState::Switching).await? {
                return Ok(false);
            }
            deploy::all::end_step(tx, *deploy, Step::Start, None, Outcome::Done, None).await?;
            deploy::all::begin_step(tx, *deploy, Step::Switch).await?;
            deploy::all::serve(tx, known.app, ReleaseNumber(known.number)).await?;
            Ok(true)
        }
        Act::Live { deploy, detail } => {
            let Some(known) = fleet.deploys.iter().find(|d| d.id == *deploy) else { return Ok(false) };
            if !deploy::all::enter(tx, *deploy, DeployState::Switching, DeployState::Live).await? {
                return Ok(false);
            }
            deploy::all::end_step(tx, *deploy, Step::Switch, None, Outcome::Done, detail.as_deref()).await?;
            deploy::all::sum_up(tx, *deploy).await?;
            if known.cause == Cause::Push {
                deploy::all::begin_step(tx, *deploy, Step::Branch).await?;
            }
            deploy::all::begin_step(tx, *deploy, Step::Drain).await?;
            Ok(true)
        }
        Act::Fail { deploy, reason } => {
            let Some(known) = fleet.deploys.iter().find(|d| d.id == *deploy) else { return Ok(false) };
            fail(tx, *deploy, known.state, reason).await
        }
        Act::EndDrain { deploy } => {
            if !deploy::all::end_step(tx, *deploy, Step::Drain, None, Outcome::Done, None).await? {
                return Ok(false);
            }
            // The report that said that nothing is open any more has counted all that was.
            deploy::all::sum_up(tx, *deploy).await?;
            deploy::all::stop_counting(tx, *deploy).await?;
            Ok(true)
        }
    }
}

/// False: it is not in `from` any more.
async fn fail(tx: &mut Tx, deploy: DeployId, from: DeployState, reason: &Reason) -> Result<bool, StoreError> {
    if !deploy::all::enter(tx, deploy, from, DeployState::Failed).await? {
        return Ok(false);
    }
    deploy::all::fail_steps(tx, deploy).await?;
    deploy::all::stop_counting(tx, deploy).await?;
    deploy::all::explain(tx, deploy, &reason.message, reason.hint.as_deref()).await?;
    Ok(true)
}

fn new(slot: &Slot, server: ServerId, address: IpAddr, memory_bytes: u64) -> instance::all::NewInstance<'_> {
    instance::all::NewInstance {
        app: slot.app,
        release: slot.release,
        process: &slot.process,
        index: slot.index,
        server,
        address,
        memory_bytes,
    }
}
