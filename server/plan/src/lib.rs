//! Every decision, pure: from a snapshot to a list of actions with reasons.
//!
//! Knows: `domain`, and what it is given; the time is an argument. The same input gives the same plan.
//! Never: IO, async, a clock or randomness. It compiles to WASM.
//!
//! An action is one step, applied once: whoever applies it checks that what it was decided on still
//! holds, and drops it otherwise; the next look decides again.
//!
//! Start reading at `fleet`, then `place`, `deploy`, `route`; `collect` says what goes from disk; money begins at `usage`,
//! then `segment`, `rate`, `post`, `bill`.

mod action;
mod address;
mod assign;
mod bill;
pub mod collect;
pub mod cost;
mod deploy;
mod fleet;
mod listen;
mod place;
mod post;
mod rate;
mod release;
mod route;
mod sample;
mod segment;
pub mod series;
mod size;
mod space;
mod spare;
mod usage;

#[cfg(test)]
mod money_tests;
#[cfg(test)]
mod simulated;

pub use self::action::{Act, Action};
pub use self::address::{Subnet, addresses};
pub use self::assign::{Assigned, assign};
pub use self::bill::{AppLine, Bill, Line, Used, add_units, bill};
pub use self::deploy::{BUILD_ATTEMPTS_MAX, BUILD_TIME, START_TIMEOUT, deploy, start_timeout};
pub use self::fleet::{
    App, Deploy, Failure, Fleet, Held, Instance, OpenStep, Presence, Release, Server, Size, Slot, Tip,
};
pub use self::listen::listening;
pub use self::place::{DRAIN_MAX, Refused, SERVER_LEASE, place};
pub use self::post::{Chain, Entry, PostError, Posting, Tail, owed, post};
pub use self::rate::{Share, rate, share_out};
pub use self::release::runs_release;
pub use self::route::{WEB_PORT, route};
pub use self::sample::{Look, Outbox, Stretches};
pub use self::segment::{PricePlan, Segment, segments};
pub use self::size::{COUNT_MAX, MEMORY_SIZES, formation, memory, memory_words, over_memory, scaled};
pub use self::space::{Room, SPACE_HINT, refuses, reserve, room};
pub use self::spare::{Runs, Standing, Stranded, stranded};
pub use self::usage::{Usage, Use, usage};

/// Both halves: what should run where, and how deploys go on. In the order in which it is to be applied.
pub fn plan(fleet: &Fleet, now: domain::Time) -> Vec<Action> {
    let (mut actions, refused) = place(fleet, now);
    actions.extend(deploy(fleet, &refused, now));
    actions
}
