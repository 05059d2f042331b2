//! All streams of all apps: which are in memory, who may touch one when, what is dropped.
//!
//! One lock an app, held for a write or a look, never while history is read. Whatever is in
//! memory can be read back from the files: what is idle is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use domain::wire::{Lines, LogPage, LogSizes, LogStream};
use domain::{AppId, Time};
use plan::Room;
use tokio::sync::watch;

use crate::durable::Dirty;
use crate::error::StoreError;
use crate::page::Turn;
use crate::read::{Chunk, Kept, Place, Wish};
use crate::stream::{Segment, Stream, View};

/// Apps in memory, above which idle ones are forgotten before their time.
const APPS_MAX: usize = 4096;
const IDLE_AFTER: Duration = Duration::from_secs(600);

pub(crate) struct Archive {
    dir: PathBuf,
    kept: Kept,
    segment_bytes: u64,
    /// The disk is nearly full: of each app only so much is kept.
    is_short: AtomicBool,
    apps: Mutex<HashMap<AppId, Arc<Mutex<App>>>>,
    pub(crate) dirty: Dirty,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Behind this cursor.
    After(u64),
    /// With the last so many lines.
    Last(u64),
    Since(Time),
}

struct App {
    dir: PathBuf,
    /// Of all files; `None` until it was looked.
    bytes: Option<u64>,
    deleted: bool,
    streams: HashMap<LogStream, (Stream, Instant)>,
}

