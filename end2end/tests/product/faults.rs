//! What fails, and what must not be seen of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::counters::{answered, total};
use harness::{kill_hard, wait};

use crate::given::{Given, SOON, given};
use crate::pushes::answered_all_the_time;

/// Until `role` runs as another process than `before`.
fn runs_again(g: &Given, role: &str, before: u32) -> Result<()> {
    wait(SOON, || {
        ensure!(g.berth.process(role)? != before, "{role} was not started again");
        Ok(())
    })
}

#[test]
fn a_killed_role_is_started_again_and_apps_do_not_notice() {
    given("killed", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        let kept = g.berth.app_processes("berth files")?;
        for role in ["web", "receiver", "control", "logs", "runner", "postgres", "redis"] {
            let before = g.berth.process(role)?;
            let others = ["balancer", "web", "logs"].map(|other| (other, g.berth.process(other)));
            answered_all_the_time(g.visitor("tides"), || {
                kill_hard(before);
                runs_again(g, role, before)
            })?;
            for (other, pid) in others.into_iter().filter(|(other, _)| *other != role) {
                ensure!(g.berth.process(other)? == pid?, "{other} was started again because {role} was killed");
            }
        }
        // The balancer holds the connections: a request that it had is lost, the next is not.
        let before = g.berth.process("balancer")?;
        kill_hard(before);
        runs_again(g, "balancer", before)?;
        g.answers("tides", "Tide table")?;
        ensure!(g.berth.app_processes("berth files")? == kept, "the instance was started again");
        g.page_says("/apps/tides", "tides")?;
        // And all of it still works together.
        g.change("tides", "index.html", "Tide table, after the storm")?;
        g.push_well("tides")?;
        g.answers("tides", "after the storm")
    });
}

#[test]
fn a_killed_supervisor_leaves_apps_running_and_the_next_adopts_them() {
    given("adopts", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        let kept = g.berth.app_processes("berth files")?;
        ensure!(!kept.is_empty(), "no process of the app was found");
        kill_hard(g.berth.pid());
        g.berth.start_again()?;
        g.answers("tides", "Tide table")?;
        ensure!(g.berth.app_processes("berth files")? == kept, "the instance was started again");
        Ok(())
    });
}

#[test]
fn no_request_is_lost_or_counted_twice_whatever_is_killed() {
    given("counts", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        for role in ["control", "redis", "postgres", "runner"] {
            let before = g.berth.process(role)?;
            let mut visitor = g.visitor("tides");
            for n in 0..200 {
                ensure!(visitor.get("/")?.status == 200, "a request was not answered");
                if n == 100 {
                    kill_hard(before);
                }
            }
            runs_again(g, role, before)?;
        }
        let mut counted = 0;
        wait(SOON, || {
            // PostgreSQL, too, may still be on its way up.
            counted = answered(&g.berth, "tides")?;
            Ok(())
        })?;
        ensure!(counted >= 800, "the balancer counted {counted}");
        wait(Duration::from_secs(90), || {
            let have = total(&g.berth, "requests", "")?;
            ensure!(have == counted, "the balancer counted {counted} requests, PostgreSQL has {have}");
            Ok(())
        })
    });
}

#[test]
fn a_stopped_berth_finds_its_apps_again() {
    given("again", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        harness::terminate(g.berth.pid());
        g.berth.start_again()?;
        g.answers("tides", "Tide table")?;
        g.change("tides", "index.html", "Tide table, the day after")?;
        g.push_well("tides")?;
        g.answers("tides", "the day after")
    });
}

#[test]
fn a_start_that_fails_ends_no_app() {
    given("hindered", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        let kept = g.berth.app_processes("berth files")?;
        kill_hard(g.berth.pid());
        g.berth.wait()?;
        // Its port is taken by another, as soon as the balancer has seen that its supervisor is gone.
        let mut other = None;
        wait(SOON, || {
            other = Some(std::net::TcpListener::bind(g.berth.http)?);
            Ok(())
        })?;
        ensure!(g.berth.start_again().is_err(), "it started without its port");
        drop(other);
        g.berth.wait()?;
        g.berth.start_again()?;
        g.answers("tides", "Tide table")?;
        ensure!(g.berth.app_processes("berth files")? == kept, "the instance was started again");
        Ok(())
    });
}
