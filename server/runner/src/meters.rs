//! Readings on their way to PostgreSQL: kept on disk until a report's answer says that they are
//! committed, merged by maximum, so that loss, order and repetition do not matter.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::wire::Committed;
use domain::{AppId, InstanceId, Life, Meter, Reading, Time};

use crate::sandbox::make_dir;

/// A value that grew by less is not worth a write: a power cut would lose that much.
const JOURNAL_MICROS: u64 = 10_000;
const JOURNAL_BYTES_MAX: u64 = 1 << 20;
pub const REPORTED_MAX: usize = 5_000;

type Key = (Life, AppId, Meter, Time);

#[derive(Debug, Default)]
struct Entry {
    value: u64,
    at: i64,
    committed: u64,
    journaled: u64,
    is_over: bool,
}

pub struct Meters {
    path: PathBuf,
    boot_id: String,
    state: Mutex<State>,
}

struct State {
    entries: BTreeMap<Key, Entry>,
    journal: File,
    bytes: u64,
}

impl Meters {
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        make_dir(&data_dir.join("spool"), 0o700)?;
        let path = data_dir.join("spool/readings");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
        // A line that a power cut left half-written is skipped.
        for reading in text.lines().filter_map(|l| serde_json::from_str::<Reading>(l).ok()) {
            let entry = entries.entry((reading.life, reading.app, reading.meter, reading.hour)).or_default();
            if reading.value >= entry.value {
                entry.value = reading.value;
                entry.at = reading.at.unix_micros();
                entry.journaled = reading.value;
            }
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let journal = OpenOptions::new().create(true).append(true).open(&path)?;
        let meters = Self { path, boot_id, state: Mutex::new(State { entries, journal, bytes: u64::MAX }) };
        meters.compact()?;
        Ok(meters)
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of an instance: its counter begins anew with the kernel, and only then.
    pub fn life(&self, instance: InstanceId) -> io::Result<Life> {
        format!("{}/{instance}", self.boot_id).parse().map_err(io::Error::other)
    }

    /// Notes what a counter says now.
    pub fn read(&self, life: &Life, app: AppId, value: u64, now: Time) -> io::Result<()> {
        self.note(life, app, value, now, false)
    }

    /// Notes the last value of a life; returns when it is on disk, so that the counter may go.
    pub fn read_last(&self, life: &Life, app: AppId, value: u64, now: Time) -> io::Result<()> {
        self.note(life, app, value, now, true)?;
        let mut state = self.lock();
        for ((other, ..), entry) in &mut state.entries {
            entry.is_over |= other == life;
        }
        state.journal.sync_data()
    }

    fn note(&self, life: &Life, app: AppId, value: u64, now: Time, always: bool) -> io::Result<()> {
        let mut state = self.lock();
        let key = (life.clone(), app, Meter::Cpu, now.hour());
        let entry = state.entries.entry(key).or_default();
        if value < entry.value {
            return Ok(());
        }
        entry.value = value;
        entry.at = now.unix_micros();
        if value < entry.journaled + JOURNAL_MICROS && !(always && value > entry.journaled) {
            return Ok(());
        }
        let reading = Reading { life: life.clone(), app, meter: Meter::Cpu, hour: now.hour(), value, at: now };
        let mut line = serde_json::to_vec(&reading).map_err(io::Error::other)?;
        line.push(b'\n');
        let key = (life.clone(), app, Meter::Cpu, now.hour());
        let mut written = state.journal.write_all(&line);
        if written.as_ref().is_err_and(is_disk_full) {
            // What may never fail has room of its own. Half a line may stand there: the next is on a new one.
            let _ = fs::remove_file(self.path.with_extension("room"));
            line.insert(0, b'\n');
            written = state.journal.write_all(&line);
        }
        written?;
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.journaled = value;
        }
        state.bytes += line.len() as u64;
        let is_long = state.bytes > JOURNAL_BYTES_MAX;
        drop(state);
        if is_long { self.compact() } else { Ok(()) }
    }

    /// Whose life it is, where a reading of it is still here.
    pub fn app_of(&self, life: &Life) -> Option<AppId> {
        self.lock().entries.keys().find(|(other, ..)| other == life).map(|(_, app, ..)| *app)
    }

    /// What PostgreSQL does not have yet.
    pub fn pending(&self) -> Vec<Reading> {
        let state = self.lock();
        let open = state.entries.iter().filter(|(_, e)| e.value > e.committed || e.committed == 0);
        open.take(REPORTED_MAX)
            .map(|((life, app, meter, hour), e)| Reading {
                life: life.clone(),
                app: *app,
                meter: *meter,
                hour: *hour,
                value: e.value,
                at: Time::from_unix_micros(e.at),
            })
            .collect()
    }

