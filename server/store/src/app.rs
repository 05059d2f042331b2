//! Apps and their hostnames.

use std::collections::BTreeMap;

use domain::{AppId, AppName, AppState, CustomerId, Hostname, ProcessName, ReleaseNumber, Time};
use sqlx::PgExecutor;
use sqlx::types::Json;
use sqlx::{query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct App {
    pub id: AppId,
    pub name: AppName,
    pub state: AppState,
    pub deploy_branch: String,
    pub release_number: Option<ReleaseNumber>,
    /// What the next release runs with.
    pub config_version: i64,
    pub created: Time,
}

/// The apps of `customer`, by name.
pub async fn list(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<App>> {
    Ok(query_as!(
        App,
        "select id, name, state, deploy_branch, release_number, config_version, created from app
         where customer_id = $1 and state <> 'deleted' order by name",
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// The app called `name`, if `customer` owns it.
pub async fn get(db: impl PgExecutor<'_>, customer: CustomerId, name: &AppName) -> Result<Option<App>> {
    Ok(query_as!(
        App,
        "select id, name, state, deploy_branch, release_number, config_version, created from app
         where customer_id = $1 and name = $2 and state <> 'deleted'",
        customer.0,
        name.as_str()
    )
    .fetch_optional(db)
    .await?)
}

/// The name of an app whose owner was checked.
pub async fn name(db: impl PgExecutor<'_>, app: AppId) -> Result<Option<AppName>> {
    Ok(query_scalar!("select name from app where id = $1", app.0).fetch_optional(db).await?)
}

/// How many apps `customer` has, and may have. Until the transaction ends, only it may create one for them.
pub async fn room(tx: &mut Tx, customer: CustomerId) -> Result<(i64, i64)> {
    query!("select pg_advisory_xact_lock(1, $1::int8::int4)", customer.0 & 0x7fff_ffff).execute(&mut ***tx).await?;
    let row = query!(
        r#"select (select count(*) from app where customer_id = $1 and state <> 'deleted') as "apps!",
                  apps_max::int8 as "apps_max!"
           from customer where id = $1"#,
        customer.0
    )
    .fetch_one(&mut ***tx)
    .await?;
    Ok((row.apps, row.apps_max))
}

/// Whether the name was another customer's within the last 90 days: links, cookies and webhooks still
/// point to what they deleted.
pub async fn is_kept(tx: &mut Tx, customer: CustomerId, name: &AppName) -> Result<bool> {
    Ok(query_scalar!(
        r#"select exists (select from app where name = $1 and state = 'deleted' and customer_id <> $2
                          and deleted > now() - interval '90 days') as "kept!""#,
        name.as_str(),
        customer.0
    )
    .fetch_one(&mut ***tx)
    .await?)
}

/// The app called `name`, if `customer` owns it; until the transaction ends nobody else changes it.
pub async fn lock(tx: &mut Tx, customer: CustomerId, name: &AppName) -> Result<Option<App>> {
    Ok(query_as!(
        App,
        "select id, name, state, deploy_branch, release_number, config_version, created from app
         where customer_id = $1 and name = $2 and state <> 'deleted' for update",
        customer.0,
        name.as_str()
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

/// Of an app whose owner was checked. What is deleted stays so.
pub async fn set_state(tx: &mut Tx, app: AppId, state: AppState) -> Result<()> {
    query!(
        "update app set state = $2, deleted = case when $2 = 'deleted' then now() end
         where id = $1 and state <> 'deleted'",
        app.0,
        state.as_str()
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// How many of each process type its customer wants.
pub type Counts = BTreeMap<ProcessName, u16>;

/// Of an app whose owner was checked.
pub async fn set_formation(tx: &mut Tx, app: AppId, counts: &Counts) -> Result<()> {
    query!("update app set formation = $2 where id = $1", app.0, Json(counts) as _).execute(&mut ***tx).await?;
    Ok(())
}

/// What each process type may have, where its customer chose.
pub type Memory = BTreeMap<ProcessName, u64>;

/// Of an app whose owner was checked.
pub async fn set_memory(tx: &mut Tx, app: AppId, memory: &Memory) -> Result<()> {
    query!("update app set memory = $2 where id = $1", app.0, Json(memory) as _).execute(&mut ***tx).await?;
    Ok(())
}

/// What an app of a customer runs when it runs: what its release says, and what its customer wants instead.
#[derive(Debug, Clone)]
pub struct Reserved {
    pub app_id: AppId,
    pub state: AppState,
    pub counts: Json<Counts>,
    pub memory: Json<Memory>,
    pub formation: Json<crate::deploy::all::Formation>,
}

/// Of all apps of `customer` that serve.
pub async fn reserved(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Reserved>> {
    Ok(query_as!(
        Reserved,
        r#"select a.id as app_id, a.state, a.formation as "counts: Json<Counts>", a.memory as "memory: Json<Memory>",
                  r.formation as "formation: Json<crate::deploy::all::Formation>"
           from app a join release r on r.app_id = a.id and r.number = a.release_number
           where a.customer_id = $1 and a.state <> 'deleted' order by a.id"#,
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// What each process of the release that serves is started by; of an app whose owner was checked.
pub async fn processes(db: impl PgExecutor<'_>, app: AppId) -> Result<BTreeMap<ProcessName, String>> {
    let found = query_scalar!(
        r#"select i.manifest->'processes' as "processes: Json<BTreeMap<ProcessName, String>>"
           from app a join release r on r.app_id = a.id and r.number = a.release_number
           join image i on i.hash = r.image where a.id = $1"#,
        app.0
    )
    .fetch_optional(db)
    .await?;
    Ok(found.flatten().map(|processes| processes.0).unwrap_or_default())
}

/// What is asked of a new release of an app: its owner, what they chose, and what all of theirs may use.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub customer_id: CustomerId,
    pub counts: Json<Counts>,
    pub memory: Json<Memory>,
    pub memory_bytes_max: i64,
}

/// Across owners, for the coordinator.
pub async fn chosen(db: impl PgExecutor<'_>, app: AppId) -> Result<Chosen> {
    Ok(query_as!(
        Chosen,
        r#"select a.customer_id, a.formation as "counts: Json<Counts>", a.memory as "memory: Json<Memory>",
                  c.memory_bytes_max
           from app a join customer c on c.id = a.customer_id where a.id = $1"#,
        app.0
    )
    .fetch_one(db)
    .await?)
}

/// What all instances of `customer` may use together.
pub async fn memory_max(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<i64> {
    Ok(query_scalar!("select memory_bytes_max from customer where id = $1", customer.0).fetch_one(db).await?)
}

pub async fn create(tx: &mut Tx, customer: CustomerId, name: &AppName) -> Result<AppId> {
    Ok(query_scalar!("insert into app (customer_id, name) values ($1, $2) returning id", customer.0, name.as_str())
        .fetch_one(&mut ***tx)
        .await?)
}

/// Whether `app` got the name: it was free, or that of a deleted app.
pub async fn create_hostname(tx: &mut Tx, app: AppId, name: &Hostname) -> Result<bool> {
    let done = query!(
        "insert into hostname (name, app_id) values ($1, $2)
         on conflict (name) do update set app_id = excluded.app_id
         where exists (select from app a where a.id = hostname.app_id and a.state = 'deleted')",
        name.as_str(),
        app.0
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Across owners, for the coordinator: what is not deleted, with its hostnames.
pub mod all {
    use super::*;

    #[derive(Debug, Clone)]
    pub struct App {
        pub id: AppId,
        pub customer_id: CustomerId,
        pub name: AppName,
        pub state: AppState,
        pub release_number: Option<ReleaseNumber>,
        pub counts: Json<Counts>,
        pub builds_max: i32,
        pub build_seconds_max: i32,
    }

    /// Deleted ones too, while one of their instances lives.
    pub async fn apps(tx: &mut Tx) -> Result<Vec<App>> {
        Ok(query_as!(
            App,
            r#"select a.id, a.customer_id, a.name, a.state, a.release_number, a.formation as "counts: Json<Counts>",
                      c.builds_max, c.build_seconds_max
               from app a join customer c on c.id = a.customer_id
               where a.state <> 'deleted'
                  or exists (select from instance i where i.app_id = a.id and i.ended is null)
               order by a.id"#
        )
        .fetch_all(&mut ***tx)
        .await?)
    }

    #[derive(Debug, Clone)]
    pub struct Host {
        pub name: Hostname,
        pub app_id: AppId,
    }

    pub async fn hostnames(tx: &mut Tx) -> Result<Vec<Host>> {
        Ok(query_as!(Host, "select name, app_id from hostname order by name").fetch_all(&mut ***tx).await?)
    }

    /// Deleted apps whose instances said their last, and whose logs are still there.
    pub async fn with_logs_to_delete(db: impl PgExecutor<'_>) -> Result<Vec<AppId>> {
        Ok(query_scalar!(
            "select id from app a where state = 'deleted' and logs_deleted is null
               and not exists (select from instance i where i.app_id = a.id
                               and (i.ended is null or i.ended > now() - interval '5 s'))
             order by id limit 100"
        )
        .fetch_all(db)
        .await?)
    }

    pub async fn logs_deleted(db: impl PgExecutor<'_>, app: AppId) -> Result<()> {
        query!("update app set logs_deleted = now() where id = $1", app.0).execute(db).await?;
        Ok(())
    }

    /// Which of these there are, deleted ones too: what they used is still owed.
    pub async fn existing(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<AppId>> {
        Ok(query_scalar!("select id from app where id = any($1)", ids).fetch_all(db).await?)
    }
}
