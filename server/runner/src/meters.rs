//! Readings on their way to PostgreSQL: kept on disk until a report's answer says that they are
//! committed, merged by maximum, so that loss, order and repetition do not matter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Bound::{Excluded, Included};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::wire::Committed;
use domain::{AppId, InstanceId, Life, Meter, Reading, Time};

use crate::sandbox::make_dir;

/// A value that grew by less (microseconds, bytes) is not worth a write: a power cut would lose that much.
const JOURNAL_STEP: u64 = 10_000;
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

/// Of an app, by all its instances, since it was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    pub cpu_micros: u64,
    pub bytes_out: u64,
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
    /// What each counter of a life said last.
    last: HashMap<(Life, Meter), u64>,
    /// They began under a former runner: what their counters say at first is not news.
    resumed: HashSet<(Life, Meter)>,
    used: BTreeMap<AppId, Used>,
}

/// What a runner reads.
const METERS: [Meter; 2] = [Meter::Cpu, Meter::BytesOut];

impl Meters {
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        make_dir(&data_dir.join("spool"), 0o700)?;
        let path = data_dir.join("spool/readings");
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let mut entries: BTreeMap<Key, Entry> = BTreeMap::new();
        let mut last: HashMap<(Life, Meter), u64> = HashMap::new();
        // A line that a power cut left half-written is skipped.
        for reading in text.lines().filter_map(|l| serde_json::from_str::<Reading>(l).ok()) {
            let highest = last.entry((reading.life.clone(), reading.meter)).or_default();
            *highest = reading.value.max(*highest);
            let entry = entries.entry((reading.life, reading.app, reading.meter, reading.hour)).or_default();
            if reading.value >= entry.value {
                entry.value = reading.value;
                entry.at = reading.at.unix_micros();
                entry.journaled = reading.value;
            }
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let journal = OpenOptions::new().create(true).append(true).open(&path)?;
        let (resumed, used) = (HashSet::new(), BTreeMap::new());
        let state = State { entries, journal, bytes: u64::MAX, last, resumed, used };
        let meters = Self { path, boot_id, state: Mutex::new(state) };
        meters.compact()?;
        Ok(meters)
    }

    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of an instance: its counters begin anew with the kernel, and with each generation.
    pub fn life(&self, instance: InstanceId, generation: Option<i64>) -> io::Result<Life> {
        let generation = generation.map(|n| format!("/{n}")).unwrap_or_default();
        format!("{}/{instance}{generation}", self.boot_id).parse().map_err(io::Error::other)
    }

    /// Of an instance of this boot: the life that was read last, where a reading of it is still here, and whose it is.
    pub fn life_of(&self, instance: InstanceId) -> Option<(Life, AppId)> {
        let id = instance.to_string();
        let of = |life: &Life| {
            let mut parts = life.as_str().split('/');
            let is = parts.next() == Some(&self.boot_id) && parts.next() == Some(&id);
            is.then(|| parts.next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(0))
        };
        let state = self.lock();
        let all = state.entries.keys().filter_map(|(life, app, ..)| Some((of(life)?, life, *app)));
        all.max().map(|(_, life, app)| (life.clone(), app))
    }

    /// What a counter said when it was last read.
    pub fn last(&self, life: &Life, meter: Meter) -> u64 {
        self.lock().last.get(&(life.clone(), meter)).copied().unwrap_or(0)
    }

    /// Notes what a counter says now.
    pub fn read(&self, life: &Life, app: AppId, meter: Meter, value: u64, now: Time) -> io::Result<()> {
        self.note(life, app, (meter, value), now, false)
    }

    /// Notes the last values of a life; returns when they are on disk, so that its counters may go.
    pub fn read_last(&self, life: &Life, app: AppId, values: &[(Meter, u64)], now: Time) -> io::Result<()> {
        for value in values {
            self.note(life, app, *value, now, true)?;
        }
        let mut state = self.lock();
        for ((other, ..), entry) in &mut state.entries {
            entry.is_over |= other == life;
        }
        state.journal.sync_data()
    }

    /// What was used since this was asked last.
    pub fn take_used(&self) -> BTreeMap<AppId, Used> {
        std::mem::take(&mut self.lock().used)
    }

