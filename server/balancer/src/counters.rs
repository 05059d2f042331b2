//! What the files of counters say, for whoever holds the ledger against them: read, never written.

use std::fs;
use std::io;
use std::path::Path;

use domain::{AppId, Life, Meter};

use crate::meters::{CELL, HEADER, MAGIC, paths};

/// Of each balancer that counts or counted in `dir`. A file that is not one of counters is left out: it is none that
/// a balancer counts in.
pub fn counters(dir: &Path) -> io::Result<Vec<(Life, AppId, Meter, u64)>> {
    let mut counters = Vec::new();
    for path in paths(dir) {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(cause),
        };
        let Some(id) = bytes.get(12..28).filter(|_| bytes.starts_with(MAGIC)) else { continue };
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let life: Life = id.parse().map_err(io::Error::other)?;
        let from = usize::try_from(HEADER).map_err(io::Error::other)?;
        for cell in bytes.get(from..).unwrap_or_default().chunks_exact(CELL) {
            // As `meters::Cell` lays them out.
            let word = |at: usize| {
                let eight = cell.get(at * 8..at * 8 + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
                eight.map_or(0, u64::from_le_bytes)
            };
            let app = AppId(word(0).cast_signed());
            if app.0 == 0 {
                break;
            }
            for (meter, at) in [(Meter::Requests, 1), (Meter::BytesOut, 6)] {
                counters.push((life.clone(), app, meter, word(at)));
            }
        }
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meters::Meters;

    #[test]
    fn what_a_balancer_counts_is_read_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(counters(dir.path()).unwrap(), []);
        let mut meters = Meters::open(dir.path()).unwrap();
        for (app, requests) in [(7, 3), (9, 1)] {
            let slot = meters.slot(AppId(app));
            (0..requests).for_each(|_| slot.count());
            slot.count_bytes(100);
        }
        let life = meters.life().clone();
        let of = |app, meter, value| (life.clone(), AppId(app), meter, value);
        let expected = [
            of(7, Meter::Requests, 3),
            of(7, Meter::BytesOut, 100),
            of(9, Meter::Requests, 1),
            of(9, Meter::BytesOut, 100),
        ];
        assert_eq!(counters(dir.path()).unwrap(), expected);
    }
}
