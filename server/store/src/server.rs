//! The machines of the fleet.

use domain::wire::Space;
use domain::{ServerId, Time};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct Server {
    pub id: ServerId,
    pub name: String,
    pub boot_id: Option<String>,
    pub cores: i32,
    pub memory_bytes: i64,
    pub seen: Option<Time>,
}

pub async fn all(tx: &mut Tx) -> Result<Vec<Server>> {
    Ok(query_as!(Server, "select id, name, boot_id, cores, memory_bytes, seen from server order by id")
        .fetch_all(&mut ***tx)
        .await?)
}

/// The server called `name`, made if it is new.
pub async fn named(db: impl PgExecutor<'_>, name: &str) -> Result<ServerId> {
    Ok(query_scalar!(
        r#"with made as (insert into server (name) values ($1) on conflict (name) do nothing returning id)
           select id as "id!: ServerId" from made union all select id from server where name = $1 limit 1"#,
        name
    )
    .fetch_one(db)
    .await?)
}

/// What a server says of itself; of its load, what is not known is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Saw<'a> {
    pub boot_id: &'a str,
    pub cores: i32,
    pub memory_bytes: i64,
    pub memory_used_bytes: i64,
    /// Thousandths of a core.
    pub cpu_millis: Option<i32>,
    /// In a quarter of a minute, and those of them that no app answered.
    pub requests: Option<i64>,
    pub unanswered: Option<i64>,
}

/// It reported just now.
pub async fn saw(db: impl PgExecutor<'_>, server: ServerId, saw: Saw<'_>) -> Result<()> {
    query!(
        "update server set boot_id = $2, cores = $3, memory_bytes = $4, memory_used_bytes = $5, cpu_millis = $6,
                           requests = $7, unanswered = $8, seen = clock_timestamp() where id = $1",
        server.0,
        saw.boot_id,
        saw.cores,
        saw.memory_bytes,
        saw.memory_used_bytes,
        saw.cpu_millis,
        saw.requests,
        saw.unanswered
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How full the disk of its data is.
pub async fn saw_disk(db: impl PgExecutor<'_>, server: ServerId, space: &Space) -> Result<()> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    query!(
        "update server set disk_bytes = $2, disk_free_bytes = $3, disk_reserve_bytes = $4 where id = $1",
        server.0,
        bytes(space.bytes),
        bytes(space.free_bytes),
        bytes(space.reserve_bytes)
    )
    .execute(db)
    .await?;
    Ok(())
}

/// For the operator.
pub mod overview {
    use domain::{AppId, AppName, InstanceState, ProcessName, ReleaseNumber};

    use super::*;

    #[derive(Debug, Clone)]
    pub struct Server {
        pub id: ServerId,
        pub name: String,
        pub region: String,
        pub cores: i32,
        /// What apps may use.
        pub memory_bytes: i64,
        pub memory_used_bytes: i64,
        /// Of its living instances.
        pub memory_reserved_bytes: i64,
        /// Thousandths of a core, lately.
        pub cpu_millis: Option<i32>,
        /// In a quarter of a minute, lately; and those of them that no app answered.
        pub requests: Option<i64>,
        pub unanswered: Option<i64>,
        pub instances: i64,
        pub builds: i64,
        /// Of the disk that its data is on; 0: not known yet.
        pub disk_bytes: i64,
        pub disk_free_bytes: i64,
        /// Below that, it takes nothing new.
        pub disk_reserve_bytes: i64,
        /// How long ago it was heard from; it is written down every ten seconds.
        pub silent_seconds: Option<f64>,
    }

    pub async fn servers(db: impl PgExecutor<'_>) -> Result<Vec<Server>> {
        Ok(query_as!(
            Server,
            r#"select s.id, s.name, s.region, s.cores, s.memory_bytes, s.memory_used_bytes,
                      coalesce(i.memory_bytes, 0)::int8 as "memory_reserved_bytes!",
                      s.cpu_millis, s.requests, s.unanswered, coalesce(i.instances, 0) as "instances!",
                      (select count(*) from deploy where server_id = s.id and state = 'building') as "builds!",
                      s.disk_bytes, s.disk_free_bytes, s.disk_reserve_bytes,
                      extract(epoch from now() - s.seen)::float8 as silent_seconds
               from server s
               left join (select server_id, count(*) as instances, sum(memory_bytes) as memory_bytes from instance
                          where ended is null group by server_id) i on i.server_id = s.id
               order by s.name"#
        )
        .fetch_all(db)
        .await?)
    }

    #[derive(Debug, Clone)]
    pub struct Instance {
        pub server_id: ServerId,
        pub app: AppName,
        pub process: ProcessName,
        pub index: i32,
        pub state: InstanceState,
        pub memory_bytes: i64,
    }

    /// The living, at most `limit`, by server and app.
    pub async fn instances(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Instance>> {
        Ok(query_as!(
            Instance,
            "select i.server_id, a.name as app, i.process, i.index, i.state, i.memory_bytes
             from instance i join app a on a.id = i.app_id
             where i.ended is null order by i.server_id, a.name, i.process, i.index limit $1",
            limit
        )
        .fetch_all(db)
        .await?)
    }

    /// What would have to run elsewhere if its server died.
    #[derive(Debug, Clone)]
    pub struct Running {
        pub server_id: ServerId,
        pub app_id: AppId,
        pub release_number: ReleaseNumber,
        pub process: ProcessName,
        pub memory_bytes: i64,
    }

    /// In the order in which the coordinator looks for places.
    pub async fn running(db: impl PgExecutor<'_>) -> Result<Vec<Running>> {
        Ok(query_as!(
            Running,
            r#"select server_id, app_id, release_number, process, memory_bytes from instance
               where ended is null and wanted = 'run' and process <> 'release'
               order by app_id, release_number, process collate "C", index"#
        )
        .fetch_all(db)
        .await?)
    }
}
