//! Deploys, their steps, and what they made: images and releases.

pub mod all;
pub mod page;
mod traffic;

use std::collections::BTreeMap;

use domain::{
    AppId, AppName, BundleHash, Cause, CommitId, CustomerId, DeployId, DeployState, ImageHash, KeyId, Outcome,
    SourceHash, Step, Time, UserId,
};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

/// As a person sees it.
#[derive(Debug, Clone)]
pub struct Deploy {
    pub id: DeployId,
    pub app_id: AppId,
    pub number: i64,
    pub state: DeployState,
    pub commit_id: CommitId,
    pub commit_subject: String,
    pub branch: String,
    /// Who asked, by name.
    pub by: Option<String>,
    pub reason: Option<String>,
    pub hint: Option<String>,
    pub created: Time,
    pub ended: Option<Time>,
    pub cause: Cause,
    /// The deploy whose commit this one runs again.
    pub origin: Option<i64>,
    pub image: Option<ImageHash>,
    /// Its image and source are not kept for it since then.
    pub forgotten: Option<Time>,
    /// Asked of the app while this was switched on; of these, answered by nobody but a balancer; and
    /// answered with an error, or broken off.
    pub requests: Option<i64>,
    pub unanswered: Option<i64>,
    pub errors: Option<i64>,
}

