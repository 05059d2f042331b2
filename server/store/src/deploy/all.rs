//! For the coordinator, across owners.

use std::collections::BTreeMap;
use std::net::IpAddr;

use domain::wire::Manifest;
use domain::{
    AppId, AppName, Cause, CommitId, DeployId, DeployState, ImageHash, InstanceId, Outcome, ReleaseNumber, ServerId,
    SourceHash, Step, Time,
};
use sqlx::types::Json;
use sqlx::{query, query_as};

pub use super::traffic::{count, stop_counting, sum_up};
use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct Open {
    pub id: DeployId,
    pub app_id: AppId,
    pub number: i64,
    pub cause: Cause,
    pub state: DeployState,
    pub commit_id: CommitId,
    pub branch: String,
    pub commit_before: Option<CommitId>,
    pub source: SourceHash,
    pub image: Option<ImageHash>,
    pub state_since: Time,
    pub server_id: Option<ServerId>,
    pub build_address: Option<IpAddr>,
}

/// Those that are not final, and those that are and have an open step (`branch`, `drain`).
pub async fn open(tx: &mut Tx) -> Result<Vec<Open>> {
    Ok(query_as!(
        Open,
        "select id, app_id, number, cause, state, commit_id, branch, commit_before, source, image, state_since,
                server_id, build_address
         from deploy
         where id in (select id from deploy where state not in ('live', 'failed', 'canceled')
                      union all select deploy_id from deploy_step where ended is null)
         order by id"
    )
    .fetch_all(&mut ***tx)
    .await?)
}

#[derive(Debug, Clone)]
pub struct OpenStep {
    pub deploy_id: DeployId,
    pub step: Step,
    pub attempt: i32,
    pub started: Time,
    pub claimed: bool,
}

