//! Instances: one life of an address each.

use std::net::IpAddr;

use domain::{
    AppId, CustomerId, InstanceId, InstanceState, ProcessName, Reason, ReleaseNumber, ServerId, Time, Wanted,
};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

/// As a person sees it.
#[derive(Debug, Clone)]
pub struct Instance {
    pub id: InstanceId,
    pub app_id: AppId,
    pub process: ProcessName,
    pub index: i32,
    pub release_number: ReleaseNumber,
    pub wanted: Wanted,
    pub state: InstanceState,
    pub reason: Option<String>,
    pub hint: Option<String>,
    pub restarts: i32,
    pub memory_bytes: i64,
    pub created: Time,
    pub healthy: Option<Time>,
    pub server: String,
}

/// The living instances of all apps of `customer`.
pub async fn list(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Instance>> {
    Ok(query_as!(
        Instance,
        "select i.id, i.app_id, i.process, i.index, i.release_number, i.wanted, i.state, i.reason, i.hint, i.restarts,
                i.memory_bytes, i.created, i.healthy, s.name as server
         from app a join instance i on i.app_id = a.id join server s on s.id = i.server_id
         where a.customer_id = $1 and a.state <> 'deleted' and i.ended is null
         order by i.process, i.index, i.id",
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// The living instances of an app whose owner was checked.
pub async fn of_app(db: impl PgExecutor<'_>, app: AppId) -> Result<Vec<Instance>> {
    Ok(query_as!(
        Instance,
        "select i.id, i.app_id, i.process, i.index, i.release_number, i.wanted, i.state, i.reason, i.hint, i.restarts,
                i.memory_bytes, i.created, i.healthy, s.name as server
         from instance i join server s on s.id = i.server_id
         where i.app_id = $1 and i.ended is null
         order by i.process, i.index, i.id",
        app.0
    )
    .fetch_all(db)
    .await?)
}

/// For the coordinator, across owners.
pub mod all {
    use super::*;

    #[derive(Debug, Clone)]
    pub struct Instance {
        pub id: InstanceId,
        pub app_id: AppId,
        pub release_number: ReleaseNumber,
        pub process: ProcessName,
        pub index: i32,
        pub server_id: ServerId,
        pub address: IpAddr,
        pub wanted: Wanted,
        pub state: InstanceState,
        pub reason: Option<String>,
        pub hint: Option<String>,
        pub restarts: i32,
        pub memory_bytes: i64,
        pub created: Time,
        pub drain_since: Option<Time>,
        pub ended: Option<Time>,
    }

    /// The living, and the dead whose address still rests.
    pub async fn instances(tx: &mut Tx) -> Result<Vec<Instance>> {
        Ok(query_as!(
            Instance,
            "select id, app_id, release_number, process, index, server_id, address, wanted, state, reason, hint, restarts,
                    memory_bytes, created, drain_since, ended
             from instance where ended is null or not address_free order by id"
        )
        .fetch_all(&mut ***tx)
        .await?)
    }

    /// Instances of a slot that could not run, lately: what a back-off is counted from.
    #[derive(Debug, Clone)]
    pub struct Failed {
        pub app_id: AppId,
        pub release_number: ReleaseNumber,
        pub process: ProcessName,
        pub index: i32,
        pub times: i64,
        pub last: Time,
        pub reason: Option<String>,
        pub hint: Option<String>,
    }

    pub async fn failed(tx: &mut Tx) -> Result<Vec<Failed>> {
        Ok(query_as!(
            Failed,
            r#"select app_id, release_number, process, index, count(*) as "times!", max(ended) as "last!: Time",
                      (array_agg(reason order by ended desc))[1] as reason,
                      (array_agg(hint order by ended desc))[1] as hint
               from instance where state = 'failed' and ended > now() - interval '1 hour'
               group by app_id, release_number, process, index"#
        )
        .fetch_all(&mut ***tx)
        .await?)
    }

    #[derive(Debug, Clone)]
    pub struct NewInstance<'a> {
        pub app: AppId,
        pub release: ReleaseNumber,
        pub process: &'a ProcessName,
        pub index: u16,
        pub server: ServerId,
        pub address: IpAddr,
        pub memory_bytes: u64,
    }

    pub async fn place(tx: &mut Tx, new: NewInstance<'_>) -> Result<InstanceId> {
        Ok(query_scalar!(
            "insert into instance (app_id, release_number, process, index, server_id, address, memory_bytes, created)
             values ($1, $2, $3, $4, $5, $6, $7, clock_timestamp()) returning id",
            new.app.0,
            new.release.0,
            new.process.as_str(),
            i32::from(new.index),
            new.server.0,
            new.address as IpAddr,
            i64::try_from(new.memory_bytes).unwrap_or(i64::MAX),
        )
        .fetch_one(&mut ***tx)
        .await?)
    }

    /// False: it was not wanted `from` any more.
    pub async fn want(tx: &mut Tx, instance: InstanceId, from: Wanted, to: Wanted) -> Result<bool> {
        let done = query!(
            "update instance set wanted = $3,
                    drain_since = case when $3 = 'drain' then clock_timestamp() else drain_since end
             where id = $1 and wanted = $2 and ended is null",
            instance.0,
            from.as_str(),
            to.as_str()
        )
        .execute(&mut ***tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// What its runner says of a living instance; true if that is news.
    pub async fn report(
        tx: &mut Tx,
        server: ServerId,
        instance: InstanceId,
        state: InstanceState,
        reason: Option<&Reason>,
        restarts: i32,
    ) -> Result<bool> {
        let done = query!(
            "update instance set state = $3, reason = $4, hint = $5, restarts = $6,
                    healthy = case when $3 = 'healthy' then coalesce(healthy, clock_timestamp()) else healthy end,
                    ended = case when $7 then clock_timestamp() end
             where id = $1 and server_id = $2 and ended is null
               and (state, reason, hint, restarts) is distinct from ($3, $4, $5, $6)",
            instance.0,
            server.0,
            state.as_str(),
            reason.map(|r| r.message.as_str()),
            reason.and_then(|r| r.hint.as_deref()),
            restarts,
            state.is_gone()
        )
        .execute(&mut ***tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// A living instance of a server that is given up: nobody will say that it ended.
    pub async fn give_up(tx: &mut Tx, instance: InstanceId, reason: &str) -> Result<bool> {
        let done = query!(
            "update instance set state = 'stopped', wanted = 'stop', reason = $2, ended = clock_timestamp()
             where id = $1 and ended is null",
            instance.0,
            reason
        )
        .execute(&mut ***tx)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    pub async fn free_address(tx: &mut Tx, instance: InstanceId) -> Result<()> {
        query!("update instance set address_free = true where id = $1 and ended is not null", instance.0)
            .execute(&mut ***tx)
            .await?;
        Ok(())
    }

    /// What a reading of an instance is held against.
    #[derive(Debug, Clone)]
    pub struct Metered {
        pub id: InstanceId,
        pub app_id: AppId,
        pub server_id: ServerId,
        pub created: Time,
    }

    pub async fn metered(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<Vec<Metered>> {
        Ok(query_as!(Metered, "select id, app_id, server_id, created from instance where id = any($1)", ids)
            .fetch_all(db)
            .await?)
    }
}
