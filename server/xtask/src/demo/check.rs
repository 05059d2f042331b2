//! Holds what Berth did against what it should have done.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::berth::Berth;
use super::left::groups;
use super::person::Person;
use super::{SAMPLES, wait};
use crate::http::Visitor;
use crate::work::Work;

/// How much later than its use a reading may be in PostgreSQL.
const ARRIVES: Duration = Duration::from_secs(60);

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
    work.step("checking the counters");
    counters(berth, sent)
}

fn pages(site: &mut Visitor) -> Result<()> {
    for path in ["/", "/apps", "/account", "/apps/tides", "/apps/guestbook"] {
        let page = site.get(path)?;
        ensure!(page.status == 200 && page.body.contains("</html>"), "{path} answered {}", page.status);
    }
    wait(Duration::from_secs(20), || {
        let page = site.get("/apps/guestbook")?;
        ensure!(page.body.contains("home was read"), "the app's page does not show its log line `home was read`");
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

/// The sum over all lives of the highest value of each.
fn total(berth: &Berth, meter: &str, and: &str) -> Result<u64> {
    let query = format!(
        "select coalesce(sum(v), 0) from (select max(value) v from reading where meter = '{meter}' {and} group by life, app_id) l"
    );
    berth.sql(&query)?.parse().context("PostgreSQL's sum is no number")
}

fn ended_cpu(berth: &Berth) -> Result<u64> {
    total(berth, "cpu", "and split_part(life, '/', 2) in (select id::text from instance where ended is not null)")
}

/// The requests of `app` as the balancer counted them: a file of cells, each with an app's id and its count.
fn answered(berth: &Berth, app: &str) -> Result<u64> {
    const HEADER: usize = 4096;
    const CELL: usize = 64;
    let app: u64 = berth.sql(&format!("select id from app where name = '{app}'"))?.parse()?;
    let bytes = fs::read(berth.data.join("balancer/meters")).context("the balancer's counters are gone")?;
    ensure!(bytes.starts_with(b"BERTHMTR"), "the balancer's counters are of another kind");
    let number = |cell: &[u8], at: usize| cell[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let cells = bytes.get(HEADER..).unwrap_or_default().chunks_exact(CELL);
    Ok(cells.filter(|cell| number(cell, 0) == app).map(|cell| number(cell, 8)).sum())
}

/// CPU time in ns of each instance's group.
fn kernel_cpu(slice: u32) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for root in groups(&fs::read_to_string("/proc/self/mountinfo")?) {
        for entry in fs::read_dir(root.join(format!("berth-{slice}/apps"))).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // `i17`; builds and git have groups of their own.
            let is_instance = name.strip_prefix('i').is_some_and(|id| id.parse::<u64>().is_ok());
            if let Some(ns) = usage(&entry.path()).filter(|_| is_instance) {
                found.insert(name, ns);
            }
        }
    }
    Ok(found)
}

/// v1's `cpuacct.usage`, or v2's `cpu.stat`.
fn usage(group: &Path) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(group.join("cpuacct.usage")) {
        return text.trim().parse().ok();
    }
    let text = fs::read_to_string(group.join("cpu.stat")).ok()?;
    let micros: u64 = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse().ok()?;
    Some(micros * 1000)
}

/// What the platform's processes hold, shared pages by their share.
pub fn memory_of_platform(slice: u32) -> Result<u64> {
    let mut pids = Vec::new();
    for root in groups(&fs::read_to_string("/proc/self/mountinfo")?) {
        let text = fs::read_to_string(root.join(format!("berth-{slice}/platform/cgroup.procs"))).unwrap_or_default();
        pids.extend(text.lines().map(str::to_owned));
    }
    pids.sort();
    pids.dedup();
    ensure!(!pids.is_empty(), "the platform's control group is empty");
    let mut bytes = 0;
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
        bytes += pss.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10;
    }
    Ok(bytes)
}
