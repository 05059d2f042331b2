//! git's `proc-receive` hook: carries the pushed refs to the receiver, prints what it answers.

use std::process::ExitCode;

pub fn run() -> ExitCode {
    eprintln!("this hook needs a receiver");
    ExitCode::from(69)
}
