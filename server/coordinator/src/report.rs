//! What a runner says: states of instances, ends of builds, readings. What is news becomes rows, in one
//! transaction under the leader's epoch; only then is the report answered, so a lost answer costs nothing.

use std::collections::BTreeMap;

use domain::wire::{BuildReport, BuildState, Committed, InstanceReport, Manifest, RunnerReport};
use domain::{DeployState, ImageHash, Outcome, Reason, ReleaseNumber, ServerId, Step, Time};
use store::{StoreError, Tx, deploy, instance, leader, server};

use crate::known::ServerFacts;
use crate::readings::{self, Source};
use crate::{Shared, clock};

pub async fn take(
    shared: &Shared,
    epoch: i64,
    server: ServerId,
    report: &RunnerReport,
) -> Result<Committed, StoreError> {
    let clock_now = clock::boottime();
    let facts = ServerFacts::of(report);
    let (server_is_news, news) = {
        let mut known = shared.known();
        known.heard_addresses(report);
        known.heard_disk(server, report.disk.as_ref(), clock_now);
        (known.server_is_news(server, &facts, clock_now), known.news(server, report, clock_now))
    };
    let builds: Vec<&BuildReport> = report.builds.iter().filter(|b| b.state != BuildState::Running).collect();
    // What the rows say of instances is older than what runs: they are left as they are.
    let is_older = shared.truth().ahead().is_some();
    if !is_older && (server_is_news || !news.is_empty() || !builds.is_empty()) {
        let mut tx = shared.db.begin().await?;
        leader::check(&mut tx, epoch).await?;
        if server_is_news {
            let cores = i32::try_from(report.cores).unwrap_or(i32::MAX);
            let memory_bytes = i64::try_from(report.memory_bytes).unwrap_or(i64::MAX);
            let used = i64::try_from(report.memory_used_bytes).unwrap_or(i64::MAX);
            server::saw(&mut **tx, server, &report.boot_id, cores, memory_bytes, used).await?;
            if let Some(disk) = &report.disk {
                server::saw_disk(&mut **tx, server, &disk.space).await?;
            }
        }
        for InstanceReport { id, state, reason, restarts, .. } in &news {
            let restarts = i32::try_from(*restarts).unwrap_or(i32::MAX);
            instance::all::report(&mut tx, server, *id, *state, reason.as_ref(), restarts).await?;
        }
        for build in builds {
            ended(&mut tx, epoch, server, build).await?;
        }
        tx.commit().await?;
        shared.known().written(server, report, clock_now);
        shared.wake.notify_one();
    }
    readings::take(shared, Source::Runner(server), &report.readings, Time::from(std::time::SystemTime::now())).await
}

/// A build has ended: its deploy goes on, or fails. An older attempt, another server's, or one that is
/// known already changes nothing.
async fn ended(tx: &mut Tx, epoch: i64, server: ServerId, build: &BuildReport) -> Result<(), StoreError> {
    if build.state == BuildState::Running {
        return Ok(());
    }
    store::config::all::hold(tx, build.deploy).await?;
    let Some(facts) = deploy::all::building(tx, build.deploy, server, build.attempt).await? else { return Ok(()) };
    let id = build.deploy;
    let outcome = match &build.state {
        BuildState::Running => return Ok(()),
        BuildState::Failed { reason } => Err(reason.clone()),
        BuildState::Done { image, manifest } => runnable(manifest).map(|formation| (image, manifest, formation)),
    };
    match outcome {
        Ok((image, manifest, formation)) => {
            deploy::all::end_step(tx, id, Step::Build, Some(build.attempt), Outcome::Done, None).await?;
            deploy::all::built(tx, id, image, manifest).await?;
            release(tx, facts.app_id, facts.number, image, formation).await?;
            deploy::all::enter(tx, id, DeployState::Building, DeployState::Starting).await?;
            deploy::all::begin_step(tx, id, Step::Start).await?;
            let what = format!("start deploy {} of {}", facts.number, facts.app_name);
            leader::decided(tx, epoch, Some(facts.app_id), &what, "its image is built").await
        }
        Err(reason) => {
            deploy::all::end_step(tx, id, Step::Build, Some(build.attempt), Outcome::Failed, Some(&reason.message))
                .await?;
            deploy::all::enter(tx, id, DeployState::Building, DeployState::Failed).await?;
            deploy::all::explain(tx, id, &reason.message, reason.hint.as_deref()).await?;
            let what = format!("fail deploy {} of {}", facts.number, facts.app_name);
            leader::decided(tx, epoch, Some(facts.app_id), &what, &reason.to_string()).await
        }
    }
}

type Formation = BTreeMap<domain::ProcessName, plan::Size>;

fn runnable(manifest: &Manifest) -> Result<Formation, Reason> {
    let formation = plan::formation(manifest);
    if formation.is_empty() {
        let reason = Reason::new("the build found nothing to run");
        return Err(reason.hint("add a Procfile with a line such as `web: gunicorn app:app`"));
    }
    Ok(formation)
}

pub(crate) async fn release(
    tx: &mut Tx,
    app: domain::AppId,
    number: i64,
    image: &ImageHash,
    formation: Formation,
) -> Result<(), StoreError> {
    let size =
        |s: plan::Size| deploy::all::Size { count: s.count, memory_bytes: s.memory_bytes, cpu_millis: s.cpu_millis };
    let formation = formation.into_iter().map(|(process, s)| (process, size(s))).collect();
    deploy::all::release(tx, app, ReleaseNumber(number), image, &formation).await
}
