//! The small static program beside each sandbox: no async, no allocation worth naming, no secret.
//!
//! - `hold` owns one sandbox: its output, its exit status, its end (see `hold`). The runner may
//!   crash, hang or be replaced meanwhile; no app, no line and no exit status is lost.
//! - `probe` makes one HTTP request as an unprivileged user: a health check with a path.
//! - `hook` is git's `proc-receive` hook inside a git sandbox (also by its name, `proc-receive`).
//!
//! Never: reads a secret, parses what an app prints, or decides anything that the runner decides.

mod hold;
mod hook;
mod lines;
mod probe;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    if name.rsplit('/').next() == Some("proc-receive") {
        return hook::run();
    }
    let verb = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match verb.as_str() {
        "hold" => hold::run(&rest),
        "probe" => probe::run(&rest),
        "hook" => hook::run(),
        _ => {
            eprintln!("use: shim hold|probe|hook");
            ExitCode::from(64)
        }
    }
}
