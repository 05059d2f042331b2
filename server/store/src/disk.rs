//! What of the past is kept, who names which object, and what lies on disk for whom.

use domain::{AppId, BundleHash, CommitId, CustomerId, DeployState, DiskKind, ImageHash, SourceHash, Time};
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

/// `None`: nothing may be deleted by what it says. It is new, or came back older, or nobody has held it against what
/// runs for a minute.
pub async fn truth(db: impl PgExecutor<'_>) -> Result<Option<Truth>> {
    Ok(query_as!(
        Truth,
        r#"select t.incarnation, t.since, now() as "now!"
           from truth t join installation i on i.incarnation = t.incarnation
           where i.older_since is null and t.checked > now() - interval '60 s'"#
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
               union all select b.bundle, a.state <> 'deleted' from branch b join app a on a.id = b.app_id
               where b.bundle = any($1)
           ) named group by bundle"#,
        hashes
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| Named { hash: row.bundle, kept: row.kept }).collect())
}

/// What an app of a customer has on disk.
#[derive(Debug, Clone)]
pub struct Usage {
    pub app_id: AppId,
    pub kind: DiskKind,
    pub bytes: i64,
}

/// Of all apps of `customer` that are not deleted.
pub async fn usage(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Usage>> {
    Ok(query_as!(
        Usage,
        "select u.app_id, u.kind, u.bytes from disk_usage u join app a on a.id = u.app_id
         where a.customer_id = $1 and a.state <> 'deleted' order by u.app_id, u.kind",
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// How much `customer` may have on disk.
pub async fn bytes_max(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<i64> {
    Ok(query_scalar!("select disk_bytes_max from customer where id = $1", customer.0).fetch_one(db).await?)
}

// ---- for the receiver, which stores sources, bundles and repositories, across owners ------------

/// What each app has of these sources, by their sizes.
pub async fn measure_sources(db: impl PgExecutor<'_>, hashes: &[String], bytes: &[i64]) -> Result<()> {
    query!(
        "insert into disk_usage (app_id, kind, bytes)
         select a.id, 'source', coalesce(sum(o.bytes), 0)::bigint
         from app a
         left join (select distinct app_id, source from deploy where forgotten is null) d on d.app_id = a.id
         left join unnest($1::text[], $2::bigint[]) o (hash, bytes) on o.hash = d.source
         where a.state <> 'deleted' group by a.id
         on conflict (app_id, kind) do update set bytes = excluded.bytes, at = now()
         where disk_usage.bytes <> excluded.bytes",
        hashes,
        bytes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What each app has of these bundles, by their sizes.
pub async fn measure_bundles(db: impl PgExecutor<'_>, hashes: &[String], bytes: &[i64]) -> Result<()> {
    query!(
        "insert into disk_usage (app_id, kind, bytes)
         select a.id, 'bundle', coalesce(sum(o.bytes), 0)::bigint
         from app a
         left join (select d.app_id, d.bundle from deploy d join app on app.id = d.app_id and d.number > app.bundle_number
                    union select id, bundle from app union select app_id, bundle from branch) b on b.app_id = a.id
         left join unnest($1::text[], $2::bigint[]) o (hash, bytes) on o.hash = b.bundle
         where a.state <> 'deleted' group by a.id
         on conflict (app_id, kind) do update set bytes = excluded.bytes, at = now()
         where disk_usage.bytes <> excluded.bytes",
        hashes,
        bytes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// An app's repository as it should be, and what the object store has of it.
#[derive(Debug, Clone)]
pub struct Untidy {
    pub app_id: AppId,
    /// Any deploy that is asked for later changes it.
    pub deploy_next: i64,
    /// Of its bundles, those after the whole one.
    pub bundles: i64,
    pub has_whole: bool,
    pub has_history: bool,
    pub bundle_bytes: i64,
}

/// Apps that were pushed to since their repositories were last tidied, an hour ago or more; none with a deploy
/// under way. Those that wait longest first.
pub async fn untidy(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Untidy>> {
    Ok(query_as!(
        Untidy,
        r#"select a.id as app_id, a.deploy_next, a.bundle is not null as "has_whole!",
                  (select count(*) from deploy d where d.app_id = a.id and d.bundle is not null
                       and d.number > a.bundle_number) as "bundles!",
                  exists (select from deploy d where d.app_id = a.id and d.cause = 'push' and d.state = 'live')
                      as "has_history!",
                  coalesce((select b.bytes from disk_usage b where b.app_id = a.id and b.kind = 'bundle'), 0)
                      as "bundle_bytes!"
           from app a left join disk_usage u on u.app_id = a.id and u.kind = 'repository'
           where a.state <> 'deleted'
             and exists (select from deploy d where d.app_id = a.id and d.cause = 'push'
                         and d.created > coalesce(u.at, '-infinity'))
             and (u.at is null or u.at < now() - interval '1 hour'
                  or (select count(*) from deploy d where d.app_id = a.id and d.bundle is not null
                      and d.number > a.bundle_number) > 20)
             and not exists (select from deploy d where d.app_id = a.id
                             and d.state not in ('live', 'failed', 'canceled'))
           order by u.at nulls first, a.id limit $1"#,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// The commits of an app's repository that are kept: of deploys that are not forgotten, and where its branches are.
pub async fn commits(db: impl PgExecutor<'_>, app: AppId) -> Result<Vec<CommitId>> {
    Ok(query_scalar!(
        r#"select commit_id as "commit_id!: CommitId" from deploy where app_id = $1 and forgotten is null
               and (cause = 'push' or commit_id in (select commit_id from deploy where app_id = $1 and cause = 'push'))
           union
           select commit_id from (
               select distinct on (d.branch) d.commit_id from deploy d
               join deploy_step s on s.deploy_id = d.id and s.step = 'branch' and s.outcome = 'done'
               where d.app_id = $1 order by d.branch, s.ended desc, d.number desc) tip"#,
        app.0
    )
    .fetch_all(db)
    .await?)
}

/// A repository was tidied, and takes so much.
pub async fn tidied(db: impl PgExecutor<'_>, app: AppId, bytes: i64) -> Result<()> {
    query!(
        "insert into disk_usage (app_id, kind, bytes) values ($1, 'repository', $2)
         on conflict (app_id, kind) do update set bytes = excluded.bytes, at = now()",
        app.0,
        bytes
    )
    .execute(db)
    .await?;
    Ok(())
}

/// `bundle` has all of an app's repository. False: a deploy was asked for since `deploy_next` was read.
pub async fn bundled(db: impl PgExecutor<'_>, app: AppId, deploy_next: i64, bundle: &BundleHash) -> Result<bool> {
    let done = query!(
        "update app set bundle = $3, bundle_number = $2 - 1 where id = $1 and deploy_next = $2 and state <> 'deleted'",
        app.0,
        deploy_next,
        bundle.as_str()
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub mod all {
    use super::*;

    /// What each app has of images, by their rows.
    pub async fn measure_images(db: impl PgExecutor<'_>) -> Result<()> {
        query!(
            "insert into disk_usage (app_id, kind, bytes)
             select a.id, 'image', coalesce(sum(i.bytes), 0)::bigint
             from app a
             left join (select distinct app_id, image from deploy where forgotten is null) d on d.app_id = a.id
             left join image i on i.hash = d.image
             where a.state <> 'deleted' group by a.id
             on conflict (app_id, kind) do update set bytes = excluded.bytes, at = now()
             where disk_usage.bytes <> excluded.bytes"
        )
        .execute(db)
        .await?;
        Ok(())
    }

    /// What the apps have of a kind; those that are not named have none.
    pub async fn measure(db: impl PgExecutor<'_>, kind: DiskKind, apps: &[i64], bytes: &[i64]) -> Result<()> {
        query!(
            "insert into disk_usage (app_id, kind, bytes)
             select a.id, $1, coalesce(m.bytes, 0)
             from app a left join unnest($2::bigint[], $3::bigint[]) m (app_id, bytes) on m.app_id = a.id
             where a.state <> 'deleted'
             on conflict (app_id, kind) do update set bytes = excluded.bytes, at = now()
             where disk_usage.bytes <> excluded.bytes",
            kind.as_str(),
            apps,
            bytes
        )
        .execute(db)
        .await?;
        Ok(())
    }

    /// Deleted apps have nothing.
    pub async fn forget_usage(db: impl PgExecutor<'_>) -> Result<()> {
        query!("delete from disk_usage u using app a where a.id = u.app_id and a.state = 'deleted'")
            .execute(db)
            .await?;
        Ok(())
    }

    /// By the leader, who has held it against what runs: this incarnation is the truth, and has been since it was
    /// first noted.
    pub async fn note_truth(db: impl PgExecutor<'_>) -> Result<()> {
        query!(
            "insert into truth (incarnation, checked) select incarnation, now() from installation where older_since is null
             on conflict (incarnation) do update set checked = now()"
        )
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
