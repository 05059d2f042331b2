//! What the operator types on the server.

use std::process::Command;

use anyhow::ensure;
use harness::said;

use crate::given::{binary, given};

#[test]
fn help_shows_every_setting_and_its_variable() {
    let (well, said) = said(Command::new(binary().unwrap()).args(["up", "--help"])).unwrap();
    assert!(well, "{said}");
    let flags: Vec<&str> = said.lines().filter_map(|line| line.trim().strip_prefix("--")).collect();
    assert!(flags.len() >= 8, "{said}");
    for flag in flags {
        let name = flag.split(' ').next().unwrap_or_default();
        let variable = format!("BERTH_{}", name.to_uppercase().replace('-', "_"));
        assert!(said.contains(&variable), "--{name} has no {variable}:\n{said}");
    }
}

#[test]
fn who_is_not_root_is_told_so() {
    let mut up = Command::new("setpriv");
    // A directory that anybody may pass through: the binary's own may be private.
    let copy = std::env::temp_dir().join(format!("berth-not-root-{}", std::process::id()));
    std::fs::copy(binary().unwrap(), &copy).unwrap();
    up.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&copy);
    let told = said(up.args(["up", "--data", "/nonexistent"]));
    std::fs::remove_file(&copy).unwrap();
    let (well, said) = told.unwrap();
    assert!(!well && said.contains("needs root"), "{said}");
}

#[test]
fn a_data_directory_has_one_berth_and_no_password() {
    given("shell", |g| {
        let (well, told) = said(Command::new(binary()?).args(["up", "--data"]).arg(&g.berth.data))?;
        ensure!(!well && told.contains("another `berth up` runs"), "a second one started:\n{told}");

        let log = g.berth.last_words();
        let first = log.lines().find(|line| line.starts_with("operator"));
        ensure!(first.is_some_and(|line| line.contains("/signin/link/")), "the first start prints no link:\n{log}");
        for line in log.lines().filter(|line| line.starts_with('{')) {
            ensure!(
                harness::Json::parse(line)?.at("level").text() != "",
                "a line of the log is not structured: {line}"
            );
        }
        let without = g.berth.sql("select count(*) from users where password_hash is not null")?;
        ensure!(without == "0", "a user has a password that nobody chose");

        let (well, told) =
            said(Command::new(binary()?).args(["user", "create", "ada@localhost", "--data"]).arg(&g.berth.data))?;
        ensure!(!well && told.contains("berth:"), "a user was made twice:\n{told}");

        harness::terminate(g.berth.pid());
        g.berth.start_again()?;
        let links = g.berth.last_words().matches("/signin/link/").count();
        ensure!(links <= 1, "a later start prints another operator's link");
        Ok(())
    });
}

#[test]
fn two_berths_run_beside_each_other() {
    given("one", |one| {
        one.app("tides", "static")?;
        one.push_well("tides")?;
        let slice = one.berth.slice;
        given("two", |two| {
            ensure!(two.berth.slice != slice, "both have slice {slice}");
            two.app("tides", "static")?;
            two.push_well("tides")?;
            two.answers("tides", "Tide table")
        });
        // The other one is gone, and took nothing of this one's along.
        one.answers("tides", "Tide table")?;
        one.change("tides", "index.html", "Tide table, alone")?;
        one.push_well("tides")?;
        one.answers("tides", "alone")
    });
}
