//! What a runner says: states of instances, ends of builds, readings. What is news becomes rows, in one
//! transaction under the leader's epoch; only then is the report answered, so a lost answer costs nothing.

use std::collections::BTreeMap;

use domain::wire::{BuildReport, BuildState, Committed, InstanceReport, Manifest, RunnerReport};
use domain::{
    AppId, AppState, Cause, DeployId, DeployState, ImageHash, InstanceId, InstanceState, Life, Outcome, Reason,
    ReleaseNumber, SAMPLE_EVERY, ServerId, Step, Time,
};
use store::{StoreError, Tx, app, deploy, instance, leader, reading, server};

use crate::known::{Lately, ServerFacts};
use crate::readings::{self, Source};
use crate::{Shared, clock};

pub async fn take(
    shared: &Shared,
    epoch: i64,
    server: ServerId,
    report: &RunnerReport,
) -> Result<Committed, StoreError> {
    let clock_now = clock::boottime();
    let now = Time::from(std::time::SystemTime::now());
    let facts = ServerFacts::of(report);
    let (server_is_news, news, work, asked) = {
        let mut known = shared.known();
        known.heard_addresses(report);
        known.heard_disk(server, report.disk.as_ref(), clock_now);
        let work = known.work(server, &report.samples, clock_now, now);
        let asked = known.asked(&shared.config.server_name, now);
        (known.server_is_news(server, &facts, clock_now), known.news(server, report, clock_now), work, asked)
    };
    let builds: Vec<&BuildReport> = report.builds.iter().filter(|b| b.state != BuildState::Running).collect();
    // What the rows say of instances is older than what runs: they are left as they are.
    let is_older = shared.truth().ahead().is_some();
    if !is_older && (server_is_news || !news.is_empty() || !builds.is_empty()) {
        let mut tx = shared.db.begin().await?;
        leader::check(&mut tx, epoch).await?;
        if server_is_news {
            server::saw(&mut **tx, server, saw(report, work, asked)).await?;
            if let Some(disk) = &report.disk {
                server::saw_disk(&mut **tx, server, &disk.space).await?;
            }
        }
        for InstanceReport { id, state, reason, restarts, last, .. } in &news {
            let restarts = i32::try_from(*restarts).unwrap_or(i32::MAX);
            let is_news = instance::all::report(&mut tx, server, *id, *state, reason.as_ref(), restarts).await?;
            if is_news && state.is_gone() {
                released(&mut tx, epoch, *id, *state, reason.as_ref()).await?;
            }
            if let Some(last) = last.as_ref().filter(|last| is_of(report, *id, &last.life)) {
                reading::ended(&mut tx, server, *id, last).await?;
            }
        }
        for build in builds {
            ended(&mut tx, epoch, server, build).await?;
        }
        tx.commit().await?;
        shared.known().written(server, report, clock_now);
        shared.wake.notify_one();
    }
    readings::take(shared, Source::Runner(server), &report.readings, &report.samples, now).await
}

fn saw(report: &RunnerReport, work: Option<Lately>, asked: Option<Lately>) -> server::Saw<'_> {
    let big = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let every = SAMPLE_EVERY.as_millis().try_into().unwrap_or(u64::MAX);
    server::Saw {
        boot_id: &report.boot_id,
        cores: i32::try_from(report.cores).unwrap_or(i32::MAX),
        memory_bytes: big(report.memory_bytes),
        memory_used_bytes: big(report.memory_used_bytes),
        cpu_millis: work.map(|work| i32::try_from(work.cpu_micros / every).unwrap_or(i32::MAX)),
        requests: asked.map(|asked| big(asked.requests)),
        unanswered: asked.map(|asked| big(asked.unanswered)),
    }
}

