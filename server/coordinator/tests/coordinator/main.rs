//! The coordinator against the real PostgreSQL and Redis.

// A test that cannot be set up has failed; clippy's exception for tests does not see helpers.
#![allow(clippy::unwrap_used)]

mod config;
mod deploys;
mod lab;
mod leading;
mod readings;
mod verbs;
