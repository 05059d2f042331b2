//! The truth comes back older: nothing is stopped, deleted or numbered from it until the operator has looked.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{kill_hard, no_orphans, read, wait};

use crate::given::{DEPLOY, Given, SOON, given};

/// More than a leader's lease, and many looks.
const LONG: Duration = Duration::from_secs(12);

fn copy(g: &Given, from: &str, to: &str) -> Result<()> {
    let at = |name: &str| g.berth.data.join(name);
    if at(to).exists() {
        std::fs::remove_dir_all(at(to))?;
    }
    read(Command::new("cp").arg("-a").arg(at(from)).arg(at(to))).map(drop)
}

fn numbers(g: &Given, query: &str) -> Result<BTreeSet<String>> {
    Ok(g.berth.sql(query)?.lines().map(str::to_owned).collect())
}

#[test]
fn an_older_database_decides_nothing_until_the_operator_accepts_it() {
    given("restored", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        // kill -9 of everything is what a copy of a disk is like.
        kill_hard(g.berth.pid());
        g.berth.wait()?;
        wait(SOON, || {
            ensure!(g.berth.process("postgres").is_err(), "PostgreSQL runs still");
            Ok(())
        })?;
        copy(g, "postgres", "postgres.before")?;
        g.berth.start_again()?;

        g.change("tides", "index.html", "Tide table, the new one")?;
        g.push_well("tides")?;
        g.answers("tides", "the new one")?;
        g.app("harbour", "static")?;
        g.push_well("harbour")?;
        g.answers("harbour", "Tide table")?;
        let uses = |g: &Given| numbers(g, "select max(id) from app union all select max(id) from instance");
        let given_before = uses(g)?;
        let kept = g.berth.app_processes("berth files")?;
        ensure!(kept.len() == 2, "two instances should run: {kept:?}");

        kill_hard(g.berth.pid());
        g.berth.wait()?;
        wait(SOON, || {
            ensure!(g.berth.process("postgres").is_err(), "PostgreSQL runs still");
            Ok(())
        })?;
        copy(g, "postgres.before", "postgres")?;
        g.berth.start_again()?;
        g.person.sign_in_again(&g.berth.operator(), &mut g.site)?;

        // It says so; nothing is stopped, and what is not known serves all the same.
        g.page_says("/apps", "older than what runs")?;
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            g.answers("tides", "the new one")?;
            g.answers("harbour", "Tide table")?;
            std::thread::sleep(Duration::from_millis(200));
        }
        ensure!(g.berth.app_processes("berth files")? == kept, "an instance was stopped or started");
        ensure!(g.berth.last_words().contains("older than what runs"), "the log says nothing of it");
        // Nor is anything numbered.
        let answer = g.site.post("/apps/new", &[("name", "sand")])?;
        ensure!(answer.status == 503, "making an app answered {}", answer.status);
        let answer = g.site.post("/apps/tides/restart", &[])?;
        ensure!(answer.status == 503, "a restart answered {}", answer.status);
        let (taken, said) = g.push("tides")?;
        ensure!(!taken || said.contains("up-to-date"), "a push was taken:\n{said}");
        // Also by the next process of control.
        kill_hard(g.berth.process("control")?);
        g.answers("harbour", "Tide table")?;

        g.berth.operator().says(&["restore", "accept"])?;
        ensure!(g.berth.operator().says(&["restore", "accept"]).is_err(), "it was accepted twice");
        // What it does not know stops; what it knows serves as it was then.
        wait(DEPLOY, || {
            ensure!(g.visitor("harbour").get("/")?.status == 404, "an app that is not known serves");
            let body = g.visitor("tides").get("/")?.body;
            ensure!(body.contains("Tide table") && !body.contains("the new one"), "tides answers {body}");
            no_orphans(&g.berth)
        })?;
        let page = g.site.get("/apps")?;
        ensure!(!page.body.contains("older than what runs"), "the page says still that it is older");
        // What was lost is pushed again, on the repository as it was then.
        g.push_well("tides")?;
        g.answers("tides", "the new one")?;
        let number: i64 = g.berth.sql("select max(number) from deploy")?.parse()?;
        ensure!(number > 1000, "deploy {number} may have had that number before");
        // And a new app has nothing that was another's.
        g.app("sand", "static")?;
        g.push_well("sand")?;
        g.answers("sand", "Tide table")?;
        let before: Vec<i64> = given_before.iter().filter_map(|n| n.parse().ok()).collect();
        let now = uses(g)?;
        let least = now.iter().filter_map(|n| n.parse::<i64>().ok()).min().context("no app")?;
        ensure!(before.iter().all(|n| *n < least), "ids were given twice: {before:?}, {now:?}");
        wait(SOON, || no_orphans(&g.berth))?;
        let event = g.berth.sql("select count(*) from event where verb = 'restore accept'")?;
        ensure!(event == "1", "{event} events tell of it");
        Ok(())
    });
}