/// Whether it is one of the instance's lives on this server: `<boot id>/<instance>`, and perhaps `/<generation>`.
fn is_of(report: &RunnerReport, id: InstanceId, life: &Life) -> bool {
    let rest = life.as_str().strip_prefix(&format!("{}/{id}", report.boot_id));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A build has ended: its deploy goes on, or fails. An older attempt, another server's, or one that is
/// known already changes nothing.
async fn ended(tx: &mut Tx, epoch: i64, server: ServerId, build: &BuildReport) -> Result<(), StoreError> {
    store::config::all::hold(tx, build.deploy).await?;
    let Some(facts) = deploy::all::building(tx, build.deploy, server, build.attempt).await? else { return Ok(()) };
    let id = build.deploy;
    let outcome = match &build.state {
        BuildState::Running => return Ok(()),
        BuildState::Failed { reason } => Err(reason.clone()),
        BuildState::Done { image, manifest } => {
            formation(tx, facts.app_id, manifest).await?.map(|formation| (image, manifest, formation))
        }
    };
    match outcome {
        Ok((image, manifest, formation)) => {
            deploy::all::end_step(tx, id, Step::Build, Some(build.attempt), Outcome::Done, None).await?;
            deploy::all::built(tx, id, image, manifest).await?;
            release(tx, facts.app_id, facts.number, image, formation).await?;
            go_on(tx, id, DeployState::Building, facts.cause, manifest).await?;
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

/// A deploy that has its image: the process `release`, if it runs one, or else its instances. False: it is
/// not in `from` any more.
pub(crate) async fn go_on(
    tx: &mut Tx,
    deploy: DeployId,
    from: DeployState,
    cause: Cause,
    manifest: &Manifest,
) -> Result<bool, StoreError> {
    let (to, step) = match plan::runs_release(cause, manifest) {
        true => (DeployState::Releasing, Step::Release),
        false => (DeployState::Starting, Step::Start),
    };
    if !deploy::all::enter(tx, deploy, from, to).await? {
        return Ok(false);
    }
    deploy::all::begin_step(tx, deploy, step).await?;
    Ok(true)
}

/// An instance is gone: if a deploy waited for it, it goes on, or fails.
async fn released(
    tx: &mut Tx,
    epoch: i64,
    instance: InstanceId,
    state: InstanceState,
    reason: Option<&Reason>,
) -> Result<(), StoreError> {
    let Some(facts) = deploy::all::releasing(tx, instance).await? else { return Ok(()) };
    let id = facts.deploy;
    let app = Some(facts.app_id);
    if state == InstanceState::Done {
        deploy::all::end_step(tx, id, Step::Release, None, Outcome::Done, None).await?;
        deploy::all::enter(tx, id, DeployState::Releasing, DeployState::Starting).await?;
        deploy::all::begin_step(tx, id, Step::Start).await?;
        let what = format!("start deploy {} of {}", facts.number, facts.app_name);
        return leader::decided(tx, epoch, app, &what, "its process `release` has ended well").await;
    }
    let reason = reason.cloned().unwrap_or_else(|| Reason::new("`release` was stopped before its end"));
    deploy::all::end_step(tx, id, Step::Release, None, Outcome::Failed, Some(&reason.message)).await?;
    deploy::all::enter(tx, id, DeployState::Releasing, DeployState::Failed).await?;
    deploy::all::explain(tx, id, &reason.message, reason.hint.as_deref()).await?;
    let what = format!("fail deploy {} of {}", facts.number, facts.app_name);
    leader::decided(tx, epoch, app, &what, &reason.to_string()).await
}

type Formation = BTreeMap<domain::ProcessName, plan::Size>;

/// What a new release of the app runs, or why it may not.
pub(crate) async fn formation(
    tx: &mut Tx,
    app: AppId,
    manifest: &Manifest,
) -> Result<Result<Formation, Reason>, StoreError> {
    let chosen = app::chosen(&mut ***tx, app).await?;
    let formation = plan::formation(manifest, &chosen.memory.0);
    if formation.is_empty() {
        let reason = Reason::new("the build found nothing to run");
        return Ok(Err(reason.hint("add a Procfile with a line such as `web: gunicorn app:app`")));
    }
    let reserved = app::reserved(&mut ***tx, chosen.customer_id).await?;
    let bytes = |r: &app::Reserved| {
        let sizes = r.formation.0.iter().map(|(process, s)| (process.clone(), size(s))).collect();
        runs(sizes, &r.counts.0)
    };
    let (mine, others): (Vec<_>, Vec<_>) = reserved.iter().partition(|r| r.app_id == app);
    let others = others.into_iter().filter(|r| r.state == AppState::Running).map(bytes).sum();
    let was = mine.into_iter().map(bytes).sum();
    let max = u64::try_from(chosen.memory_bytes_max).unwrap_or(0);
    let over = plan::over_memory(was, runs(formation.clone(), &chosen.counts.0), others, max);
    Ok(over.map_or(Ok(formation), Err))
}

fn runs(mut formation: Formation, counts: &app::Counts) -> u64 {
    plan::scaled(&mut formation, counts);
    plan::memory(&formation)
}

pub(crate) fn size(s: &deploy::all::Size) -> plan::Size {
    plan::Size { count: s.count, memory_bytes: s.memory_bytes, cpu_millis: s.cpu_millis }
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
