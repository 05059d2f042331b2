//! `berth doctor`: what this server must have, what it has, and what to do about the difference.
//!
//! `berth up` asks the same questions before it takes anything, and says the same words.
//! Start reading at `examine`; each question is one function that returns one line.

mod host;
mod place;
mod programs;

use std::error::Error;
use std::path::PathBuf;

use serde::Serialize;

use crate::cli::Up;
use crate::outside::{self, Given};
use crate::slice::Slice;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    /// Berth works, and less well.
    Warn,
    /// Berth cannot work.
    Fail,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: State,
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), fix: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Fail, found: found.into(), fix: Some(fix.into()) }
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "fail",
        };
        write!(f, "{state:<5}{:<16}{}", self.name, self.found)?;
        self.fix.iter().try_for_each(|fix| write!(f, "; {fix}"))
    }
}

/// What the questions are about.
pub struct About<'a> {
    settings: &'a Up,
    /// The data directory, where it is there already.
    data: PathBuf,
    /// The slice that belongs to the data, and whether its Berth runs.
    slice: Option<u32>,
    runs: bool,
}

impl<'a> About<'a> {
    pub fn new(settings: &'a Up) -> Self {
        let data = settings.data.canonicalize().unwrap_or_else(|_| settings.data.clone());
        let runs = Slice::of_running(&data).is_some();
        Self { settings, slice: Slice::remembered(&data), data, runs }
    }

    pub fn runs(&self) -> bool {
        self.runs
    }
}

/// Every question, as root; none of them changes anything.
pub fn examine(about: &About<'_>) -> Vec<Check> {
    let given = Given::by_environment();
    // Both by one child.
    let found = outside::look_at(&given, &about.data);
    vec![
        host::cgroups(),
        programs::runtime(),
        host::user_namespaces(),
        programs::nftables(),
        host::forwarding(),
        host::loop_devices(),
        host::file_systems(),
        host::pressure(),
        host::seccomp(),
        programs::packers(),
        programs::git(),
        programs::hg(),
        match &given.database {
            Some(_) => programs::given("PostgreSQL", "DATABASE_URL", &found, |found| found.database.as_ref()),
            None => programs::postgres(&about.data),
        },
        match &given.redis {
            Some(_) => programs::given("Redis", "REDIS_URL", &found, |found| found.redis.as_ref()),
            None => programs::redis(),
        },
        place::data(about),
        place::disk(about),
        place::port(about, "port for HTTP", "--http", about.settings.http),
        place::port(about, "port for SSH", "--ssh", about.settings.ssh),
        place::subnet(about),
        place::names(about),
        host::clock(),
    ]
}

/// Prints a line each; an error when something fails.
pub fn doctor(settings: &Up, json: bool) -> Result<(), Box<dyn Error + Send + Sync>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("`berth doctor` is for root: it looks at what only root may see".into());
    }
    let checks = examine(&About::new(settings));
    if json {
        println!("{}", serde_json::to_string_pretty(&checks)?);
    } else {
        checks.iter().for_each(|check| println!("{check}"));
    }
    match checks.iter().filter(|check| check.state == State::Fail).count() {
        0 => Ok(()),
        1 => Err("one thing keeps Berth from running here".into()),
        n => Err(format!("{n} things keep Berth from running here").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_found_and_what_to_do() {
        let check = Check::fail("OCI runtime", "neither crun nor runc is installed", "apt-get install crun");
        assert_eq!(check.to_string(), "fail OCI runtime     neither crun nor runc is installed; apt-get install crun");
        assert_eq!(Check::ok("clock", "synchronised").to_string(), "ok   clock           synchronised");
    }
}
