//! Every SQL statement of the platform, one file a table family.
//!
//! Knows: PostgreSQL and `domain`. A function takes an executor (`db.pool()` or a transaction), or
//! `&mut Tx` where it must be in one. What a person asks for names its owner, in the `where`; only
//! engines read across owners, in functions that say so.
//! Never: decides anything, or holds a statement in another room.
//!
//! The statements are checked against `.sqlx` when they are compiled (`cargo xtask sql` renews it).

mod error;
mod migrate;
mod open;
pub mod outside;

pub mod app;
pub mod bill;
pub mod branch;
pub mod config;
pub mod customer;
pub mod decision;
pub mod deploy;
pub mod disk;
pub mod event;
pub mod instance;
pub mod key;
pub mod leader;
pub mod ledger;
pub mod mail;
pub mod reading;
pub mod series;
pub mod server;
pub mod token;
pub mod truth;
pub mod user;

pub use self::error::{Constraint, StoreError};
pub use self::migrate::{RolePassword, migrate};
pub use self::open::{Db, Listener, Tx};
pub use self::outside::OutsideError;

pub type Result<T> = std::result::Result<T, StoreError>;
