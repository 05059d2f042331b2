//! What the kernel's counters of living instances say, for whoever holds the ledger against them.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use domain::{Life, Meter};

use crate::cgroup::Cgroups;
use crate::counters;
use crate::net::table_of;
use crate::seat::id_of;

/// Of each instance of a slice that runs: CPU time in microseconds, and bytes that it sent to the internet.
pub fn counters_of(slice: u32) -> io::Result<Vec<(Life, Meter, u64)>> {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let life = |counter: &str| -> io::Result<Life> {
        let parts = counter.strip_prefix('i').unwrap_or(counter).replace('g', "/");
        format!("{}/{parts}", boot_id.trim()).parse().map_err(io::Error::other)
    };
    let groups = Cgroups::find(slice)?;
    let units = groups.units();
    // Before what was sent: an instance that begins between the two is in neither.
    let cpu: BTreeMap<&str, u64> =
        units.iter().filter_map(|unit| Some((unit.as_str(), groups.cpu_micros(unit).ok()?))).collect();
    let mut told = Vec::new();
    // The latest life of each: its group may outlive the one before.
    let mut latest: BTreeMap<String, (u64, Life)> = BTreeMap::new();
    for (counter, bytes) in counters::all(&table_of(slice))? {
        let (unit, generation) = counter.split_once('g').unwrap_or((&counter, "0"));
        let Some(generation) = id_of(unit).and_then(|_| generation.parse::<u64>().ok()) else { continue };
        let life = life(&counter)?;
        told.push((life.clone(), Meter::BytesOut, bytes));
        if latest.get(unit).is_none_or(|(other, _)| *other < generation) {
            latest.insert(unit.to_owned(), (generation, life));
        }
    }
    // One that goes while it is looked at has its last reading in the spool.
    let of_unit = |(unit, (_, life)): (String, (u64, Life))| Some((life, Meter::Cpu, *cpu.get(unit.as_str())?));
    told.extend(latest.into_iter().filter_map(of_unit));
    Ok(told)
}
