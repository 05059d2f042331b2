//! Berth as a person uses it: a real `berth up`, the real git over OpenSSH, a browser's forms, and faults.
//! Each test has an installation of its own, and holds that it leaves nothing behind.
#![allow(clippy::unwrap_used)]

mod away;
mod bounds;
mod commands;
mod config;
mod disk;
mod faults;
mod given;
mod kills;
mod languages;
mod lossless;
mod people;
mod processes;
mod pushes;
mod restored;
mod shell;
mod supervise;
mod trust;