    fn note(&self, life: &Life, app: AppId, (meter, value): (Meter, u64), now: Time, always: bool) -> io::Result<()> {
        let mut state = self.lock();
        let counter = (life.clone(), meter);
        let is_first = state.resumed.remove(&counter);
        let known = state.last.get(&counter).copied().unwrap_or(0);
        if value < known {
            return Ok(());
        }
        state.last.insert(counter, value);
        let grown = if is_first { 0 } else { value - known };
        let used = state.used.entry(app).or_default();
        *(if meter == Meter::Cpu { &mut used.cpu_micros } else { &mut used.bytes_out }) += grown;
        // CPU time is read at least once an hour; what sends nothing has nothing to say.
        if meter != Meter::Cpu && known == value && !always {
            return Ok(());
        }
        let key = (life.clone(), app, meter, now.hour());
        let entry = state.entries.entry(key).or_default();
        if value < entry.value {
            return Ok(());
        }
        entry.value = value;
        entry.at = now.unix_micros();
        if value < entry.journaled + JOURNAL_STEP && !(always && value > entry.journaled) {
            return Ok(());
        }
        let reading = Reading { life: life.clone(), app, meter, hour: now.hour(), value, at: now };
        let mut line = serde_json::to_vec(&reading).map_err(io::Error::other)?;
        line.push(b'\n');
        let key = (life.clone(), app, meter, now.hour());
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

    /// Forgets what is committed up to its value and cannot grow any more; of a life that goes on, its last stays:
    /// a counter that is lost goes on from there, also under the next runner.
    pub fn committed(&self, told: &Committed, now: Time) {
        let mut state = self.lock();
        for c in &told.readings {
            let key = (c.life.clone(), c.app, c.meter, c.hour);
            let later = (c.life.clone(), c.app, c.meter, Time::from_unix_micros(i64::MAX));
            let has_later = state.entries.range((Excluded(&key), Included(&later))).next().is_some();
            let Some(entry) = state.entries.get_mut(&key) else { continue };
            entry.committed = entry.committed.max(c.value).max(1);
            let is_done = entry.is_over || (c.hour < now.hour() && has_later);
            if entry.committed >= entry.value && is_done {
                if entry.is_over {
                    state.last.remove(&(c.life.clone(), c.meter));
                }
                state.entries.remove(&key);
            }
        }
    }

    /// These go on under this runner. Marks what no running instance will ever add to: lives that ended with a
    /// former runner or a former boot.
    pub fn resume(&self, lives: &[Life]) {
        let mut state = self.lock();
        for ((life, ..), entry) in &mut state.entries {
            entry.is_over = !lives.contains(life);
        }
        state.last.retain(|(life, _), _| lives.contains(life));
        state.resumed = lives.iter().flat_map(|life| METERS.map(|meter| (life.clone(), meter))).collect();
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
        let life = meters.life(InstanceId(7), None).unwrap();
        meters.read(&life, AppId(1), Meter::Cpu, 1_000_000, now).unwrap();
        meters.read_last(&life, AppId(1), &[(Meter::Cpu, 1_000_001)], now).unwrap();
        drop(meters);

        let meters = Meters::open(dir.path()).unwrap();
        meters.resume(&[]);
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
        let life = meters.life(InstanceId(7), Some(3)).unwrap();
        for (at, value) in [(10 * HOUR, 20_000), (10 * HOUR + 9, 40_000), (11 * HOUR + 1, 70_000)] {
            meters.read(&life, AppId(1), Meter::Cpu, value, Time::from_unix_micros(at)).unwrap();
        }
        let values: Vec<_> = meters.pending().iter().map(|r| (r.hour.unix_micros() / HOUR, r.value)).collect();
        assert_eq!(values, [(10, 40_000), (11, 70_000)]);
        // The running hour's is known to be committed and yet kept: it still grows.
        let (first, second) = (meters.pending()[0].clone(), meters.pending()[1].clone());
        let now = Time::from_unix_micros(11 * HOUR + 2);
        meters.committed(&committed(&first, 40_000), now);
        meters.committed(&committed(&second, 70_000), now);
        assert!(meters.pending().is_empty());
        meters.read(&life, AppId(1), Meter::Cpu, 70_001, now).unwrap();
        assert_eq!(meters.pending()[0].value, 70_001);
    }

    #[test]
    fn what_a_counter_said_is_known_as_long_as_it_counts_and_what_is_new_of_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |hours: i64| Time::from_unix_micros(hours * HOUR);
        let used = |meters: &Meters| meters.take_used().remove(&AppId(1)).unwrap_or_default();
        let meters = Meters::open(dir.path()).unwrap();
        let (old, new) = (meters.life(InstanceId(7), Some(1)).unwrap(), meters.life(InstanceId(7), Some(2)).unwrap());
        meters.read(&old, AppId(1), Meter::BytesOut, 0, at(10)).unwrap();
        assert!(meters.pending().is_empty(), "it sent nothing");
        meters.read(&old, AppId(1), Meter::BytesOut, 50_000, at(10)).unwrap();
        meters.read(&old, AppId(1), Meter::Cpu, 30_000, at(10)).unwrap();
        assert_eq!(used(&meters), Used { cpu_micros: 30_000, bytes_out: 50_000 });
        meters.read(&old, AppId(1), Meter::BytesOut, 50_000, at(12)).unwrap();
        for reading in meters.pending() {
            meters.committed(&committed(&reading, reading.value), at(12));
        }
        drop(meters);

        // Hours later a new runner finds it with a counter that was lost, and the other one.
        let meters = Meters::open(dir.path()).unwrap();
        meters.resume(std::slice::from_ref(&old));
        assert_eq!(meters.life_of(InstanceId(7)), Some((old.clone(), AppId(1))));
        assert_eq!(meters.last(&old, Meter::BytesOut), 50_000);
        for bytes in [50_100, 50_100, 50_400, 3] {
            meters.read(&old, AppId(1), Meter::BytesOut, bytes, at(14)).unwrap();
        }
        assert_eq!(used(&meters).bytes_out, 300, "what a former runner did not see belongs to no stretch");
        assert_eq!(meters.last(&old, Meter::BytesOut), 50_400);
        meters.read_last(&old, AppId(1), &[(Meter::Cpu, 90_000), (Meter::BytesOut, 50_500)], at(14)).unwrap();
        meters.read(&new, AppId(1), Meter::BytesOut, 7, at(14)).unwrap();
        assert_eq!(used(&meters).bytes_out, 107);
        let last: Vec<_> = meters.pending().iter().filter(|r| r.hour == at(14)).map(|r| r.value).collect();
        assert_eq!(last, [90_000, 50_500, 7]);
        assert_eq!(meters.life_of(InstanceId(7)), Some((new, AppId(1))));
    }
}
