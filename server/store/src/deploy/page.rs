//! What a deploy's own page says besides its rows: found where it left its traces.

use domain::wire::Manifest;
use domain::{AppId, Cause, CommitId, DeployId, InstanceState, ProcessName, Time};
use sqlx::types::Json;
use sqlx::{PgExecutor, query, query_as};

use crate::Result;

#[derive(Debug, Clone)]
pub struct Facts {
    /// The name of the key that it was pushed with.
    pub key: Option<String>,
    /// Where the branch was.
    pub before: Option<CommitId>,
    /// Who builds, or built it.
    pub builder: Option<String>,
    pub image_bytes: Option<i64>,
    pub manifest: Option<Json<Manifest>>,
}

/// Of a deploy whose owner was checked.
pub async fn facts(db: impl PgExecutor<'_>, deploy: DeployId) -> Result<Option<Facts>> {
    Ok(query_as!(
        Facts,
        r#"select k.name as "key?", d.commit_before as before, s.name as "builder?", i.bytes as "image_bytes?",
                  i.manifest as "manifest?: Json<Manifest>"
           from deploy d left join ssh_key k on k.id = d.key_id left join server s on s.id = d.server_id
           left join image i on i.hash = d.image
           where d.id = $1"#,
        deploy.0
    )
    .fetch_optional(db)
    .await?)
}

/// When the last `limit` before `number` that were asked for like it began, and when they went live; the newest first.
pub async fn lately(
    db: impl PgExecutor<'_>,
    app: AppId,
    number: i64,
    cause: Cause,
    limit: i64,
) -> Result<Vec<(Time, Time)>> {
    let rows = query!(
        r#"select created, ended as "ended!: Time" from deploy
           where app_id = $1 and number < $2 and state = 'live' and cause = $3 and ended is not null
           order by number desc limit $4"#,
        app.0,
        number,
        cause.as_str(),
        limit
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.created, row.ended)).collect())
}

/// An instance that a deploy started.
#[derive(Debug, Clone)]
pub struct Started {
    pub process: ProcessName,
    pub index: i32,
    pub server: String,
    pub state: InstanceState,
    pub created: Time,
    pub healthy: Option<Time>,
}

/// Of release `number` of an app, those that were there until `to`, at most `limit`.
pub async fn started(
    db: impl PgExecutor<'_>,
    app: AppId,
    number: i64,
    to: Option<Time>,
    limit: i64,
) -> Result<Vec<Started>> {
    Ok(query_as!(
        Started,
        "select i.process, i.index, s.name as server, i.state, i.created, i.healthy
         from instance i join server s on s.id = i.server_id
         where i.app_id = $1 and i.release_number = $2 and i.process <> 'release'
           and i.created <= coalesce($3, 'infinity'::timestamptz)
         order by i.process, i.index, i.id limit $4",
        app.0,
        number,
        to as Option<Time>,
        limit
    )
    .fetch_all(db)
    .await?)
}

/// What ran of the releases before, from `from` until `to`: the last of them, how many instances, and how many of these
/// have ended by then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    pub release: Option<i64>,
    pub instances: i64,
    pub ended: i64,
}

pub async fn before(db: impl PgExecutor<'_>, app: AppId, number: i64, from: Time, to: Option<Time>) -> Result<Before> {
    Ok(query_as!(
        Before,
        r#"select max(release_number) as release, count(*) as "instances!",
                  count(*) filter (where ended <= coalesce($4, 'infinity'::timestamptz)) as "ended!"
           from instance
           where app_id = $1 and release_number < $2 and process <> 'release' and created <= $3
             and coalesce(ended, 'infinity'::timestamptz) >= $3"#,
        app.0,
        number,
        from as Time,
        to as Option<Time>
    )
    .fetch_one(db)
    .await?)
}
