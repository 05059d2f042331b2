//! Everything that must hold, cheapest first. The last line counts the tests.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::build::{self, build};
use crate::install::{self, For};
use crate::work::{Work, cargo, clock, need_linux, need_root, run};
use crate::{browser, sql, tidy};

/// Not part of a native build: one is the browser's, the other a tool.
const NOT_NATIVE: [&str; 4] = ["--exclude", "frontend", "--exclude", "bindgen"];

pub fn test() -> Result<()> {
    need_linux()?;
    need_root("cargo xtask test")?;
    let mut work = Work::new(build::STEPS + 6);
    work.step("checking the format");
    run(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
    let berth = build(&mut work, For::Testing)?;
    work.step("holding the rooms against the map");
    tidy::tidy()?;
    work.step("holding the queries against the migrations");
    sql::up_to_date()?;
    work.step("lints");
    run(cargo().args(["clippy", "--workspace"]).args(NOT_NATIVE).args([
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    work.step("tests");
    let mut counts = nextest(&berth)?;
    work.step("the site in a browser");
    let seen = browser::browser(&berth)?;
    counts.passed += seen.passed;
    counts.failed += seen.failed;
    counts.skipped += seen.skipped;
    eprintln!("took {}", clock(work.elapsed()));
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if counts.failed > 0 {
        bail!("not all tests passed");
    }
    Ok(())
}

#[derive(Default, Debug, PartialEq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

fn nextest(berth: &std::path::Path) -> Result<Counts> {
    let nextest = install::nextest_program().context("cargo-nextest is not there")?;
    let mut command = crate::work::program(nextest);
    command.args(["nextest", "run", "--workspace"]).args(NOT_NATIVE);
    command.args(["--no-fail-fast", "--color", "never", "--show-progress", "counter"]);
    // The end-to-end tests start this one.
    command.env("BERTH_BINARY", berth);
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().context("could not start nextest")?;
    let mut counts = None;
    if let Some(said) = child.stderr.take() {
        for line in BufReader::new(said).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            eprintln!("{line}");
            counts = summary(&line).or(counts);
        }
    }
    let status = child.wait()?;
    let counts = counts.context("the tests could not be built")?;
    if !status.success() && counts.failed == 0 {
        bail!("nextest failed ({status})");
    }
    Ok(counts)
}

/// Of `Summary [ 2.1s] 12 tests run: 10 passed (1 slow), 2 failed, 1 skipped`.
fn summary(line: &str) -> Option<Counts> {
    let rest = line.trim_start().strip_prefix("Summary [")?;
    let (_, rest) = rest.split_once(']')?;
    let (run, words) = rest.split_once(" run: ")?;
    // `3/5 tests` when it was stopped early.
    let run: u64 = run.trim().split([' ', '/']).next()?.parse().ok()?;
    let count = |word: &str| {
        words
            .split(", ")
            .filter_map(|part| part.split_once(' '))
            .find(|(_, what)| what.starts_with(word))
            .and_then(|(n, _)| n.parse().ok())
    };
    let (passed, skipped) = (count("passed").unwrap_or(0), count("skipped").unwrap_or(0));
    Some(Counts { passed, failed: run - passed, skipped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_pass_has_failed() {
        let line =
            "     Summary [   2.105s] 12 tests run: 9 passed (1 slow, 1 leaky), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(summary(line), Some(Counts { passed: 9, failed: 3, skipped: 3 }));
        assert_eq!(
            summary("     Summary [   0.1s] 1 test run: 1 passed, 0 skipped"),
            Some(Counts { passed: 1, ..Counts::default() })
        );
        assert_eq!(summary("        PASS [   0.1s] harness x"), None);
    }
}
