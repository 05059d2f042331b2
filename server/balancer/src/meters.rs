//! Requests and bytes of answers by app, counted in a mapped file: kill -9 loses none, and counting is one atomic add.
//!
//! The file's random id is the counters' life (MONEY "A meter is read, not ticked"). A slot belongs
//! to its app for that life: given to another and back, it would begin again below what was already
//! reported. Beside the count lies the last reading, so that a restart still knows what it owes.
//!
//! A balancer that gives way to its successor counts until its last request ends: each has a file of its
//! own, the first that nobody else has locked. What it owes at its end is told by the other ([`Formers`]).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use domain::wire::{Committed, Counts};
use domain::{AppId, Life, Meter, Reading, Time};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use tracing::{error, warn};

#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    #[error("could not make {path} ready")]
    File {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path} is in use: another balancer counts there")]
    InUse { path: PathBuf },
}

pub const MAGIC: &[u8; 8] = b"BERTHMTR";
const VERSION: u32 = 1;
/// Magic, version, 16 bytes of life; then nothing up to the first slot.
pub const HEADER: u64 = 4096;
pub const CELL: usize = size_of::<Cell>();
const SLOTS_A_CHUNK: usize = 1024;
const CHUNK: u64 = (SLOTS_A_CHUNK * size_of::<Cell>()) as u64;
/// Hours of one app that wait for the coordinator; older ones are counted into later ones.
const HOURS_MAX: usize = 72;
pub const READINGS_MAX: usize = 5_000;

/// One app's part of the file.
#[repr(C, align(64))]
struct Cell {
    /// Written last; 0: free.
    app: AtomicI64,
    requests: AtomicU64,
    /// Of these, answered by the balancer itself because the app did not.
    failed: AtomicU64,
    /// The last reading: of which hour, and its value.
    hour: AtomicI64,
    read: AtomicU64,
    /// Answered by the app with 5xx, or broken off by it.
    errors: AtomicU64,
    /// Of its answers, head and body; and the last reading of that. A Berth that did not count them left zeros here,
    /// and leaves them alone: the version of the file is the same.
    bytes_out: AtomicU64,
    bytes_out_read: AtomicU64,
}

const _: () = assert!(size_of::<Cell>() == 64);

/// What is read of a cell.
const METERS: [Meter; 2] = [Meter::Requests, Meter::BytesOut];

impl Cell {
    fn count(&self, meter: Meter) -> &AtomicU64 {
        if meter == Meter::BytesOut { &self.bytes_out } else { &self.requests }
    }

    fn last_read(&self, meter: Meter) -> &AtomicU64 {
        if meter == Meter::BytesOut { &self.bytes_out_read } else { &self.read }
    }
}

/// A stretch of the file in memory; stays as long as anybody counts in it.
struct Chunk(MmapRaw);

impl Chunk {
    fn cell(&self, index: usize) -> &Cell {
        assert!(index < SLOTS_A_CHUNK);
        // SAFETY: the mapping is page-aligned, SLOTS_A_CHUNK cells long, lives as long as `self`,
        // and is only touched through atomics; any bytes are valid ones.
        unsafe { &*self.0.as_mut_ptr().cast::<Cell>().add(index) }
    }
}

/// Where an app's requests are counted.
#[derive(Clone)]
pub struct Slot {
    chunk: Arc<Chunk>,
    index: usize,
}

impl Slot {
    pub fn count(&self) {
        self.chunk.cell(self.index).requests.fetch_add(1, Relaxed);
    }

