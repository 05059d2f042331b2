//! Parts that hang, and everything that is cut off: DESIGN 'When a part fails'.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::counters::{answered, kernel_cpu, total};
use harness::{Visitor, go_on, kill_hard, no_orphans, pause, wait};

use crate::given::{DEPLOY, Given, SOON, given, samples};

/// Lets `during` happen while an engine neither runs nor ends.
fn hangs(g: &mut Given, engine: &str, during: impl FnOnce(&mut Given) -> Result<()>) -> Result<()> {
    let all = g.berth.engine(engine)?;
    ensure!(!all.is_empty(), "no {engine} runs");
    all.iter().for_each(|process| pause(*process));
    let done = during(g);
    all.iter().for_each(|process| go_on(*process));
    done.with_context(|| format!("while {engine} hung"))
}

fn serves(g: &Given) -> Result<()> {
    let mut visitor = g.visitor("tides");
    for _ in 0..30 {
        let status = visitor.get("/")?.status;
        ensure!(status == 200, "the app answered {status}");
    }
    Ok(())
}

#[test]
fn apps_serve_while_postgresql_or_redis_hangs_and_people_are_told() {
    given("away", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        g.change("tides", "index.html", "Tide table, after the calm")?;
        hangs(g, "postgres", |g| {
            serves(g)?;
            let page = g.site.get("/apps")?;
            ensure!(page.status == 503 && page.body.contains("does not answer"), "{}: {}", page.status, page.body);
            let (taken, said) = g.push("tides")?;
            ensure!(!taken && said.contains("does not answer"), "a push without a database:\n{said}");
            serves(g)
        })?;
        g.page_says("/apps", "tides")?;
        ensure!(g.berth.sql("select count(*) from deploy")? == "1", "a deploy was half done");
        g.push_well("tides")?;
        g.answers("tides", "after the calm")?;
        hangs(g, "redis", |g| {
            serves(g)?;
            let mut other = Visitor::new(&g.berth.site, g.berth.http);
            let refused = g.person.sign_in_again(&g.berth.operator(), &mut other);
            let said = refused.err().context("somebody signed in without sessions")?.to_string();
            ensure!(said.contains("503"), "signing in: {said}");
            serves(g)
        })?;
        g.page_says("/apps", "tides")?;
        let counted = answered(&g.berth, "tides")?;
        wait(Duration::from_secs(90), || {
            let have = total(&g.berth, "requests", "")?;
            ensure!(have == counted, "the balancer counted {counted} requests, PostgreSQL has {have}");
            Ok(())
        })
    });
}

const COUNTS: &str = r#"
import http.server, os, threading, time
def count():
    n = 0
    while True:
        n += 1
        print("line", n, "of", os.environ["BERTH_RELEASE"], flush=True)
        time.sleep(0.004)
threading.Thread(target=count, daemon=True).start()
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(os.environ["PORT"]))
"#;

/// The numbers of the lines that logs has of the only app, in its order.
fn lines(g: &Given) -> Result<Vec<u64>> {
    let mut segments: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(g.berth.data.join("logs/1/app"))? {
        segments.push(entry?.path());
    }
    segments.sort();
    let mut numbers = Vec::new();
    for segment in segments {
        let text = String::from_utf8_lossy(&fs::read(segment)?).into_owned();
        let after = text.split("line ").skip(1).filter(|rest| rest.contains(" of "));
        numbers.extend(after.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()));
    }
    Ok(numbers)
}

fn no_line_is_lost_or_doubled(g: &Given, beyond: u64) -> Result<()> {
    wait(SOON, || {
        let last = lines(g)?.last().copied().unwrap_or(0);
        ensure!(last > beyond, "the last line is {last}, not beyond {beyond}");
        Ok(())
    })?;
    let lines = lines(g)?;
    let wrong = lines.iter().zip(1..).find(|(is, should)| **is != *should);
    ensure!(wrong.is_none(), "of {} lines the first that is not in its place is {wrong:?}", lines.len());
    Ok(())
}

#[test]
fn what_is_adopted_loses_no_line_and_after_a_power_cut_everything_starts_again() {
    given("power", |g| {
        g.app_of("tides", &[("app.py", COUNTS), ("requirements.txt", ""), ("Procfile", "web: exec python3 app.py\n")])?;
        g.push_well("tides")?;
        g.answers("tides", "app.py")?;
        let kept = g.berth.app_processes("app.py")?;
        ensure!(!kept.is_empty(), "no process of the app was found");
        for role in ["runner", "logs", "everything", "logs", "everything"] {
            let seen = lines(g)?.last().copied().unwrap_or(0);
            if role == "everything" {
                kill_hard(g.berth.pid());
                g.berth.start_again()?;
            } else {
                kill_hard(g.berth.process(role)?);
            }
            no_line_is_lost_or_doubled(g, seen + 500).with_context(|| format!("{role} was killed"))?;
        }
        ensure!(g.berth.app_processes("app.py")? == kept, "the instance was started again");
        let cpu_ns: u64 = kernel_cpu(g.berth.slice)?.values().sum();
        wait(SOON, || {
            let have = total(&g.berth, "cpu", "")?;
            ensure!(have >= cpu_ns / 1000, "the kernel counted {} µs, PostgreSQL has {have}", cpu_ns / 1000);
            Ok(())
        })?;
        // As a power cut: nothing runs any more.
        g.app("harbour", "static")?;
        g.push_well("harbour")?;
        kill_hard(g.berth.pid());
        g.berth.shims()?.into_iter().for_each(kill_hard);
        g.berth.app_processes("")?.into_iter().for_each(kill_hard);
        g.berth.start_again()?;
        g.answers("harbour", "Tide table")?;
        g.answers("tides", "app.py")?;
        wait(SOON, || no_orphans(&g.berth))
    });
}

