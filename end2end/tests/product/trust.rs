//! What each process holds, and what it may not.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};

use crate::given::{Given, given};

const ROLES: [&str; 6] = ["web", "receiver", "control", "logs", "balancer", "runner"];

fn status(pid: u32, field: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).context("no such field")?;
    Ok(value.trim().to_owned())
}

#[test]
fn every_process_has_a_user_of_its_own_and_no_power() {
    given("trust", |g| {
        let mut uids = Vec::new();
        for role in ROLES.into_iter().chain(["postgres", "redis"]) {
            let pid = g.berth.process(role)?;
            let uid: u32 = status(pid, "Uid")?.split_whitespace().next().unwrap_or_default().parse()?;
            if role == "runner" {
                ensure!(uid == 0, "the runner is not root");
                continue;
            }
            ensure!(uid > g.berth.uid_first && uid < g.berth.uid_first + 100, "{role} runs as {uid}");
            ensure!(!uids.contains(&uid), "{role} shares its user with another");
            uids.push(uid);
            for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"] {
                let held = u64::from_str_radix(&status(pid, set)?, 16)?;
                ensure!(held == 0, "{role} holds {set} {held:x}");
            }
            ensure!(status(pid, "NoNewPrivs")? == "1", "{role} may gain privileges");
        }
        Ok(())
    });
}

#[test]
fn a_role_can_not_be_looked_into_and_inherits_nothing() {
    given("inherits", |g| {
        for role in ROLES {
            let pid = g.berth.process(role)?;
            // Not dumpable: what the kernel shows of it belongs to root, not to its own user.
            let owner = fs::metadata(format!("/proc/{pid}/environ"))?.uid();
            ensure!(owner == 0, "{role} may be looked into by others of its user");
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline"))?.replace('\0', " ");
            ensure!(words.trim() == format!("berth role {role}"), "{role} was given `{words}`");
            let environment = fs::read_to_string(format!("/proc/{pid}/environ"))?;
            let names: Vec<&str> = environment.split('\0').filter_map(|pair| pair.split('=').next()).collect();
            let known = ["PATH", "LC_ALL", "RUST_BACKTRACE", ""];
            ensure!(names.iter().all(|name| known.contains(name)), "{role} has the variables {names:?}");
            descriptors(g, role, pid)?;
        }
        Ok(())
    });
}

/// Only its own sockets and files: none that another role listens on.
fn descriptors(g: &Given, role: &str, pid: u32) -> Result<()> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(what) = fs::read_link(entry.path()) else { continue };
        let what = what.to_string_lossy().into_owned();
        // Its log is the supervisor's, which `up` writes to a file here.
        let own = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/memfd:settings", "/sys/fs/cgroup", "/proc/"];
        let mut fine = own.iter().any(|kind| what.starts_with(kind));
        fine |= what == g.berth.home().join("log").to_string_lossy();
        fine |= what.starts_with(&*g.berth.data.join(role).to_string_lossy());
        fine |= role == "runner" && what.starts_with(&format!("/run/berth/{}.d/runner", g.berth.slice));
        ensure!(fine, "{role} holds {what}");
    }
    Ok(())
}

#[test]
fn a_role_of_the_database_sees_what_it_needs() {
    given("database", |g| {
        let refused = |role: &str, query: &str| {
            let asked = g.berth.sql(&format!("set role {role}; {query}"));
            ensure!(asked.is_err(), "{role} may `{query}`");
            Ok(())
        };
        refused("berth_receiver", "select password_hash from users")?;
        refused("berth_control", "select password_hash from users")?;
        refused("berth_web", "insert into reading values ('x', 1, 'cpu', now(), 1, now(), 'main')")?;
        refused("berth_web", "update deploy set state = 'live'")?;
        refused("berth_web", "insert into deploy (app_id, number, cause, state) values (1, 1, 'again', 'live')")?;
        refused("berth_receiver", "select public from ssh_key")?;
        g.berth.sql("set role berth_web; select password_hash from users").map(drop)
    });
}

#[test]
fn what_lies_in_the_data_directory_belongs_to_its_one_writer() {
    given("data", |g| {
        let first = g.berth.uid_first;
        for (path, uid) in [("postgres", first + 1), ("redis", first + 2), ("logs", first + 7), ("balancer", first + 8)]
        {
            let meta = fs::metadata(g.berth.data.join(path))?;
            ensure!(
                meta.uid() == uid && meta.mode() & 0o077 == 0,
                "{path} is of {} with mode {:o}",
                meta.uid(),
                meta.mode()
            );
        }
        Ok(())
    });
}