impl Archive {
    pub(crate) fn new(dir: &Path, bytes_max_per_app: u64, days_max: u32, segment_bytes: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            kept: Kept { time: Duration::from_secs(u64::from(days_max.max(1)) * 86_400), bytes: bytes_max_per_app },
            // Eight or more, so that dropping the oldest never drops much.
            segment_bytes: segment_bytes.min(bytes_max_per_app / 8).max(4 << 10),
            is_short: AtomicBool::new(false),
            apps: Mutex::default(),
            dirty: Dirty::new(dir),
        }
    }

    /// What an app may have now.
    fn bytes_max(&self) -> u64 {
        self.kept.bytes / if self.is_short.load(Ordering::Relaxed) { 8 } else { 1 }
    }

    /// Where the disk is nearly full, the oldest lines of each app go: once, and from then on at each write.
    pub(crate) fn disk_has(&self, room: Room, now: SystemTime) {
        let is_short = room == Room::Short;
        if self.is_short.swap(is_short, Ordering::Relaxed) != is_short {
            tracing::warn!(
                "the disk of the logs has {room:?} room; of each app {} MiB are kept",
                self.bytes_max() >> 20
            );
            if is_short && let Err(error) = self.sweep(now) {
                tracing::error!(error = %chain(&error), "could not drop old lines");
            }
        }
    }

    /// Writes lines; when this returns, they survive the end of this process. Lines of a deleted
    /// app are dropped.
    pub(crate) fn append(&self, lines: &Lines, now: SystemTime) -> Result<(), StoreError> {
        let id = app_of(lines.stream);
        match self.append_once(id, lines, now) {
            // The write was taken back. The oldest go, and it is tried once more.
            Err(error) if error.is_disk_full() => {
                self.retain(id, now, self.kept.bytes / 8)?;
                self.append_once(id, lines, now)
            }
            done => done,
        }
    }

    fn append_once(&self, id: AppId, lines: &Lines, now: SystemTime) -> Result<(), StoreError> {
        let full = self.with_app(id, |app| {
            if app.deleted {
                return Ok(false);
            }
            let before = app.bytes()?;
            let stream = app.stream(lines.stream, now.into(), &self.dirty)?;
            let written = stream.written();
            let appended = stream.append(&lines.origin, &lines.lines, self.segment_bytes, now.into(), &self.dirty);
            let bytes = before + (stream.written() - written);
            app.bytes = Some(bytes);
            appended.map(|()| bytes > self.bytes_max())
        })?;
        if full { self.retain_app(id, now) } else { Ok(()) }
    }

    /// Where a reader begins and, if it wants to follow, its wake-up; taken together, so that no
    /// line falls between them.
    pub(crate) fn open(
        &self,
        name: LogStream,
        from: From,
        now: SystemTime,
    ) -> Result<(Place, watch::Receiver<u64>), StoreError> {
        self.with_app(app_of(name), |app| {
            let stream = app.stream(name, now.into(), &self.dirty)?;
            let place = match from {
                From::After(cursor) => Place::at(cursor.saturating_add(1)),
                From::Last(n) => stream.view().last(n),
                From::Since(since) => stream.view().since(since),
            };
            Ok((place, stream.subscribe()))
        })
    }

    pub(crate) fn read(
        &self,
        name: LogStream,
        place: Place,
        wish: &Wish,
        now: SystemTime,
    ) -> Result<Chunk, StoreError> {
        self.view(name, now)?.read(place, wish, self.kept)
    }

    pub(crate) fn page(&self, name: LogStream, turn: &Turn, now: SystemTime) -> Result<LogPage, StoreError> {
        self.view(name, now)?.page(turn, self.kept)
    }

    fn view(&self, name: LogStream, now: SystemTime) -> Result<View, StoreError> {
        self.with_app(app_of(name), |app| Ok(app.stream(name, now.into(), &self.dirty)?.view()))
    }

    /// Deletes all logs of an app, for good: a mark stays, so that lines still on their way do not
    /// begin it anew. Followers end.
    pub(crate) fn delete(&self, id: AppId) -> Result<(), StoreError> {
        self.with_app(id, |app| {
            let mark = self.mark(id);
            let failed = |cause| StoreError::new("marking as deleted", &mark, cause);
            File::create(&mark).and_then(|_| File::open(&self.dir)?.sync_all()).map_err(failed)?;
            app.deleted = true;
            app.streams.clear();
            app.bytes = Some(0);
            remove_all(&app.dir)
        })
    }

    /// Drops what is too old, or the oldest where an app has too much. A reader of what is gone is
    /// told so in its place.
    pub(crate) fn retain_app(&self, id: AppId, now: SystemTime) -> Result<(), StoreError> {
        self.retain(id, now, self.bytes_max())
    }

    fn retain(&self, id: AppId, now: SystemTime, bytes_max: u64) -> Result<(), StoreError> {
        self.with_app(id, |app| {
            if app.deleted {
                return remove_all(&app.dir);
            }
            let mut files = files_of(&app.dir)?;
            files.sort_by_key(|file| (file.modified, file.segment.map(|segment| segment.first)));
            let mut total: u64 = files.iter().map(|file| file.bytes).sum();
            // Somewhat below, so that a full app does not come here at every write.
            let goal = if total > bytes_max { bytes_max / 10 * 9 } else { total };
            let (mut lines, mut bytes) = (0, 0);
            for file in &files {
                let old = now.duration_since(file.modified).is_ok_and(|age| age > self.kept.time);
                if !old && total <= goal {
                    break;
                }
                lines += app.drop_file(file, now.into(), &self.dirty)?;
                if !file.path.exists() {
                    total -= file.bytes;
                    bytes += file.bytes;
                }
            }
            app.bytes = Some(total);
            if bytes > 0 {
                tracing::info!(app.id = %id, lines, bytes, "dropped {lines} lines of app {id} by age or size");
            }
            Ok(())
        })
    }

    /// Retention for all apps, the rest of deletions that were cut off, and forgetting what is idle.
    pub(crate) fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        let failed = |cause| StoreError::new("listing", &self.dir, cause);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(id) = name.parse().ok().map(AppId) {
                if let Err(error) = self.retain_app(id, now) {
                    tracing::error!(app.id = %id, error = %chain(&error), "retention of app {id} failed");
                }
            } else if name.ends_with(".deleted") {
                // Long enough for the last spooled line of the last runner.
                let age = entry.metadata().and_then(|meta| meta.modified()).map(|at| now.duration_since(at));
                let done = matches!(age, Ok(Ok(age)) if age > self.kept.time + Duration::from_secs(30 * 86_400));
                if done && let Err(cause) = fs::remove_file(entry.path()) {
                    tracing::error!(path = %entry.path().display(), error = %cause, "could not remove a mark");
                }
            }
            self.forget(APPS_MAX);
        }
        Ok(())
    }

    /// What the files of each app take.
    pub(crate) fn sizes(&self) -> Result<LogSizes, StoreError> {
        let mut apps = BTreeMap::new();
        for entry in entries(&self.dir)? {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()).map(AppId) else { continue };
            apps.insert(id, files_of(&entry.path())?.iter().map(|file| file.bytes).sum());
        }
        Ok(LogSizes { apps })
    }

    /// Forgets what was not used for ten minutes, and more when there are more than `apps_max`.
    pub(crate) fn forget(&self, apps_max: usize) {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let crowded = apps.len() > apps_max;
        apps.retain(|_, app| {
            // Handed out under this lock only: a count of 1 means that nobody is at work on it.
            if Arc::strong_count(app) > 1 {
                return true;
            }
            let mut app = app.lock().unwrap_or_else(PoisonError::into_inner);
            app.streams.retain(|_, (stream, used)| stream.is_followed() || (!crowded && used.elapsed() < IDLE_AFTER));
            !app.streams.is_empty()
        });
    }

    /// Runs `work` on an app, alone.
    fn with_app<T>(&self, id: AppId, work: impl FnOnce(&mut App) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let app = {
            let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
            if apps.len() <= APPS_MAX || apps.contains_key(&id) {
                Arc::clone(apps.entry(id).or_insert_with(|| self.unread(id)))
            } else {
                drop(apps);
                self.forget(APPS_MAX / 2);
                let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(apps.entry(id).or_insert_with(|| self.unread(id)))
            }
        };
        let mut locked = app.lock().unwrap_or_else(|poisoned| {
            // A panic in the middle: the files are right, what is in memory may not be.
            app.clear_poison();
            let mut app = poisoned.into_inner();
            app.streams.clear();
            app.bytes = None;
            app
        });
        work(&mut locked)
    }

    fn unread(&self, id: AppId) -> Arc<Mutex<App>> {
        let deleted = self.mark(id).exists();
        let dir = self.dir.join(id.to_string());
        Arc::new(Mutex::new(App { dir, bytes: None, deleted, streams: HashMap::new() }))
    }

    fn mark(&self, id: AppId) -> PathBuf {
        self.dir.join(format!("{id}.deleted"))
    }

    #[cfg(test)]
    pub(crate) fn apps_in_memory(&self) -> usize {
        self.apps.lock().unwrap().len()
    }
}

