//! What of the past is kept, who names which object, and what lies on disk for whom.

use domain::{AppId, BundleHash, DeployState, ImageHash, SourceHash, Time};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

/// Since when the database is this truth, and what time it is there.
#[derive(Debug, Clone)]
pub struct Truth {
    /// 1 has never come back older.
    pub incarnation: i64,
    pub since: Time,
    pub now: Time,
}

/// `None`: nobody has noted it yet, so it is new.
pub async fn truth(db: impl PgExecutor<'_>) -> Result<Option<Truth>> {
    Ok(query_as!(
        Truth,
        r#"select t.incarnation, t.since, now() as "now!" from truth t join installation i on i.incarnation = t.incarnation"#
    )
    .fetch_optional(db)
    .await?)
}

/// Who names an object: a row that needs it, or only such that need it no more.
#[derive(Debug, Clone)]
pub struct Named<H> {
    pub hash: H,
    pub kept: bool,
}

/// Of these sources, those that any row names.
pub async fn sources(db: impl PgExecutor<'_>, hashes: &[String]) -> Result<Vec<Named<SourceHash>>> {
    let rows = query!(
        r#"select source, bool_or(forgotten is null) as "kept!" from deploy where source = any($1) group by source"#,
        hashes
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| Named { hash: row.source, kept: row.kept }).collect())
}

/// Of these bundles, those that any row names.
pub async fn bundles(db: impl PgExecutor<'_>, hashes: &[String]) -> Result<Vec<Named<BundleHash>>> {
    let rows = query!(
        r#"select bundle as "bundle!: BundleHash", bool_or(kept) as "kept!" from (
               select d.bundle, a.state <> 'deleted' and d.number > a.bundle_number as kept
               from deploy d join app a on a.id = d.app_id where d.bundle = any($1)
               union all select bundle, state <> 'deleted' from app where bundle = any($1)
           ) named group by bundle"#,
        hashes
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| Named { hash: row.bundle, kept: row.kept }).collect())
}

pub mod all {
    use super::*;

    /// Notes that this incarnation is the truth from now on, if nobody has.
    pub async fn note_truth(db: impl PgExecutor<'_>) -> Result<()> {
        query!("insert into truth (incarnation) select incarnation from installation on conflict do nothing")
            .execute(db)
            .await?;
        Ok(())
    }

    /// Apps with more ended deploys than `keep` of a kind, and deleted ones with any.
    pub async fn with_much_past(db: impl PgExecutor<'_>, keep: i64) -> Result<Vec<AppId>> {
        Ok(query_scalar!(
            "select d.app_id from deploy d join app a on a.id = d.app_id
             where d.forgotten is null and d.state in ('live', 'failed', 'canceled')
             group by d.app_id, a.state
             having a.state = 'deleted' or count(*) filter (where d.state = 'live') > $1::bigint + 1
                 or count(*) filter (where d.state <> 'live') > $1::bigint
             order by d.app_id limit 1000",
            keep
        )
        .fetch_all(db)
        .await?)
    }

    /// Holds the app until the transaction ends: nothing new is asked of it. Whether it is deleted.
    pub async fn hold(tx: &mut Tx, app: AppId) -> Result<bool> {
        Ok(query_scalar!(r#"select state = 'deleted' as "deleted!" from app where id = $1 for update"#, app.0)
            .fetch_one(&mut ***tx)
            .await?)
    }

    #[derive(Debug, Clone)]
    pub struct Past {
        pub app_id: AppId,
        pub number: i64,
        pub state: DeployState,
        pub image: Option<ImageHash>,
        pub source: SourceHash,
        /// It serves, or an instance of it lives.
        pub runs: bool,
    }

    /// The deploys of an app (or, without one, of all) that have ended and are not forgotten.
    pub async fn past(tx: &mut Tx, app: Option<AppId>) -> Result<Vec<Past>> {
        Ok(query_as!(
            Past,
            r#"select d.app_id, d.number, d.state, d.image, d.source,
                      (a.state <> 'deleted' and a.release_number is not distinct from d.number)
                      or exists (select from instance i where i.app_id = d.app_id and i.release_number = d.number
                                 and i.ended is null) as "runs!"
               from deploy d join app a on a.id = d.app_id
               where d.app_id = coalesce($1, d.app_id) and d.forgotten is null
                 and d.state in ('live', 'failed', 'canceled')
               order by d.app_id, d.number"#,
            app.map(|app| app.0)
        )
        .fetch_all(&mut ***tx)
        .await?)
    }

    pub async fn forget(tx: &mut Tx, app: AppId, numbers: &[i64]) -> Result<()> {
        query!(
            "update deploy set forgotten = now() where app_id = $1 and number = any($2) and forgotten is null",
            app.0,
            numbers
        )
        .execute(&mut ***tx)
        .await?;
        Ok(())
    }

    /// Of these images, those that any row names.
    pub async fn images(db: impl PgExecutor<'_>, hashes: &[String]) -> Result<Vec<Named<ImageHash>>> {
        let rows = query!(
            r#"select image as "image!: ImageHash", bool_or(forgotten is null) as "kept!"
               from deploy where image = any($1) group by image"#,
            hashes
        )
        .fetch_all(db)
        .await?;
        Ok(rows.into_iter().map(|row| Named { hash: row.image, kept: row.kept }).collect())
    }

    /// Of these apps, those of which nothing is wanted any more; with `unknown`, also those that there never were.
    pub async fn gone(db: impl PgExecutor<'_>, ids: &[i64], unknown: bool) -> Result<Vec<AppId>> {
        Ok(query_scalar!(
            r#"select wanted.id as "id!: AppId" from unnest($1::bigint[]) wanted (id) left join app a on a.id = wanted.id
               where (a.id is null and $2) or (a.state = 'deleted' and not exists (
                   select from instance i where i.app_id = a.id and i.ended is null))
               order by 1"#,
            ids,
            unknown
        )
        .fetch_all(db)
        .await?)
    }
}