    /// So many bytes of an answer went out.
    pub fn count_bytes(&self, bytes: usize) {
        self.chunk.cell(self.index).bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub fn bytes_out(&self) -> u64 {
        self.chunk.cell(self.index).bytes_out.load(Relaxed)
    }

    pub fn count_failed(&self) {
        self.chunk.cell(self.index).failed.fetch_add(1, Relaxed);
    }

    pub fn count_error(&self) {
        self.chunk.cell(self.index).errors.fetch_add(1, Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let cell = self.chunk.cell(self.index);
        // In this order: what failed was asked before.
        let (unanswered, errors) = (cell.failed.load(Relaxed), cell.errors.load(Relaxed));
        Counts { requests: cell.requests.load(Relaxed), unanswered, errors }
    }
}

pub struct Meters {
    path: PathBuf,
    file: Flock<File>,
    life: Life,
    chunks: Vec<Arc<Chunk>>,
    slots: HashMap<AppId, Slot>,
    used: usize,
    /// What was read and is not known to be in PostgreSQL: by hour.
    owed: BTreeMap<(AppId, Meter), BTreeMap<Time, u64>>,
    /// Where the next report begins, when one cannot hold all.
    next: (AppId, Meter),
}

const FIRST: (AppId, Meter) = (AppId(0), METERS[0]);

impl Meters {
    /// The first counters in `dir` that nobody else counts in, or new ones. A file that cannot be understood
    /// is put aside.
    pub fn open(dir: &Path) -> Result<Self, MeterError> {
        for path in paths(dir) {
            match Self::open_one(dir, path) {
                Err(MeterError::InUse { .. }) => {}
                other => return other,
            }
        }
        Err(MeterError::InUse { path: dir.join("meters") })
    }

    fn open_one(dir: &Path, path: PathBuf) -> Result<Self, MeterError> {
        let failed = |cause| MeterError::File { path: path.clone(), cause };
        if is_in_use(&path) {
            return Err(MeterError::InUse { path });
        }
        if let Err(why) = check(&path).map_err(failed)? {
            let aside = dir.join(format!("meters.{:016x}.bad", rand::random::<u64>()));
            warn!(path = %path.display(), aside = %aside.display(), "counting begins anew: {why}");
            std::fs::rename(&path, &aside).map_err(failed)?;
        }
        if !path.exists() {
            create(dir, &path).map_err(failed)?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| MeterError::InUse { path: path.clone() })?;
        let mut id = [0; 16];
        file.read_exact_at(&mut id, 12).map_err(failed)?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let life = id.parse().map_err(|e| failed(io::Error::other(e)))?;
        let chunks = (file.metadata().map_err(failed)?.len().saturating_sub(HEADER)) / CHUNK;
        let mut meters = Self {
            path: path.clone(),
            file,
            life,
            chunks: Vec::new(),
            slots: HashMap::new(),
            used: 0,
            owed: BTreeMap::new(),
            next: FIRST,
        };
        for n in 0..chunks {
            let chunk = Arc::new(map(&meters.file, n).map_err(failed)?);
            meters.chunks.push(Arc::clone(&chunk));
            for index in 0..SLOTS_A_CHUNK {
                let cell = chunk.cell(index);
                let app = AppId(cell.app.load(Acquire));
                if app.0 == 0 {
                    return Ok(meters);
                }
                meters.used += 1;
                meters.slots.insert(app, Slot { chunk: Arc::clone(&chunk), index });
                let hour = Time::from_unix_micros(cell.hour.load(Relaxed));
                for meter in METERS {
                    let read = cell.last_read(meter).load(Relaxed);
                    if read > 0 {
                        meters.owed.entry((app, meter)).or_default().insert(hour, read);
                    }
                }
            }
        }
        Ok(meters)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file counts: all values grow only within it.
    pub fn life(&self) -> &Life {
        &self.life
    }

    /// The slot of `app`, for the whole life of the file.
    pub fn slot(&mut self, app: AppId) -> Slot {
        if let Some(slot) = self.slots.get(&app) {
            return slot.clone();
        }
        if self.used == self.chunks.len() * SLOTS_A_CHUNK {
            let chunk = self.grow().unwrap_or_else(|cause| {
                // Visitors come first: these requests are counted in memory only.
                error!(path = %self.path.display(), %cause, "the counters' file cannot grow: the requests of new apps are lost if the balancer is killed");
                Chunk(anonymous())
            });
            self.chunks.push(Arc::new(chunk));
        }
        let (chunk, index) = (&self.chunks[self.used / SLOTS_A_CHUNK], self.used % SLOTS_A_CHUNK);
        chunk.cell(index).app.store(app.0, Release);
        self.used += 1;
        let slot = Slot { chunk: Arc::clone(chunk), index };
        self.slots.insert(app, slot.clone());
        slot
    }

    fn grow(&self) -> io::Result<Chunk> {
        let n = self.chunks.len() as u64;
        // Really allocated: a write into a hole of a full disk would end the process.
        let (offset, length) = ((HEADER + n * CHUNK).cast_signed(), CHUNK.cast_signed());
        fallocate(&*self.file, FallocateFlags::empty(), offset, length).map_err(io::Error::from)?;
        map(&self.file, n)
    }

    /// Something is not known to be committed.
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// What is not known to be committed, and the time it was read: at most 5,000 readings.
    pub fn readings(&mut self, now: Time) -> Vec<Reading> {
        let hour = now.hour();
        for ((app, slot), meter) in self.slots.iter().flat_map(|slot| METERS.map(|meter| (slot, meter))) {
            let cell = slot.chunk.cell(slot.index);
            let value = cell.count(meter).load(Relaxed);
            // Of most apps nothing is new: what was read is owed, or committed.
            if value <= cell.last_read(meter).load(Relaxed) {
                continue;
            }
            let hours = self.owed.entry((*app, meter)).or_default();
            // A reading's time never runs back, whatever the clock does.
            let hour = hours.keys().next_back().copied().unwrap_or(hour).max(hour);
            hours.insert(hour, value);
            while hours.len() > HOURS_MAX {
                hours.pop_first();
            }
            cell.last_read(meter).store(value, Relaxed);
            cell.hour.store(hour.unix_micros(), Relaxed);
        }
        let reading = |(&(app, meter), hours): (&(AppId, Meter), &BTreeMap<Time, u64>)| {
            let life = self.life.clone();
            let one = move |(hour, value): (&Time, &u64)| Reading {
                life: life.clone(),
                app,
                meter,
                hour: *hour,
                value: *value,
                // Of an hour that is over, its last moment: it was not read later.
                at: now.clamp(*hour, hour.plus(std::time::Duration::from_micros(3_599_999_999))),
            };
            hours.iter().map(one).collect::<Vec<_>>()
        };
        let (before, after) = (self.owed.range(..self.next), self.owed.range(self.next..));
        let all: Vec<Reading> = after.chain(before).flat_map(reading).take(READINGS_MAX).collect();
        self.next = match all.last() {
            Some(last) if all.len() == READINGS_MAX => (last.app, last.meter),
            _ => FIRST,
        };
        all
    }

    /// Forgets what PostgreSQL holds.
    pub fn committed(&mut self, committed: &Committed) {
        for held in &committed.readings {
            if held.life != self.life {
                continue;
            }
            let Entry::Occupied(mut owed) = self.owed.entry((held.app, held.meter)) else { continue };
            if owed.get().get(&held.hour).is_some_and(|value| *value <= held.value) {
                owed.get_mut().remove(&held.hour);
            }
            if owed.get().is_empty() {
                owed.remove();
            }
        }
    }

    /// The file, to be written out where that may block: a power cut loses what was not.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Two, as long as one balancer gives way to another; more when several are slow to end.
const FILES_MAX: usize = 16;

pub fn paths(dir: &Path) -> impl Iterator<Item = PathBuf> {
    (0..FILES_MAX).map(move |n| if n == 0 { dir.join("meters") } else { dir.join(format!("meters.{n}")) })
}

/// Somebody counts there.
fn is_in_use(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

/// The counters of balancers that are no more: told on until all is committed.
pub struct Formers {
    dir: PathBuf,
    open: Vec<Meters>,
    /// Owe nothing, until somebody counts there again.
    settled: HashSet<PathBuf>,
}

impl Formers {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), open: Vec::new(), settled: HashSet::new() }
    }

    /// Takes over the counters in which nobody counts any more.
    pub fn look(&mut self, own: &Path) {
        for path in paths(&self.dir).filter(|path| path != own && path.exists()) {
            if self.open.iter().any(|one| one.path == path) {
                continue;
            }
            if self.settled.contains(&path) {
                if is_in_use(&path) {
                    self.settled.remove(&path);
                }
                continue;
            }
            match Meters::open_one(&self.dir, path) {
                Ok(meters) => self.open.push(meters),
                Err(MeterError::InUse { .. }) => {}
                Err(cause) => warn!(%cause, "counters of a former balancer cannot be read"),
            }
        }
    }

    pub fn lives(&self) -> Vec<Life> {
        self.open.iter().map(|one| one.life.clone()).collect()
    }

    pub fn readings(&mut self, now: Time, most: usize) -> Vec<Reading> {
        self.open.iter_mut().flat_map(|one| one.readings(now)).take(most).collect()
    }

    /// As [`Meters::file`]: nobody wrote out what was counted after their last report.
    pub fn files(&self) -> impl Iterator<Item = io::Result<File>> {
        self.open.iter().map(Meters::file)
    }

    pub fn owe(&self) -> bool {
        self.open.iter().any(Meters::owes)
    }

    /// Forgets what PostgreSQL holds; counters that owe nothing are given back.
    pub fn committed(&mut self, committed: &Committed) {
        self.open.iter_mut().for_each(|one| one.committed(committed));
        let (owe, free): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open).into_iter().partition(Meters::owes);
        self.open = owe;
        self.settled.extend(free.into_iter().map(|one| one.path.clone()));
    }
}

/// `Ok(Err(why))` is a file that is none of ours, or of another version.
fn check(path: &Path) -> io::Result<Result<(), String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
        Err(e) => return Err(e),
    };
    let (mut magic, mut version) = ([0; 8], [0; 4]);
    let length = file.metadata()?.len();
    if length < HEADER || file.read_exact(&mut magic).is_err() || &magic != MAGIC {
        return Ok(Err("the file is not one of counters".to_owned()));
    }
    file.read_exact(&mut version)?;
    match u32::from_le_bytes(version) {
        VERSION => Ok(Ok(())),
        other => Ok(Err(format!("the file's version is {other}, not {VERSION}"))),
    }
}

