//! The binary: command line, settings, the supervisor, and the roles that it starts.
//!
//! `berth up` is the supervisor: it takes a slice of the server, starts PostgreSQL and Redis, opens the
//! sockets, and starts one child for each process of the design, under its own user. It accepts no
//! connection and parses nothing but its own settings.
//! Start reading at `up::up`, then `supervisor::Supervisor`, `keep::Keeper`, `child::spawn`, `role::role`.
//! `resume` is how a supervisor goes on as another program.

mod cgroup;
mod child;
mod cli;
mod doctor;
mod door;
mod embedded;
mod engines;
mod keep;
mod keys;
mod ledger;
mod listeners;
mod outside;
mod process;
mod restore;
mod resume;
mod role;
mod slice;
mod supervisor;
mod up;
mod user;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let done = match cli::Cli::parse().verb {
        cli::Verb::Up(settings) => up::up(&settings),
        cli::Verb::Restart { roles, at } => door::ask(&at.data, &door::Ask::Restart { roles }),
        cli::Verb::Upgrade { binary, at } => door::ask(&at.data, &door::Ask::Upgrade { binary }),
        cli::Verb::Doctor { settings, json } => doctor::doctor(&settings, json),
        cli::Verb::User(user) => user::user(&user),
        cli::Verb::Ledger(asked) => ledger::ledger(&asked),
        cli::Verb::Restore(restore) => restore::restore(&restore),
        cli::Verb::Look => outside::look_for_parent(),
        cli::Verb::Files { root, port } => role::files(root, port),
        cli::Verb::Role { name } => role::role(&name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("berth: {}", chain(&*cause));
            ExitCode::FAILURE
        }
    }
}

/// What happened, and each cause of it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
