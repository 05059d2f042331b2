//! The words of Berth as types: ids, names, hashes, times, states, meters, and the messages
//! that roles exchange (`wire`).
//!
//! Knows: nothing but itself. No IO, no async, no clock, no randomness; compiles to WASM.
//! A type with a private field exists only after its constructor checked it: parse at the door,
//! then carry the proof.

mod amount;
mod calendar;
mod hash;
mod id;
mod log_filter;
mod meter;
mod money;
mod month;
mod name;
mod price;
mod sample;
mod secret;
mod state;
mod stretch;
mod text;
mod time;
pub mod wire;

pub use self::amount::{decimal, grouped, parse_decimal, plain, signed};
pub use self::hash::{BundleHash, CommitId, HashError, ImageHash, SourceHash};
pub use self::id::{AppId, CustomerId, DeployId, InstanceId, KeyId, MailId, PricePlanId, ServerId, TokenId, UserId};
pub use self::log_filter::{LogFilter, in_query};
pub use self::meter::{Life, Meter, Reading};
pub use self::money::{Currency, Money};
pub use self::month::Month;
pub use self::name::{APPS_RESERVED, AppName, Email, Hostname, NameError, ProcessName, StackName};
pub use self::price::{MeterPrice, PriceError, Prices, Tier};
pub use self::sample::{Answers, Latency, SAMPLE_EVERY, Sample, Traffic, Work};
pub use self::secret::Secret;
pub use self::state::{
    AppState, Approval, Cause, DeployState, DiskKind, InstanceState, LinkKind, MailState, Outcome, Reason,
    ReleaseNumber, Step, TokenScope, Wanted,
};
pub use self::stretch::{Stretch, bins};
pub use self::time::Time;
