//! Holds what Berth did against what it should have done.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use harness::counters::{answered, ended_cpu, kernel_cpu, total};
use harness::{Berth, Person, Visitor, wait};

use crate::demo::{SAMPLES, WALK};
use crate::work::Work;

/// How much later than its use a reading may be in PostgreSQL.
const ARRIVES: Duration = Duration::from_secs(60);

/// How long a deploy may take on a busy machine.
const DEPLOYS: Duration = Duration::from_secs(60);

/// Some requests to each app; every one must be answered well.
pub fn traffic(berth: &Berth, each: u64) -> Result<()> {
    for sample in &SAMPLES {
        let mut visitor = Visitor::new(&berth.app(sample.name), berth.http);
        for _ in 0..each {
            let answer = visitor.get("/")?;
            ensure!(answer.status == 200, "{} answered {}", sample.name, answer.status);
        }
    }
    Ok(())
}

pub fn check(work: &mut Work, berth: &Berth, person: &Person, site: &mut Visitor, sent: u64) -> Result<()> {
    work.step("checking pages, logs, a second push, and a refused one");
    pages(site)?;
    second_push(berth, person)?;
    refused_push(berth, person)?;
    work.step("checking a worker and its log");
    worker(berth, site)?;
    work.step("checking a change of a config var, and a roll back");
    config(berth, site)?;
    work.step("checking a crash and its restart");
    crash(berth)?;
    work.step("checking the counters");
    counters(berth, sent)?;
    work.step("holding counters, readings, prices and postings against each other");
    let (holds, said) = berth.command(&["ledger", "verify"])?;
    ensure!(holds, "berth ledger verify: {said}");
    Ok(())
}

fn pages(site: &mut Visitor) -> Result<()> {
    for (path, _) in WALK.iter().filter(|(path, _)| !path.starts_with("/operator")) {
        let page = site.get(path)?;
        ensure!(page.status == 200 && page.body.contains("</html>"), "{path} answered {}", page.status);
    }
    wait(Duration::from_secs(20), || {
        let page = site.get("/apps/guestbook")?;
        ensure!(page.body.contains("home was read"), "the app's page does not show its log line `home was read`");
        Ok(())
    })
}

/// Runs `change`; `app` is asked until it says `says`, and no answer is anything but 200.
fn seen_without_loss(berth: &Berth, app: &str, says: &str, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let mut visitor = Visitor::new(&berth.app(app), berth.http);
    change()?;
    let (mut lost, mut said) = (None, String::new());
    let seen = wait(DEPLOYS, || {
        let answer = visitor.get("/")?;
        if answer.status != 200 {
            lost = Some(answer.status);
        }
        said = answer.body;
        ensure!(said.contains(says) || lost.is_some(), "{app} does not say `{says}` but `{said}`");
        Ok(())
    });
    if let Some(status) = lost {
        bail!("while {app} was changed a request was answered {status}: {said}");
    }
    seen
}

fn posted(site: &mut Visitor, path: &str, fields: &[(&str, &str)]) -> Result<()> {
    let answer = site.post(path, fields)?;
    ensure!(answer.status == 303, "POST {path} answered {}: {}", answer.status, answer.body);
    Ok(())
}

/// `release` ran before it; it runs beside `web`, and its lines are in the app's log.
fn worker(berth: &Berth, site: &mut Visitor) -> Result<()> {
    let deploy = site.get("/apps/mailroom/deploys/1")?;
    ensure!(deploy.body.contains("the shelves are ready"), "the deploy's log has no line of its `release` process");
    wait(DEPLOYS, || {
        let page = site.get("/apps/mailroom")?;
        ensure!(page.body.contains("is sorted"), "the app's page does not show a line of its worker");
        let running = berth
            .sql("select count(*) from instance where process = 'worker' and state = 'healthy' and ended is null")?;
        ensure!(running == "1", "{running} workers run");
        Ok(())
    })
}

/// A variable makes a release that has it; rolled back, it is gone.
fn config(berth: &Berth, site: &mut Visitor) -> Result<()> {
    seen_without_loss(berth, "guestbook", "Log book", || {
        posted(site, "/apps/guestbook/config", &[("name", "BOOK"), ("value", "Log book")])
    })?;
    seen_without_loss(berth, "guestbook", "Guest book", || posted(site, "/apps/guestbook/deploys/1/roll-back", &[]))
}

