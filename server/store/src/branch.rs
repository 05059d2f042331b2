//! Branches: which one of an app is deployed, and those that are kept and not deployed.

use domain::{AppId, BundleHash, CommitId, CustomerId};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct Kept {
    pub name: String,
    pub commit_id: CommitId,
    /// `None`: the deploys' bundles have all of it.
    pub bundle: Option<BundleHash>,
}

/// Of an app whose owner was checked, by name.
pub async fn list(db: impl PgExecutor<'_>, app: AppId) -> Result<Vec<Kept>> {
    Ok(query_as!(
        Kept,
        r#"select name, commit_id as "commit_id: CommitId", bundle as "bundle: BundleHash" from branch
           where app_id = $1 order by name"#,
        app.0
    )
    .fetch_all(db)
    .await?)
}

/// Notes where a branch is. False: `customer` has no such app, or it has `max` other branches.
pub async fn keep(
    tx: &mut Tx,
    customer: CustomerId,
    app: AppId,
    name: &str,
    commit: &CommitId,
    bundle: Option<&BundleHash>,
    max: i64,
) -> Result<bool> {
    let done = query!(
        "insert into branch (app_id, name, commit_id, bundle)
         select id, $3, $4, $5 from app
         where id = $1 and customer_id = $2 and state <> 'deleted'
           and (select count(*) from branch where app_id = $1 and name <> $3) < $6
         on conflict (app_id, name) do update
         set commit_id = excluded.commit_id, bundle = excluded.bundle, pushed = now()",
        app.0,
        customer.0,
        name,
        commit.as_str(),
        bundle.map(BundleHash::as_str),
        max
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn forget(tx: &mut Tx, customer: CustomerId, app: AppId, name: &str) -> Result<()> {
    query!(
        "delete from branch using app
         where app.id = branch.app_id and app.id = $1 and app.customer_id = $2 and branch.name = $3",
        app.0,
        customer.0,
        name
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// Whether an app whose owner was checked has deployed a branch, or is about to.
pub async fn is_decided(db: impl PgExecutor<'_>, app: AppId) -> Result<bool> {
    Ok(query_scalar!(
        r#"select exists (select from deploy where app_id = $1 and state not in ('failed', 'canceled')) as "is!""#,
        app.0
    )
    .fetch_one(db)
    .await?)
}

/// From now on `name` is what is deployed. False: another branch is, and `customer`'s app stays with it.
pub async fn decide(tx: &mut Tx, customer: CustomerId, app: AppId, name: &str) -> Result<bool> {
    let done = query!(
        "update app set deploy_branch = $3 where id = $1 and customer_id = $2
           and (deploy_branch = $3
                or not exists (select from deploy where app_id = $1 and state not in ('failed', 'canceled')))",
        app.0,
        customer.0,
        name
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
