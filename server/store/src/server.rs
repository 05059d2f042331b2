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

/// It reported just now.
pub async fn saw(
    db: impl PgExecutor<'_>,
    server: ServerId,
    boot_id: &str,
    cores: i32,
    memory_bytes: i64,
) -> Result<()> {
    query!(
        "update server set boot_id = $2, cores = $3, memory_bytes = $4, seen = clock_timestamp() where id = $1",
        server.0,
        boot_id,
        cores,
        memory_bytes
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