/// Until the branch is where the repository is.
fn moved(g: &Given, app: &str) -> Result<()> {
    let head = harness::read(g.person.git(app).args(["rev-parse", "HEAD"]))?;
    wait(DEPLOY, || {
        let at = harness::read(g.person.git(app).args(["ls-remote", "berth", "refs/heads/main"]))?;
        ensure!(at.starts_with(head.trim()), "the branch is at {at}, not {head}");
        Ok(())
    })
}

/// Pushes, and lets `meanwhile` happen when the last deploy is in one of `states`.
fn while_it_is(g: &Given, app: &str, states: &str, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let before: i64 = g.berth.sql("select coalesce(max(id), 0) from deploy")?.parse()?;
    std::thread::scope(|scope| {
        let person = g.person.clone();
        let pushing = scope.spawn(move || person.git(app).args(["push", "-q", "berth", "main"]).status());
        let query = format!("select count(*) from deploy where id > {before} and state in ({states})");
        let is = wait(SOON, || {
            ensure!(g.berth.sql(&query)? == "1", "the deploy is not {states}");
            Ok(())
        });
        let done = is.and_then(|()| meanwhile());
        pushing.join().map_err(|_| anyhow::anyhow!("the push failed oddly"))??;
        done
    })
}

#[test]
fn a_build_survives_its_runner_and_a_branch_its_receiver() {
    given("steps", |g| {
        g.person.create(&mut g.site, "notes")?;
        g.person.prepare("notes", &samples().join("pages"))?;
        g.push_well("notes")?;
        let build = fs::read_to_string(samples().join("pages/build.js"))?;
        let slow = "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000);\n";
        g.change("notes", "build.js", &format!("{slow}{build}"))?;
        let runner = g.berth.process("runner")?;
        // git's own sandbox ends with the runner, and so does the push; its deploy goes on.
        while_it_is(g, "notes", "'building'", || {
            // In the middle of the build script.
            wait(SOON, || {
                ensure!(!g.berth.app_processes("build.js")?.is_empty(), "the build script does not run");
                Ok(())
            })?;
            kill_hard(runner);
            Ok(())
        })?;
        moved(g, "notes")?;
        wait(SOON, || no_orphans(&g.berth))?;
        g.change("notes", "pages/index.md", "# Moved on\n")?;
        let receiver = g.berth.process("receiver")?;
        while_it_is(g, "notes", "'switching', 'live'", || {
            kill_hard(receiver);
            Ok(())
        })?;
        g.answers("notes", "Moved on")?;
        moved(g, "notes")?;
        // The next receiver takes the step up when the claim of the killed one is over.
        wait(DEPLOY, || {
            let open = g.berth.sql("select count(*) from deploy_step where ended is null")?;
            ensure!(open == "0", "{open} steps are still open");
            Ok(())
        })
    });
}

#[test]
fn an_address_rests_while_a_balancer_that_stands_still_may_use_it() {
    given("rests", |g| {
        g.app("tides", "static")?;
        g.push_well("tides")?;
        g.answers("tides", "Tide table")?;
        let balancer = g.berth.process("balancer")?;
        pause(balancer);
        let mut used = BTreeSet::new();
        let pushed = ["the second", "the third"].iter().try_for_each(|says| {
            g.change("tides", "index.html", says)?;
            g.push_well("tides").map(drop)
        });
        let query =
            "select host(address) || ' ' || (ended is not null) || ' ' || address_free from instance order by id";
        let rested = pushed.and_then(|()| {
            wait(DEPLOY, || {
                let rows = g.berth.sql(query)?;
                used = rows.lines().filter_map(|row| row.split(' ').next()).map(str::to_owned).collect();
                ensure!(used.len() == 3, "three instances had other addresses: {rows}");
                ensure!(rows.lines().filter(|row| row.ends_with(" true false")).count() == 2, "two rest: {rows}");
                Ok(())
            })
        });
        go_on(balancer);
        rested?;
        g.answers("tides", "the third")?;
        wait(SOON, || {
            let rows = g.berth.sql(query)?;
            ensure!(rows.lines().filter(|row| row.ends_with(" true true")).count() == 2, "none rests any more: {rows}");
            Ok(())
        })
    });
}
