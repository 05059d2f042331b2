//! Config vars: a whole set for each change, so that a release names the one it runs with.

use domain::{AppId, DeployId, Secret, Time, UserId};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

/// As a person sees it.
#[derive(Debug, Clone)]
pub struct Var {
    pub name: String,
    /// `None`: secret.
    pub plain: Option<String>,
    pub bytes: i32,
    /// Who set it, by name.
    pub by: Option<String>,
    pub since: Time,
}

/// Version `version` of an app whose owner was checked, by name.
pub async fn list(db: impl PgExecutor<'_>, app: AppId, version: i64) -> Result<Vec<Var>> {
    Ok(query_as!(
        Var,
        r#"select v.name, v.plain, v.bytes, u.name as "by?", v.since
           from config_var v left join users u on u.id = v.user_id
           where v.app_id = $1 and v.version = $2 order by v.name"#,
        app.0,
        version
    )
    .fetch_all(db)
    .await?)
}

#[derive(Debug)]
pub struct NewVar<'a> {
    pub name: &'a str,
    pub value: NewValue<'a>,
    pub bytes: usize,
}

#[derive(Debug)]
pub enum NewValue<'a> {
    Plain(&'a str),
    Sealed(Vec<u8>),
}

/// The version `from` of a locked app with `set` instead of what had these names, and without `unset`: its current
/// one from now on.
pub async fn change(
    tx: &mut Tx,
    app: AppId,
    from: i64,
    user: UserId,
    set: &[NewVar<'_>],
    unset: Option<&str>,
) -> Result<()> {
    let version = query_scalar!(
        r#"insert into config (app_id, version, user_id)
           select $1, coalesce(max(version), 0) + 1, $2 from config where app_id = $1 returning version"#,
        app.0,
        user.0
    )
    .fetch_one(&mut ***tx)
    .await?;
    let but: Vec<String> = set.iter().map(|var| var.name).chain(unset).map(str::to_owned).collect();
    query!("select config_keep($1, $2, $3, $4)", app.0, from, version, &but).execute(&mut ***tx).await?;
    for var in set {
        let (plain, sealed) = match &var.value {
            NewValue::Plain(value) => (Some(*value), None),
            NewValue::Sealed(bytes) => (None, Some(bytes.as_slice())),
        };
        query!(
            "insert into config_var (app_id, version, name, plain, sealed, bytes, user_id)
             values ($1, $2, $3, $4, $5, $6, $7)",
            app.0,
            version,
            var.name,
            plain,
            sealed,
            i32::try_from(var.bytes).unwrap_or(i32::MAX),
            user.0
        )
        .execute(&mut ***tx)
        .await?;
    }
    use_version(tx, app, version).await
}

/// Of a locked app.
async fn use_version(tx: &mut Tx, app: AppId, version: i64) -> Result<()> {
    query!("update app set config_version = $2 where id = $1", app.0, version).execute(&mut ***tx).await?;
    Ok(())
}

/// A locked app has the config of its release `number` again. False: it had it already.
pub async fn restore(tx: &mut Tx, app: AppId, number: i64) -> Result<bool> {
    let done = query!(
        "update app a set config_version = r.config_version from release r
         where a.id = $1 and r.app_id = a.id and r.number = $2 and a.config_version <> r.config_version",
        app.0,
        number
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Of the release that serves an app whose owner was checked.
pub async fn serving(db: impl PgExecutor<'_>, app: AppId) -> Result<Option<i64>> {
    Ok(query_scalar!(
        "select r.config_version from app a join release r on r.app_id = a.id and r.number = a.release_number
         where a.id = $1",
        app.0
    )
    .fetch_optional(db)
    .await?)
}

/// The deploy of a locked app that waits to roll out its config.
pub async fn waiting(tx: &mut Tx, app: AppId) -> Result<Option<i64>> {
    Ok(query_scalar!(
        "select number from deploy where app_id = $1 and state = 'queued' and cause = 'config' order by number limit 1",
        app.0
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

/// For the coordinator, across owners.
pub mod all {
    use super::*;

    #[derive(Debug, Clone)]
    pub struct Var {
        pub app_id: AppId,
        pub version: i64,
        pub name: String,
        pub plain: Option<Secret<String>>,
        pub sealed: Option<Vec<u8>>,
    }

    /// Those of these versions, which never change.
    pub async fn vars(db: impl PgExecutor<'_>, of: &[(AppId, i64)]) -> Result<Vec<Var>> {
        let (apps, versions): (Vec<i64>, Vec<i64>) = of.iter().map(|(app, version)| (app.0, *version)).unzip();
        let rows = query!(
            r#"select v.app_id as "app_id: AppId", v.version, v.name, v.plain, v.sealed
             from unnest($1::int8[], $2::int8[]) k (app_id, version)
             join config_var v on v.app_id = k.app_id and v.version = k.version
             order by v.app_id, v.version, v.name"#,
            &apps,
            &versions
        )
        .fetch_all(db)
        .await?;
        let vars = rows.into_iter().map(|row| Var {
            app_id: row.app_id,
            version: row.version,
            name: row.name,
            plain: row.plain.map(Secret::new),
            sealed: row.sealed,
        });
        Ok(vars.collect())
    }

    /// Whoever changes the config of this deploy's app waits until the transaction ends: a change is either in the
    /// release that it makes, or after it. To be called before the deploy's row is locked, as the doors do.
    pub async fn hold(tx: &mut Tx, deploy: DeployId) -> Result<()> {
        query_scalar!(
            "select a.id from app a join deploy d on d.app_id = a.id where d.id = $1 for update of a",
            deploy.0
        )
        .fetch_optional(&mut ***tx)
        .await?;
        Ok(())
    }

    /// What serves now is what a change of config vars deploys, whatever served when it was asked for.
    pub async fn take_serving(tx: &mut Tx, deploy: DeployId) -> Result<()> {
        query!(
            "update deploy d set commit_id = s.commit_id, commit_subject = s.commit_subject, branch = s.branch,
                    source = s.source, image = r.image, origin = r.number
             from app a join release r on r.app_id = a.id and r.number = a.release_number
             join deploy s on s.app_id = a.id and s.number = r.number
             where d.id = $1 and a.id = d.app_id",
            deploy.0
        )
        .execute(&mut ***tx)
        .await?;
        Ok(())
    }
}