/// A new life, whole or not there at all.
fn create(dir: &Path, path: &Path) -> io::Result<()> {
    let new = dir.join("meters.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(MAGIC)?;
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&rand::random::<u128>().to_le_bytes())?;
    file.set_len(HEADER)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

fn map(file: &File, n: u64) -> io::Result<Chunk> {
    MmapOptions::new().offset(HEADER + n * CHUNK).len(SLOTS_A_CHUNK * size_of::<Cell>()).map_raw(file).map(Chunk)
}

fn anonymous() -> MmapRaw {
    let memory = MmapOptions::new().len(SLOTS_A_CHUNK * size_of::<Cell>()).map_anon();
    memory.expect("64 KiB of memory are given or the process is ended").into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::wire::CommittedReading;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn noon() -> Time {
        Time::from_unix_micros(1_763_380_800_000_000)
    }

    fn values(meters: &mut Meters, now: Time) -> Vec<(i64, Time, u64)> {
        meters.readings(now).iter().map(|r| (r.app.0, r.hour, r.value)).collect()
    }

    fn commit(meters: &mut Meters, readings: &[Reading]) {
        let held = |r: &Reading| CommittedReading {
            life: r.life.clone(),
            app: r.app,
            meter: r.meter,
            hour: r.hour,
            value: r.value,
        };
        meters.committed(&Committed { readings: readings.iter().map(held).collect(), ..Committed::default() });
    }

    #[test]
    fn what_was_counted_is_there_after_a_new_start_in_the_same_life() {
        let dir = tempfile::tempdir().unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        for app in 1..=3000 {
            let slot = meters.slot(AppId(app));
            (0..app % 7).for_each(|_| slot.count());
        }
        let before = values(&mut meters, noon());
        let life = meters.life.clone();
        drop(meters);
        let mut again = Meters::open(dir.path()).unwrap();
        assert_eq!(again.life, life);
        assert_eq!(values(&mut again, noon()), before);
        again.slot(AppId(5)).count();
        let five = values(&mut again, noon()).into_iter().find(|r| r.0 == 5);
        assert_eq!(five, Some((5, noon(), 6)));
    }

    #[test]
    fn two_count_at_once_and_what_the_first_owed_is_told_by_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Meters::open(dir.path()).unwrap();
        let slot = first.slot(AppId(1));
        let mut second = Meters::open(dir.path()).unwrap();
        second.slot(AppId(1)).count();
        assert_ne!(first.life, second.life);
        let mut formers = Formers::new(dir.path());
        slot.count();
        let _ = first.readings(noon());
        // Counted after its last report.
        slot.count();
        formers.look(second.path());
        assert!(formers.lives().is_empty(), "the first still counts");
        let life = first.life.clone();
        drop((first, slot));
        formers.look(second.path());
        assert_eq!(formers.lives(), std::slice::from_ref(&life));
        let told = formers.readings(noon(), 10);
        assert_eq!(told.iter().map(|r| (&r.life, r.value)).collect::<Vec<_>>(), [(&life, 2)]);
        let held = told.iter().map(|r| CommittedReading {
            life: r.life.clone(),
            app: r.app,
            meter: r.meter,
            hour: r.hour,
            value: r.value,
        });
        formers.committed(&Committed { readings: held.collect(), ..Committed::default() });
        assert!(formers.lives().is_empty());
        // The next one counts on there.
        let third = Meters::open(dir.path()).unwrap();
        assert_eq!(third.life, life);
        formers.look(second.path());
        assert!(formers.lives().is_empty(), "the third counts there");
        drop(third);
        formers.look(second.path());
        assert_eq!(formers.lives(), [life]);
    }

    #[test]
    fn a_reading_is_reported_until_it_is_committed_and_each_hour_has_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        let slot = meters.slot(AppId(1));
        assert_eq!(values(&mut meters, noon()), []);
        slot.count();
        let first = meters.readings(noon());
        slot.count();
        assert_eq!(values(&mut meters, noon()), [(1, noon(), 2)]);
        // An answer to the older value leaves the newer owed.
        commit(&mut meters, &first);
        assert_eq!(values(&mut meters, noon()), [(1, noon(), 2)]);
        slot.count();
        let one = noon().plus(HOUR);
        assert_eq!(values(&mut meters, one), [(1, noon(), 2), (1, one, 3)]);
        let all = meters.readings(one.plus(Duration::from_secs(5)));
        assert!(all.iter().all(|r| r.at.hour() == r.hour));
        commit(&mut meters, &all);
        assert_eq!(values(&mut meters, one), []);
        // A clock that went back does not take the count with it.
        slot.count();
        assert_eq!(values(&mut meters, one), [(1, one, 4)]);
        slot.count();
        assert_eq!(values(&mut meters, noon()), [(1, one, 5)]);
    }

    #[test]
    fn a_file_of_something_else_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("meters"), "hello").unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        meters.slot(AppId(1)).count();
        assert_eq!(values(&mut meters, noon()).len(), 1);
        assert!(
            std::fs::read_dir(dir.path()).unwrap().any(|f| f.unwrap().file_name().to_string_lossy().ends_with(".bad"))
        );
    }

    #[test]
    fn more_than_one_report_can_hold_comes_with_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        (1..=7000).for_each(|app| meters.slot(AppId(app)).count());
        let mut seen: Vec<i64> = (0..2).flat_map(|_| values(&mut meters, noon())).map(|r| r.0).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 7000);
    }
}
