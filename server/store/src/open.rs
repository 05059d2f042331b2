//! Connections: a pool, transactions, and the wake-ups.

use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::time::Duration;

use domain::Secret;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Postgres};

use crate::Result;

/// A statement takes milliseconds; what takes longer waits for something that will not come.
const STATEMENT_TIMEOUT: &str = "15s";
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections under one database role. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
    options: PgConnectOptions,
}

impl Db {
    /// Connects when it is first needed: PostgreSQL may be away.
    pub fn open(url: &Secret<String>, connections_max: u32) -> Result<Self> {
        let options = PgConnectOptions::from_str(url.expose())?.options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "30s"),
            ("timezone", "UTC"),
            // That there was nothing to roll back is no news.
            ("client_min_messages", "error"),
            // To compile a statement takes longer than any of ours.
            ("jit", "off"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Instead of a ping: whoever stopped waiting while a transaction was being begun (a browser that
            // went away) left one open, and the next on that connection would be in it (sqlx 0.9, `begin`).
            .test_before_acquire(false)
            .before_acquire(|connection, _| {
                Box::pin(async { sqlx::raw_sql("rollback").execute(connection).await.map(|_| true) })
            })
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options })
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx { transaction: self.pool.begin().await? })
    }

    /// A transaction that sees one moment, and writes nothing.
    pub async fn snapshot(&self) -> Result<Tx> {
        let statement = "begin isolation level repeatable read read only";
        Ok(Tx { transaction: self.pool.begin_with(statement).await? })
    }

    /// Hears every change of control: commands, deploys, instances.
    pub async fn listen(&self) -> Result<Listener> {
        // A pool of its own, of one connection: a listener keeps it for good.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(self.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        // A closed connection must be said: what was sent meanwhile is lost, and a look makes up for it.
        listener.ignore_pool_close_event(true);
        listener.listen("control").await?;
        Ok(Listener { listener })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Rolled back unless committed.
#[derive(Debug)]
pub struct Tx {
    transaction: sqlx::Transaction<'static, Postgres>,
}

impl Tx {
    pub async fn commit(self) -> Result<()> {
        Ok(self.transaction.commit().await?)
    }
}

impl Deref for Tx {
    type Target = sqlx::Transaction<'static, Postgres>;
    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

impl AsMut<PgConnection> for Tx {
    fn as_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

/// Wake-ups from PostgreSQL; they carry no data: look again.
#[derive(Debug)]
pub struct Listener {
    listener: PgListener,
}

impl Listener {
    /// Returns at the next change, or when some may have been missed (the connection was lost and is
    /// back). Cancel-safe.
    pub async fn changed(&mut self) -> Result<()> {
        self.listener.try_recv().await?;
        // Those that are here already are the same news.
        while self.listener.next_buffered().is_some() {}
        Ok(())
    }
}
