//! Counters as the kernel and the balancer hold them, and what PostgreSQL has of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::berth::Berth;
use crate::left::{groups, mounts, processes_of};

/// The sum over all lives of the highest value of each.
pub fn total(berth: &Berth, meter: &str, and: &str) -> Result<u64> {
    let query = format!(
        "select coalesce(sum(v), 0) from (select max(value) v from reading where meter = '{meter}' {and} group by life, app_id) l"
    );
    berth.sql(&query)?.parse().context("PostgreSQL's sum is no number")
}

pub fn ended_cpu(berth: &Berth) -> Result<u64> {
    total(berth, "cpu", "and split_part(life, '/', 2) in (select id::text from instance where ended is not null)")
}

/// The requests of `app` as the balancer counted them.
pub fn answered(berth: &Berth, app: &str) -> Result<u64> {
    counted(berth, app, 1)
}

/// And the bytes of its answers.
pub fn sent(berth: &Berth, app: &str) -> Result<u64> {
    counted(berth, app, 6)
}

/// From a file of cells, each with an app's id in its first word.
fn counted(berth: &Berth, app: &str, word: usize) -> Result<u64> {
    const HEADER: usize = 4096;
    const CELL: usize = 64;
    let app: u64 = berth.sql(&format!("select id from app where name = '{app}'"))?.parse()?;
    let number = |cell: &[u8], at: usize| cell[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let (mut sum, mut files) = (0, 0);
    // One a balancer: while one gives way to its successor there are two.
    for entry in fs::read_dir(berth.data.join("balancer"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "meters" && name.strip_prefix("meters.").is_none_or(|n| n.parse::<u32>().is_err()) {
            continue;
        }
        let bytes = fs::read(entry.path())?;
        ensure!(bytes.starts_with(b"BERTHMTR"), "the balancer's counters are of another kind");
        let cells = bytes.get(HEADER..).unwrap_or_default().chunks_exact(CELL);
        sum += cells.filter(|cell| number(cell, 0) == app).map(|cell| number(cell, word * 8)).sum::<u64>();
        files += 1;
    }
    ensure!(files > 0, "the balancer's counters are gone");
    Ok(sum)
}

/// CPU time in ns of each instance's group.
pub fn kernel_cpu(slice: u32) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for root in groups(&mounts()?) {
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
    let pids = processes_of(slice, "platform")?;
    ensure!(!pids.is_empty(), "the platform's control group is empty");
    let mut bytes = 0;
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0 kB");
        bytes += pss.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10;
    }
    Ok(bytes)
}
