//! Whether a fleet can lose a server.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use domain::{AppId, ProcessName, ReleaseNumber, ServerId};

use crate::deploy::BUILD_MEMORY_BYTES;

/// A server as its rows tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub server: ServerId,
    /// It gets something new: it was heard of lately.
    pub answers: bool,
    /// So does its disk.
    pub has_room: bool,
    /// What apps may use, and what is reserved of it.
    pub memory_bytes: u64,
    pub reserved_bytes: u64,
    pub builds: u64,
    /// What would have to run elsewhere, in the order in which places are looked for.
    pub runs: Vec<Runs>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    pub app: AppId,
    pub release: ReleaseNumber,
    pub process: ProcessName,
    pub memory_bytes: u64,
}

/// A server whose loss would leave some of what it runs without a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stranded {
    pub server: ServerId,
    pub runs: usize,
    pub without_place: usize,
}

/// Each server that answers, were it the only one to die now: what would be found no place on the others, looked for as
/// [`crate::place`] does it. None that could be lost.
pub fn stranded(servers: &[Standing]) -> Vec<Stranded> {
    let here = servers.iter().filter(|s| s.answers);
    let lost = here.map(|lost| Stranded {
        server: lost.server,
        runs: lost.runs.len(),
        without_place: without_place(servers, lost),
    });
    lost.filter(|lost| lost.without_place > 0).collect()
}

type Kind<'a> = (AppId, ReleaseNumber, &'a ProcessName);

fn kind(runs: &Runs) -> Kind<'_> {
    (runs.app, runs.release, &runs.process)
}

struct Left<'a> {
    standing: &'a Standing,
    free: u64,
    alike: BTreeMap<Kind<'a>, usize>,
}

fn without_place(servers: &[Standing], lost: &Standing) -> usize {
    let others = servers.iter().filter(|s| s.answers && s.server != lost.server && s.memory_bytes > 0);
    let mut others: Vec<Left<'_>> = others
        .map(|standing| {
            let taken = standing.reserved_bytes.saturating_add(standing.builds.saturating_mul(BUILD_MEMORY_BYTES));
            let mut alike = BTreeMap::new();
            standing.runs.iter().for_each(|runs| *alike.entry(kind(runs)).or_default() += 1);
            Left { standing, free: standing.memory_bytes.saturating_sub(taken), alike }
        })
        .collect();
    let mut without = 0;
    for runs in &lost.runs {
        let chosen = others
            .iter_mut()
            .filter(|left| left.free >= runs.memory_bytes)
            // What serves has its image there or not: a full disk is the last choice.
            .min_by_key(|left| {
                let alike = left.alike.get(&kind(runs)).copied().unwrap_or(0);
                (!left.standing.has_room, alike, Reverse(left.free), left.standing.server)
            });
        match chosen {
            Some(left) => {
                left.free -= runs.memory_bytes;
                *left.alike.entry(kind(runs)).or_default() += 1;
            }
            None => without += 1,
        }
    }
    without
}