    /// Forgets what is committed up to its value and cannot grow any more.
    pub fn committed(&self, told: &Committed, now: Time) {
        let mut state = self.lock();
        for c in &told.readings {
            let key = (c.life.clone(), c.app, c.meter, c.hour);
            let Some(entry) = state.entries.get_mut(&key) else { continue };
            entry.committed = entry.committed.max(c.value).max(1);
            if entry.committed >= entry.value && (entry.is_over || c.hour < now.hour()) {
                state.entries.remove(&key);
            }
        }
    }

    /// Marks what no running instance will ever add to: lives that ended with a former runner or
    /// a former boot.
    pub fn over_except(&self, lives: &[Life]) {
        for ((life, ..), entry) in &mut self.lock().entries {
            entry.is_over = !lives.contains(life);
        }
    }

    /// Rewrites the journal with what is still owed.
    fn compact(&self) -> io::Result<()> {
        let mut state = self.lock();
        let mut text = Vec::new();
        for ((life, app, meter, hour), entry) in &state.entries {
            let at = Time::from_unix_micros(entry.at);
            let reading = Reading { life: life.clone(), app: *app, meter: *meter, hour: *hour, value: entry.value, at };
            serde_json::to_writer(&mut text, &reading).map_err(io::Error::other)?;
            text.push(b'\n');
        }
        let new = self.path.with_extension("new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        match write() {
            Err(cause) if is_disk_full(&cause) => {
                let _ = fs::remove_file(self.path.with_extension("room"));
                write()?;
            }
            done => done?,
        }
        fs::rename(&new, &self.path)?;
        keep_room(&self.path.with_extension("room"));
        state.bytes = text.len() as u64 / 2;
        state.journal = OpenOptions::new().append(true).open(&self.path)?;
        for entry in state.entries.values_mut() {
            entry.journaled = entry.value;
        }
        Ok(())
    }
}

fn is_disk_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// As much as a journal grows by, for a disk that is full.
fn keep_room(path: &Path) {
    let kept = File::options().create(true).append(true).open(path).and_then(|file| {
        nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, 4 * JOURNAL_BYTES_MAX as i64)?;
        Ok(())
    });
    if let Err(cause) = kept {
        tracing::warn!("no room could be kept for readings: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use domain::wire::CommittedReading;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn committed(reading: &Reading, value: u64) -> Committed {
        Committed {
            readings: vec![CommittedReading {
                life: reading.life.clone(),
                app: reading.app,
                meter: reading.meter,
                hour: reading.hour,
                value,
            }],
            ..Committed::default()
        }
    }

    #[test]
    fn a_reading_stays_until_its_whole_value_is_committed_also_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_unix_micros(500 * HOUR + 5);
        let meters = Meters::open(dir.path()).unwrap();
        let life = meters.life(InstanceId(7)).unwrap();
        meters.read(&life, AppId(1), 1_000_000, now).unwrap();
        meters.read_last(&life, AppId(1), 1_000_001, now).unwrap();
        drop(meters);

        let meters = Meters::open(dir.path()).unwrap();
        meters.over_except(&[]);
        let pending = meters.pending();
        assert_eq!(pending.iter().map(|r| r.value).collect::<Vec<_>>(), [1_000_001]);
        meters.committed(&committed(&pending[0], 1_000_000), now);
        assert_eq!(meters.pending().len(), 1);
        meters.committed(&committed(&pending[0], 1_000_001), now);
        assert!(meters.pending().is_empty());
        drop(meters);
        // The journal still has the lines: sent once more, merged by maximum, harmless.
        assert!(Meters::open(dir.path()).unwrap().pending().len() <= 1);
    }

    #[test]
    fn a_life_has_a_reading_for_each_hour_it_ran_in() {
        let dir = tempfile::tempdir().unwrap();
        let meters = Meters::open(dir.path()).unwrap();
        let life = meters.life(InstanceId(7)).unwrap();
        for (at, value) in [(10 * HOUR, 20_000), (10 * HOUR + 9, 40_000), (11 * HOUR + 1, 70_000)] {
            meters.read(&life, AppId(1), value, Time::from_unix_micros(at)).unwrap();
        }
        let values: Vec<_> = meters.pending().iter().map(|r| (r.hour.unix_micros() / HOUR, r.value)).collect();
        assert_eq!(values, [(10, 40_000), (11, 70_000)]);
        // The running hour's is known to be committed and yet kept: it still grows.
        let (first, second) = (meters.pending()[0].clone(), meters.pending()[1].clone());
        let now = Time::from_unix_micros(11 * HOUR + 2);
        meters.committed(&committed(&first, 40_000), now);
        meters.committed(&committed(&second, 70_000), now);
        assert!(meters.pending().is_empty());
        meters.read(&life, AppId(1), 70_001, now).unwrap();
        assert_eq!(meters.pending()[0].value, 70_001);
    }
}
