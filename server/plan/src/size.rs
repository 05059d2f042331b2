//! How many of each process type run, and how big: what the release says, what `berth.toml` says, and what
//! the app's customer chose, the last one winning.

use std::collections::BTreeMap;

use domain::wire::Manifest;
use domain::{ProcessName, Reason};

use crate::Size;

/// Of one process type; the limit of memory is reached before that.
pub const COUNT_MAX: u16 = 32;
/// What an instance may have.
pub const MEMORY_SIZES: [u64; 5] = [256 << 20, 512 << 20, 1 << 30, 2 << 30, 4 << 30];
const MEMORY_BYTES: u64 = 512 << 20;
const CPU_MILLIS: u32 = 1000;

/// `512MiB`, `1GiB`: as in `berth.toml`.
pub fn memory_words(bytes: u64) -> String {
    let gib = 1 << 30;
    if bytes >= gib && bytes.is_multiple_of(gib) {
        format!("{}GiB", bytes / gib)
    } else {
        format!("{}MiB", bytes >> 20)
    }
}

/// What a new release runs. `memory` is what the app's customer chose. `release` is no such process: it runs once.
pub fn formation(manifest: &Manifest, memory: &BTreeMap<ProcessName, u64>) -> BTreeMap<ProcessName, Size> {
    let size = |process: &ProcessName| Size {
        count: manifest.settings.of(process.as_str()).and_then(|s| s.count).unwrap_or(1),
        ..size(manifest, memory, process)
    };
    manifest.processes.keys().filter(|p| !p.is_release()).map(|p| (p.clone(), size(p))).collect()
}

/// Of one instance.
pub(crate) fn size(manifest: &Manifest, memory: &BTreeMap<ProcessName, u64>, process: &ProcessName) -> Size {
    let by_file = || manifest.settings.of(process.as_str()).and_then(|s| s.memory_bytes);
    let memory_bytes = memory.get(process).copied().or_else(by_file).unwrap_or(MEMORY_BYTES);
    Size { count: 1, memory_bytes, cpu_millis: CPU_MILLIS }
}

/// The formation with as many of each process type as the app's customer wants.
pub fn scaled(formation: &mut BTreeMap<ProcessName, Size>, counts: &BTreeMap<ProcessName, u16>) {
    for (process, size) in formation {
        size.count = counts.get(process).copied().unwrap_or(size.count);
    }
}

/// All its instances together.
pub fn memory(formation: &BTreeMap<ProcessName, Size>) -> u64 {
    formation.values().map(|size| u64::from(size.count).saturating_mul(size.memory_bytes)).fold(0, u64::saturating_add)
}

/// Why an app may not run `now` (it ran `was`, its customer's other apps run `others`), of at most `max` in all.
/// To use less is never refused.
pub fn over_memory(was: u64, now: u64, others: u64, max: u64) -> Option<Reason> {
    let all = others.saturating_add(now);
    (now > was && all > max).then(|| {
        let [now, all, max] = [now, all, max].map(|bytes| bytes >> 20);
        Reason::new(format!(
            "it would use {now} MiB of memory, and with your other apps {all} MiB; your limit is {max} MiB"
        ))
        .hint("choose less memory or fewer instances, stop an app, or ask the operator for more")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::wire::{ProcessSettings, Settings};

    fn process(name: &str) -> ProcessName {
        name.parse().unwrap()
    }

    #[test]
    fn the_customers_choice_wins_over_the_file_and_the_file_over_the_default() {
        let says = |memory_bytes, count| ProcessSettings { memory_bytes, count, ..ProcessSettings::default() };
        let manifest = Manifest {
            processes: ["web", "worker", "clock", "release"].map(|p| (process(p), String::new())).into(),
            env: BTreeMap::new(),
            buildpack: String::new(),
            stack: String::new(),
            bytes: 0,
            settings: Settings {
                processes: [
                    (process("web"), says(Some(1 << 30), None)),
                    (process("worker"), says(Some(2 << 30), Some(0))),
                ]
                .into(),
            },
        };
        let mut made = formation(&manifest, &[(process("web"), 256 << 20)].into());
        let got = |made: &BTreeMap<ProcessName, Size>| {
            made.iter()
                .map(|(p, s)| format!("{p}={}x{}", s.count, memory_words(s.memory_bytes)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(got(&made), "clock=1x512MiB web=1x256MiB worker=0x2GiB");
        scaled(&mut made, &[(process("worker"), 2), (process("web"), 3)].into());
        assert_eq!(memory(&made) >> 20, 512 + 3 * 256 + 2 * 2048);
    }

    #[test]
    fn less_is_never_refused() {
        assert!(over_memory(10, 5, 100, 50).is_none());
        assert!(over_memory(0, 50, 0, 50).is_none());
        let reason = over_memory(0, 3 << 30, 1 << 30, 2 << 30).unwrap();
        assert!(reason.message.contains("3072 MiB") && reason.message.contains("4096 MiB"), "{reason}");
    }
}