/// Killed, an app's processes are started again, and it is counted.
fn crash(berth: &Berth) -> Result<()> {
    let killed = berth.app_processes("gunicorn")?;
    ensure!(!killed.is_empty(), "no process of the guest book runs");
    killed.iter().for_each(|pid| harness::kill_hard(*pid));
    let mut visitor = Visitor::new(&berth.app("guestbook"), berth.http);
    wait(DEPLOYS, || {
        let answer = visitor.get("/")?;
        ensure!(answer.status == 200, "after a crash guestbook answers {}", answer.status);
        let restarts = berth.sql(
            "select max(restarts) from instance i join app a on a.id = i.app_id where a.name = 'guestbook' and ended is null",
        )?;
        ensure!(restarts.parse::<u32>().is_ok_and(|n| n > 0), "no restart was counted");
        ensure!(berth.app_processes("gunicorn")?.iter().all(|pid| !killed.contains(pid)), "the killed ones still run");
        Ok(())
    })
}

/// While a change is pushed every request is answered; afterwards the new release answers.
fn second_push(berth: &Berth, person: &Person) -> Result<()> {
    let page = person.repository("tides").join("index.html");
    let text = fs::read_to_string(&page)?.replace("Tide table", "Tide table, second edition");
    fs::write(&page, text)?;
    person.commit("tides", "Second")?;
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut visitor = Visitor::new(&berth.app("tides"), berth.http);
    let pushed = std::thread::scope(|scope| {
        let asking = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                let answer = visitor.get("/")?;
                ensure!(answer.status == 200, "a request during the push was answered {}", answer.status);
                asked.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let pushed = crate::work::run(person.git("tides").args(["push", "berth", "main"]));
        stop.store(true, Ordering::Relaxed);
        let answered = asking.join().unwrap_or_else(|_| bail!("asking failed"));
        pushed.and(answered)
    });
    pushed?;
    ensure!(asked.load(Ordering::Relaxed) > 0, "no request was sent during the push");
    let answer = Visitor::new(&berth.app("tides"), berth.http).get("/")?;
    ensure!(answer.body.contains("second edition"), "after the push the old release answers");
    Ok(())
}

/// A tree that nothing can be made of: the push fails with the reason, and the old release serves.
fn refused_push(berth: &Berth, person: &Person) -> Result<()> {
    let repository = person.repository("tides");
    for entry in fs::read_dir(&repository)?.flatten().filter(|entry| entry.file_name() != ".git") {
        fs::remove_file(entry.path())?;
    }
    fs::write(repository.join("notes.txt"), "nothing to run\n")?;
    person.commit("tides", "Nothing to run")?;
    let output = person.git("tides").args(["push", "berth", "main"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "a push that nothing can be made of was taken:\n{said}");
    ensure!(said.contains("rejected"), "a refused push did not say so:\n{said}");
    let answer = Visitor::new(&berth.app("tides"), berth.http).get("/")?;
    ensure!(answer.body.contains("second edition"), "after a refused push the old release does not answer");
    Ok(())
}

/// Stopped, an app's final counters are what PostgreSQL has: CPU the kernel's, requests the balancer's.
fn counters(berth: &Berth, sent: u64) -> Result<()> {
    let mut cpu = BTreeMap::new();
    // CPU time of instances that ended before is told by PostgreSQL alone.
    let before = ended_cpu(berth)?;
    berth.sql("update app set state = 'stopped'")?;
    wait(ARRIVES, || {
        for (group, ns) in kernel_cpu(berth.slice)? {
            let known = cpu.entry(group).or_insert(0);
            *known = ns.max(*known);
        }
        let left = berth.sql("select count(*) from instance where ended is null")?;
        ensure!(left == "0", "{left} instances still run");
        Ok(())
    })?;
    ensure!(!cpu.is_empty(), "no instance's control group was seen");
    let kernel: u64 = cpu.values().sum::<u64>() / 1000;
    wait(ARRIVES, || {
        let have = total(berth, "cpu", "")?.saturating_sub(before);
        // The last look at a group was up to one round before its end.
        ensure!(
            have >= kernel && have <= kernel + 500_000,
            "the kernel counted {kernel} µs of CPU, PostgreSQL has {have}"
        );
        Ok(())
    })?;
    for sample in &SAMPLES {
        let of = format!("and app_id = (select id from app where name = '{}')", sample.name);
        let counted = answered(berth, sample.name)?;
        ensure!(counted >= sent, "{sent} requests were sent to {}, the balancer counted {counted}", sample.name);
        wait(ARRIVES, || {
            let have = total(berth, "requests", &of)?;
            ensure!(
                have == counted,
                "the balancer counted {counted} requests of {}, PostgreSQL has {have}",
                sample.name
            );
            Ok(())
        })?;
    }
    Ok(())
}