pub async fn open_steps(tx: &mut Tx) -> Result<Vec<OpenStep>> {
    Ok(query_as!(
        OpenStep,
        r#"select deploy_id, step, attempt, started, holder is not null as "claimed!"
           from deploy_step where ended is null"#
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// Takes the step on, for good. False: somebody has, or it has ended.
pub async fn claim_step(tx: &mut Tx, deploy: DeployId, step: Step, holder: &str) -> Result<bool> {
    let done = query!(
        "update deploy_step set holder = $3
         where deploy_id = $1 and step = $2 and holder is null and ended is null",
        deploy.0,
        step.as_str(),
        holder
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Where the deploy branches stand that a queued push wants to move.
#[derive(Debug, Clone)]
pub struct Tip {
    pub app_id: AppId,
    pub branch: String,
    pub number: i64,
    pub commit_id: CommitId,
}

pub async fn tips(tx: &mut Tx) -> Result<Vec<Tip>> {
    Ok(query_as!(
        Tip,
        "select distinct on (d.app_id, d.branch) d.app_id, d.branch, d.number, d.commit_id
         from deploy d join deploy_step s on s.deploy_id = d.id and s.step = 'branch' and s.outcome = 'done'
         where d.app_id in (select app_id from deploy where state = 'queued')
         order by d.app_id, d.branch, d.number desc"
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// False: it is not in `from` any more, and nothing was written.
pub async fn enter(tx: &mut Tx, deploy: DeployId, from: DeployState, to: DeployState) -> Result<bool> {
    let done = query!(
        "update deploy set state = $3, state_since = clock_timestamp(),
                ended = case when $4 then clock_timestamp() end
         where id = $1 and state = $2",
        deploy.0,
        from.as_str(),
        to.as_str(),
        to.is_final()
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn assign_build(tx: &mut Tx, deploy: DeployId, server: ServerId, address: IpAddr) -> Result<()> {
    query!("update deploy set server_id = $2, build_address = $3 where id = $1", deploy.0, server.0, address as IpAddr)
        .execute(&mut ***tx)
        .await?;
    Ok(())
}

pub async fn explain(tx: &mut Tx, deploy: DeployId, reason: &str, hint: Option<&str>) -> Result<()> {
    query!("update deploy set reason = $2, hint = $3 where id = $1", deploy.0, reason, hint)
        .execute(&mut ***tx)
        .await?;
    Ok(())
}

pub async fn begin_step(tx: &mut Tx, deploy: DeployId, step: Step) -> Result<()> {
    query!(
        "insert into deploy_step (deploy_id, step, started) values ($1, $2, clock_timestamp())
         on conflict (deploy_id, step) do nothing",
        deploy.0,
        step.as_str()
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// False: the step has ended, or another attempt is under way.
pub async fn end_step(
    tx: &mut Tx,
    deploy: DeployId,
    step: Step,
    attempt: Option<i32>,
    outcome: Outcome,
    detail: Option<&str>,
) -> Result<bool> {
    let done = query!(
        "update deploy_step set ended = clock_timestamp(), outcome = $4, detail = $5
         where deploy_id = $1 and step = $2 and ended is null and attempt = coalesce($3, attempt)",
        deploy.0,
        step.as_str(),
        attempt,
        outcome.as_str(),
        detail
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends whatever step is open, as failed.
pub async fn fail_steps(tx: &mut Tx, deploy: DeployId) -> Result<()> {
    query!(
        "update deploy_step set ended = clock_timestamp(), outcome = 'failed' where deploy_id = $1 and ended is null",
        deploy.0
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// The step begins anew; what an earlier attempt still says is refused.
pub async fn retry_step(tx: &mut Tx, deploy: DeployId, step: Step, attempt: i32) -> Result<bool> {
    let done = query!(
        "update deploy_step set attempt = attempt + 1, started = clock_timestamp()
         where deploy_id = $1 and step = $2 and attempt = $3 and ended is null",
        deploy.0,
        step.as_str(),
        attempt
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn built(tx: &mut Tx, deploy: DeployId, image: &ImageHash, manifest: &Manifest) -> Result<()> {
    query!(
        "insert into image (hash, bytes, manifest) values ($1, $2, $3) on conflict (hash) do nothing",
        image.as_str(),
        i64::try_from(manifest.bytes).unwrap_or(i64::MAX),
        Json(manifest) as _
    )
    .execute(&mut ***tx)
    .await?;
    query!("update deploy set image = $2 where id = $1", deploy.0, image.as_str()).execute(&mut ***tx).await?;
    Ok(())
}

/// The image that a deploy was given when it was asked for, or built, and what is in it.
pub async fn image(tx: &mut Tx, deploy: DeployId) -> Result<Option<(ImageHash, Manifest)>> {
    let row = query!(
        r#"select i.hash as "hash: ImageHash", i.manifest as "manifest: Json<Manifest>"
           from deploy d join image i on i.hash = d.image where d.id = $1"#,
        deploy.0
    )
    .fetch_optional(&mut ***tx)
    .await?;
    Ok(row.map(|row| (row.hash, row.manifest.0)))
}

/// How many of a process type, and how big.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Size {
    pub count: u16,
    pub memory_bytes: u64,
    pub cpu_millis: u32,
}

pub type Formation = BTreeMap<domain::ProcessName, Size>;

#[derive(Debug, Clone)]
pub struct Release {
    pub app_id: AppId,
    pub number: ReleaseNumber,
    pub image: ImageHash,
    pub formation: Json<Formation>,
    pub manifest: Json<Manifest>,
    pub config_version: i64,
}

/// Those that serve, are being switched on, have living instances, and the one before (a rollback's target).
pub async fn releases(tx: &mut Tx) -> Result<Vec<Release>> {
    Ok(query_as!(
        Release,
        r#"select kept.app_id as "app_id!: AppId", kept.number as "number!: ReleaseNumber", made.image,
                  made.formation as "formation: Json<Formation>", made.manifest as "manifest: Json<Manifest>",
                  made.config_version
           from (select a.id, mine.number
                 from app a cross join lateral (
                     select number from release where app_id = a.id and number >= coalesce(
                         (select max(number) from release where app_id = a.id and number < a.release_number),
                         a.release_number, 0)) mine
                 where a.state <> 'deleted'
                 union select app_id, release_number from instance where ended is null) kept (app_id, number)
           -- `offset 0`: each is looked up, however many there may seem to be.
           cross join lateral (
               select r.image, r.formation, r.config_version, i.manifest
               from release r join image i on i.hash = r.image
               where r.app_id = kept.app_id and r.number = kept.number offset 0) made
           order by kept.app_id, kept.number"#
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// With the app's config of this moment.
pub async fn release(
    tx: &mut Tx,
    app: AppId,
    number: ReleaseNumber,
    image: &ImageHash,
    formation: &Formation,
) -> Result<()> {
    query!(
        "insert into release (app_id, number, image, formation, config_version)
         select id, $2, $3, $4, config_version from app where id = $1
         on conflict (app_id, number) do nothing",
        app.0,
        number.0,
        image.as_str(),
        Json(formation) as _
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// From here on `release` is what `app` serves.
pub async fn serve(tx: &mut Tx, app: AppId, release: ReleaseNumber) -> Result<()> {
    query!("update app set release_number = $2 where id = $1", app.0, release.0).execute(&mut ***tx).await?;
    Ok(())
}

#[derive(Debug, Clone)]
pub struct Building {
    pub app_id: AppId,
    pub app_name: AppName,
    pub number: i64,
    pub cause: Cause,
}

#[derive(Debug, Clone)]
pub struct Releasing {
    pub deploy: DeployId,
    pub app_id: AppId,
    pub app_name: AppName,
    pub number: i64,
}

/// The deploy that waits for this instance of its process `release`.
pub async fn releasing(tx: &mut Tx, instance: InstanceId) -> Result<Option<Releasing>> {
    Ok(query_as!(
        Releasing,
        "select d.id as deploy, d.app_id, a.name as app_name, d.number
         from instance i join deploy d on d.app_id = i.app_id and d.number = i.release_number
         join app a on a.id = d.app_id
         join deploy_step s on s.deploy_id = d.id and s.step = 'release' and s.ended is null
         where i.id = $1 and i.process = 'release' and d.state = 'releasing'
         for update of d",
        instance.0
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

/// Of this build, if this attempt of it is under way on this server.
pub async fn building(tx: &mut Tx, deploy: DeployId, server: ServerId, attempt: i32) -> Result<Option<Building>> {
    Ok(query_as!(
        Building,
        "select d.app_id, a.name as app_name, d.number, d.cause
         from deploy d join app a on a.id = d.app_id
         join deploy_step s on s.deploy_id = d.id and s.step = 'build' and s.ended is null
         where d.id = $1 and d.state = 'building' and d.server_id = $2 and s.attempt = $3
         for update of d",
        deploy.0,
        server.0,
        attempt
    )
    .fetch_optional(&mut ***tx)
    .await?)
}
