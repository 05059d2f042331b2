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
//! Start reading at `keeper`: who ends what when a test is killed. A whole Berth is in `berth`, a person
//! who uses it in `person` and `visitor`.

mod berth;
mod command;
pub mod counters;
mod crowd;
mod disk;
mod json;
#[cfg(feature = "servers")]
mod keeper;
mod left;
mod load;
mod orphans;
mod person;
#[cfg(feature = "servers")]
mod postgres;
#[cfg(feature = "servers")]
mod redis;
pub mod series;
mod stop;
mod visitor;

pub use self::berth::{Berth, Operator};
pub use self::command::{read, run, said};
pub use self::crowd::{Crowd, fill};
pub use self::disk::SmallDisk;
pub use self::json::Json;
pub use self::left::nothing_left;
pub use self::load::{Ask, Load, Tally};
pub use self::orphans::no_orphans;
pub use self::person::Person;
#[cfg(feature = "servers")]
pub use self::postgres::{Postgres, PostgresServer, empty, postgres, sql_of_stopped};
#[cfg(feature = "servers")]
pub use self::redis::{Redis, redis};
pub use self::stop::{asked_to_stop, go_on, kill_hard, listen_for_stop, pause, terminate, wait};
pub use self::visitor::{Answer, Heard, Visitor};