/// The latest deploys of an app whose owner was checked.
pub async fn list(db: impl PgExecutor<'_>, app: AppId, limit: i64) -> Result<Vec<Deploy>> {
    Ok(query_as!(
        Deploy,
        r#"select d.id, d.app_id, d.number, d.state, d.commit_id, d.commit_subject, d.branch, u.name as "by?",
                  d.reason, d.hint, d.created, d.ended, d.cause, d.origin, d.image, d.forgotten,
                  d.requests, d.unanswered, d.errors
           from deploy d left join users u on u.id = d.user_id
           where d.app_id = $1 order by d.number desc limit $2"#,
        app.0,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// Which deploys of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// Those that went live: releases.
    Live,
}

/// Those before number `before` of an app whose owner was checked, the latest first.
pub async fn list_before(
    db: impl PgExecutor<'_>,
    app: AppId,
    which: Which,
    before: i64,
    limit: i64,
) -> Result<Vec<Deploy>> {
    Ok(query_as!(
        Deploy,
        r#"select d.id, d.app_id, d.number, d.state, d.commit_id, d.commit_subject, d.branch, u.name as "by?",
                  d.reason, d.hint, d.created, d.ended, d.cause, d.origin, d.image, d.forgotten,
                  d.requests, d.unanswered, d.errors
           from deploy d left join users u on u.id = d.user_id
           where d.app_id = $1 and d.number < $2 and ($3 or d.state = 'live') order by d.number desc limit $4"#,
        app.0,
        before,
        which == Which::All,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// The latest deploy of each app of `customer`.
pub async fn latest(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Deploy>> {
    Ok(query_as!(
        Deploy,
        r#"select d.id, d.app_id, d.number, d.state, d.commit_id, d.commit_subject, d.branch, u.name as "by?",
                  d.reason, d.hint, d.created, d.ended, d.cause, d.origin, d.image, d.forgotten,
                  d.requests, d.unanswered, d.errors
           from app a
           cross join lateral (select * from deploy where app_id = a.id order by number desc limit 1) d
           left join users u on u.id = d.user_id
           where a.customer_id = $1 and a.state <> 'deleted'"#,
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// Deploy `number` of the app called `name`, if `customer` owns it.
pub async fn get(db: impl PgExecutor<'_>, customer: CustomerId, name: &AppName, number: i64) -> Result<Option<Deploy>> {
    Ok(query_as!(
        Deploy,
        r#"select d.id, d.app_id, d.number, d.state, d.commit_id, d.commit_subject, d.branch, u.name as "by?",
                  d.reason, d.hint, d.created, d.ended, d.cause, d.origin, d.image, d.forgotten,
                  d.requests, d.unanswered, d.errors
           from app a join deploy d on d.app_id = a.id left join users u on u.id = d.user_id
           where a.customer_id = $1 and a.name = $2 and a.state <> 'deleted' and d.number = $3"#,
        customer.0,
        name.as_str(),
        number
    )
    .fetch_optional(db)
    .await?)
}

#[derive(Debug, Clone)]
pub struct DeployStep {
    pub step: Step,
    pub attempt: i32,
    pub started: Time,
    pub ended: Option<Time>,
    pub outcome: Option<Outcome>,
    pub detail: Option<String>,
}

/// The steps of a deploy whose owner was checked, in order.
pub async fn steps(db: impl PgExecutor<'_>, deploy: DeployId) -> Result<Vec<DeployStep>> {
    let mut steps = query_as!(
        DeployStep,
        "select step, attempt, started, ended, outcome, detail from deploy_step where deploy_id = $1",
        deploy.0
    )
    .fetch_all(db)
    .await?;
    steps.sort_by_key(|s| s.step);
    Ok(steps)
}

/// The steps of the latest deploys of an app whose owner was checked, each in order.
pub async fn steps_of_latest(
    db: impl PgExecutor<'_>,
    app: AppId,
    limit: i64,
) -> Result<BTreeMap<DeployId, Vec<DeployStep>>> {
    steps_before(db, app, i64::MAX, limit).await
}

/// Of those that [`list_before`] gives.
pub async fn steps_before(
    db: impl PgExecutor<'_>,
    app: AppId,
    before: i64,
    limit: i64,
) -> Result<BTreeMap<DeployId, Vec<DeployStep>>> {
    let rows = query!(
        "select deploy_id, step, attempt, started, ended, outcome, detail from deploy_step
         where deploy_id in (select id from deploy where app_id = $1 and number < $2 order by number desc limit $3)",
        app.0,
        before,
        limit
    )
    .fetch_all(db)
    .await?;
    let mut steps: BTreeMap<DeployId, Vec<DeployStep>> = BTreeMap::new();
    for row in rows {
        steps.entry(row.deploy_id).or_default().push(DeployStep {
            step: row.step,
            attempt: row.attempt,
            started: row.started,
            ended: row.ended,
            outcome: row.outcome,
            detail: row.detail,
        });
    }
    steps.values_mut().for_each(|of| of.sort_by_key(|s| s.step));
    Ok(steps)
}

#[derive(Debug, Clone)]
pub struct NewDeploy<'a> {
    pub commit: &'a CommitId,
    pub subject: &'a str,
    pub branch: &'a str,
    pub before: Option<&'a CommitId>,
    pub source: &'a SourceHash,
    pub bundle: Option<&'a BundleHash>,
    pub user: UserId,
    /// What they proved it by; one that is gone by now is none.
    pub key: Option<KeyId>,
}

/// Its number; `None`: `customer` has no such app.
pub async fn create(tx: &mut Tx, customer: CustomerId, app: AppId, new: NewDeploy<'_>) -> Result<Option<i64>> {
    let number = query_scalar!(
        r#"update app set deploy_next = deploy_next + 1
           where id = $1 and customer_id = $2 and state <> 'deleted' returning deploy_next - 1 as "number!""#,
        app.0,
        customer.0
    )
    .fetch_optional(&mut ***tx)
    .await?;
    let Some(number) = number else { return Ok(None) };
    query!(
        "insert into deploy (app_id, number, cause, user_id, commit_id, commit_subject, branch, commit_before, source,
                             bundle, key_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, (select id from ssh_key where id = $11))",
        app.0,
        number,
        Cause::Push.as_str(),
        new.user.0,
        new.commit.as_str(),
        new.subject,
        new.branch,
        new.before.map(CommitId::as_str),
        new.source.as_str(),
        new.bundle.map(BundleHash::as_str),
        new.key.map(|key| key.0),
    )
    .execute(&mut ***tx)
    .await?;
    Ok(Some(number))
}

/// Deploys what deploy `origin` of the app deployed, with its image if it has one. Its number.
/// The app's owner was checked; nothing else may be asked of the app until the transaction ends.
pub async fn create_again(tx: &mut Tx, app: AppId, origin: i64, cause: Cause, user: UserId) -> Result<i64> {
    let number = query_scalar!(
        r#"update app set deploy_next = deploy_next + 1 where id = $1 returning deploy_next - 1 as "number!""#,
        app.0
    )
    .fetch_one(&mut ***tx)
    .await?;
    query!(
        "insert into deploy (app_id, number, cause, user_id, commit_id, commit_subject, branch, commit_before, source,
                             image, origin)
         select app_id, $3, $4, $5, commit_id, commit_subject, branch, commit_before, source, image, $2
         from deploy where app_id = $1 and number = $2",
        app.0,
        origin,
        number,
        cause.as_str(),
        user.0
    )
    .execute(&mut ***tx)
    .await?;
    Ok(number)
}

/// Cancels deploy `number` of an app whose owner was checked, or without a number all that can be: those that
/// wait, are built or start. How many there were.
pub async fn cancel(tx: &mut Tx, app: AppId, number: Option<i64>, reason: &str) -> Result<u64> {
    let canceled = query_scalar!(r#"select deploy_cancel($1, $2, $3) as "canceled!""#, app.0, number, reason)
        .fetch_one(&mut ***tx)
        .await?;
    Ok(canceled.unsigned_abs())
}

/// The deploy of an app whose owner was checked that has no verdict yet, the oldest if there are several.
pub async fn open_number(tx: &mut Tx, app: AppId) -> Result<Option<i64>> {
    Ok(query_scalar!(
        "select number from deploy where app_id = $1 and state not in ('live', 'failed', 'canceled')
         order by number limit 1",
        app.0
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

// ---- an app's repository, as the object store has it -----------------------------------------

/// The last `limit` commits of an app that the object store has, with all that is before them. Of those that are
/// not forgotten: the others may be left out at any time.
pub async fn commits_kept(db: impl PgExecutor<'_>, app: AppId, limit: i64) -> Result<Vec<CommitId>> {
    let mut commits = query_scalar!(
        "select d.commit_id from deploy d join app a on a.id = d.app_id
         where d.app_id = $1 and d.forgotten is null and d.cause = 'push'
           and (d.bundle is not null or d.number <= a.bundle_number) order by d.number desc limit $2",
        app.0,
        limit
    )
    .fetch_all(db)
    .await?;
    commits.reverse();
    Ok(commits)
}

/// The bundles of an app's repository, in the order in which they make it.
pub async fn bundles(db: impl PgExecutor<'_>, app: AppId) -> Result<Vec<BundleHash>> {
    Ok(query_scalar!(
        r#"select bundle as "bundle!: BundleHash" from (
               select 0::bigint as number, bundle from app where id = $1
               union all select d.number, d.bundle from deploy d join app a on a.id = d.app_id
               where d.app_id = $1 and d.number > a.bundle_number
           ) kept where bundle is not null order by number"#,
        app.0
    )
    .fetch_all(db)
    .await?)
}

#[derive(Debug, Clone)]
pub struct Branch {
    pub name: String,
    pub commit: CommitId,
}

/// Where the deploy branch of an app is: it was last moved there.
pub async fn branch(db: impl PgExecutor<'_>, app: AppId) -> Result<Option<Branch>> {
    Ok(query_as!(
        Branch,
        "select d.branch as name, d.commit_id as commit
         from deploy d join app a on a.id = d.app_id and a.deploy_branch = d.branch
         join deploy_step s on s.deploy_id = d.id and s.step = 'branch' and s.outcome = 'done'
         where d.app_id = $1 order by s.ended desc, d.number desc limit 1",
        app.0
    )
    .fetch_optional(db)
    .await?)
}

// ---- step `branch`, which the receiver carries -------------------------------------------------

/// A branch that waits to be moved to what serves.
#[derive(Debug, Clone)]
pub struct BranchStep {
    pub deploy: DeployId,
    pub app: AppId,
    pub number: i64,
    pub commit: CommitId,
    pub branch: String,
    pub before: Option<CommitId>,
    pub attempt: i32,
}

/// The open steps that `holder` holds or now takes, for 30 s; an attempt that takes over gets a new number.
pub async fn branch_steps(tx: &mut Tx, holder: &str) -> Result<Vec<BranchStep>> {
    query!(
        "update deploy_step
         set attempt = attempt + case when holder is null then 0 else 1 end, holder = $1,
             holder_until = now() + interval '30 s'
         where step = 'branch' and ended is null and (holder is null or holder_until < now())",
        holder
    )
    .execute(&mut ***tx)
    .await?;
    Ok(query_as!(
        BranchStep,
        r#"select d.id as deploy, d.app_id as app, d.number, d.commit_id as commit, d.branch, d.commit_before as before,
                  s.attempt
           from deploy_step s join deploy d on d.id = s.deploy_id
           where s.step = 'branch' and s.ended is null and s.holder = $1 order by d.id"#,
        holder
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// False: this attempt was overtaken, or the step has ended.
pub async fn end_branch_step(
    db: impl PgExecutor<'_>,
    deploy: DeployId,
    attempt: i32,
    outcome: Outcome,
    detail: Option<&str>,
) -> Result<bool> {
    let done = query!(
        "update deploy_step set ended = now(), outcome = $3, detail = $4
         where deploy_id = $1 and step = 'branch' and attempt = $2 and ended is null",
        deploy.0,
        attempt,
        outcome.as_str(),
        detail
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Releases of an app that went live since `from`, the newest first, at most `limit`.
pub async fn went_live(db: impl PgExecutor<'_>, app: AppId, from: Time, limit: i64) -> Result<Vec<(i64, Time)>> {
    let rows = query!(
        r#"select number, ended as "ended!" from deploy
           where app_id = $1 and state = 'live' and ended >= $2 order by number desc limit $3"#,
        app.0,
        from as Time,
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.number, row.ended)).collect())
}

/// Those that were asked for since a moment, of all apps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Since {
    pub deploys: i64,
    pub failed: i64,
    /// Requests that failed while they were switched on.
    pub requests_failed: i64,
}

pub async fn since(db: impl PgExecutor<'_>, from: Time) -> Result<Since> {
    Ok(query_as!(
        Since,
        r#"select count(*) as "deploys!", count(*) filter (where state = 'failed') as "failed!",
                  coalesce(sum(unanswered + errors) filter (where state = 'live'), 0)::int8 as "requests_failed!"
           from deploy where created >= $1"#,
        from as Time
    )
    .fetch_one(db)
    .await?)
}