impl App {
    fn bytes(&mut self) -> Result<u64, StoreError> {
        if let Some(bytes) = self.bytes {
            return Ok(bytes);
        }
        let bytes = files_of(&self.dir)?.iter().map(|file| file.bytes).sum();
        self.bytes = Some(bytes);
        Ok(bytes)
    }

    fn stream(&mut self, name: LogStream, now: Time, dirty: &Dirty) -> Result<&mut Stream, StoreError> {
        let used = Instant::now();
        match self.streams.entry(name) {
            std::collections::hash_map::Entry::Occupied(known) => {
                let (stream, last) = known.into_mut();
                *last = used;
                Ok(stream)
            }
            std::collections::hash_map::Entry::Vacant(free) => {
                let stream = Stream::open(name, self.dir.join(folder(name)), now, dirty)?;
                Ok(&mut free.insert((stream, used)).0)
            }
        }
    }

    /// Drops a file (and, of a segment, those before it); returns how many lines went.
    fn drop_file(&mut self, file: &LogFile, now: Time, dirty: &Dirty) -> Result<u64, StoreError> {
        let Some((name, segment)) = file.stream.zip(file.segment) else {
            // Put aside as damaged.
            return match fs::remove_file(&file.path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    Err(StoreError::new("dropping", &file.path, cause))
                }
                _ => Ok(0),
            };
        };
        let was_in_memory = self.streams.contains_key(&name);
        let lines = self.stream(name, now, dirty)?.drop_through(segment.first, now, dirty)?;
        if !was_in_memory {
            self.streams.remove(&name);
        }
        Ok(lines)
    }
}

fn app_of(stream: LogStream) -> AppId {
    match stream {
        LogStream::App(app) | LogStream::Deploy(app, _) => app,
    }
}

/// A stream's folder within its app's.
fn folder(stream: LogStream) -> String {
    match stream {
        LogStream::App(_) => "app".to_owned(),
        LogStream::Deploy(_, number) => format!("deploy-{number}"),
    }
}

struct LogFile {
    path: PathBuf,
    stream: Option<LogStream>,
    segment: Option<Segment>,
    bytes: u64,
    modified: SystemTime,
}

/// All files of an app.
fn files_of(dir: &Path) -> Result<Vec<LogFile>, StoreError> {
    let id = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).map(AppId);
    let mut files = Vec::new();
    for folder in entries(dir)? {
        let name = folder.file_name();
        let stream = id.zip(name.to_str()).and_then(|(id, name)| match name.strip_prefix("deploy-") {
            Some(number) => Some(LogStream::Deploy(id, number.parse().ok()?)),
            None => (name == "app").then_some(LogStream::App(id)),
        });
        for file in entries(&folder.path())? {
            // Dropped between the two calls: not there.
            let Ok(meta) = file.metadata() else { continue };
            files.push(LogFile {
                segment: file.file_name().to_str().and_then(Segment::parse),
                path: file.path(),
                stream,
                bytes: meta.len(),
                modified: meta.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            });
        }
    }
    Ok(files)
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    match fs::read_dir(dir).and_then(Iterator::collect) {
        Ok(entries) => Ok(entries),
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(cause) => Err(StoreError::new("listing", dir, cause)),
    }
}

fn remove_all(dir: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(StoreError::new("deleting", dir, cause)),
        _ => Ok(()),
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
