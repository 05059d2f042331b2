//! Starts the real parts that tests run against, and leaves nothing of them behind.
//!
//! Knows: PostgreSQL, Redis, git, the `berth` binary, all as programs. It depends on no room, so that
//! every room's tests may use it.
//! Never: touches a server's own PostgreSQL or Redis, a port that others could have, or a file outside
//! its own temporary directory.
//!
//! ```ignore
//! let postgres = harness::postgres().await?;      // a database of its own, migrated
//! let pool = sqlx::PgPool::connect(postgres.url()).await?;
//! let redis = harness::redis().await?;            // a server of its own
//! ```
//!
//! Start reading at `keeper`: who ends what when a test is killed.

mod keeper;
mod postgres;
mod redis;

pub use self::postgres::{Postgres, empty, postgres};
pub use self::redis::{Redis, redis};
