//! Lines on their way to logs: shims write them to spools on disk, this sends them and removes what
//! has arrived. While logs is away they wait, bounded; a runner that begins anew sends on.
//!
//! A spool is a directory `spool/lines/<name>` with `meta.json` and the shim's segments
//! (`server/shim/src/lines.rs` says their format).

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use domain::Time;
use domain::wire::{Lines as Batch, LogStream, NewLine};
use link::{Client, LinkError};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::sandbox::{make_dir, remove_dir_all};

const POST_TIMEOUT: Duration = Duration::from_secs(15);
const LINES_MAX: usize = 500;
const READ_BYTES_MAX: u64 = 512 * 1024;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// When no wake-up came: level-triggered all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where a spool's lines belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub stream: LogStream,
    /// Who counts the positions: unique for the whole life of the spool.
    pub origin: String,
    /// `web.1`, `build`. What Berth itself says has `berth`.
    pub source: String,
}

#[derive(Clone)]
pub struct Lines {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    client: Client,
    inotify: AsyncFd<Ears>,
    spools: Mutex<HashMap<String, Arc<Spool>>>,
    watches: Mutex<HashMap<WatchDescriptor, Arc<Notify>>>,
    begun: Notify,
    waiting: Mutex<Vec<Arc<Spool>>>,
}

/// Hears which spools are written to.
struct Ears(Inotify);

impl AsRawFd for Ears {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

struct Spool {
    name: String,
    dir: PathBuf,
    meta: Meta,
    wake: Arc<Notify>,
    /// No more lines come: it goes when all are sent.
    closed: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    pub fn new(data_dir: &Path, client: Client) -> io::Result<Self> {
        let dir = data_dir.join("spool/lines");
        make_dir(&dir, 0o700)?;
        let inotify = Ears(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?);
        // SAFETY: it owns one descriptor for as long as it lives.
        let inotify = unsafe { AsyncFd::register(inotify) }?;
        Ok(Self {
            inner: Arc::new(Inner {
                dir,
                client,
                inotify,
                spools: Mutex::default(),
                watches: Mutex::default(),
                begun: Notify::new(),
                waiting: Mutex::default(),
            }),
        })
    }

    /// Begins a spool, or goes on with it; the answer is the directory for [`crate::Output::Spool`].
    /// Closed and not yet gone, it is open again.
    pub fn open(&self, name: &str, meta: &Meta) -> io::Result<PathBuf> {
        let mut spools = lock(&self.inner.spools);
        if let Some(spool) = spools.get(name) {
            spool.closed.send_replace(false);
            return Ok(spool.dir.clone());
        }
        let spool = self.make(name, meta)?;
        let dir = spool.dir.clone();
        spools.insert(name.to_owned(), spool);
        Ok(dir)
    }

    fn make(&self, name: &str, meta: &Meta) -> io::Result<Arc<Spool>> {
        let dir = self.inner.dir.join(name);
        make_dir(&dir, 0o700)?;
        let text = serde_json::to_vec(meta).map_err(io::Error::other)?;
        let new = dir.join("meta.new");
        fs::write(&new, text)?;
        fs::rename(new, dir.join("meta.json"))?;
        let wake = Arc::new(Notify::new());
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE;
        let wd = self.inner.inotify.get_ref().0.add_watch(&dir, flags)?;
        lock(&self.inner.watches).insert(wd, Arc::clone(&wake));
        let closed = watch::Sender::new(false);
        let spool = Arc::new(Spool { name: name.to_owned(), dir, meta: meta.clone(), wake, closed });
        lock(&self.inner.waiting).push(Arc::clone(&spool));
        self.inner.begun.notify_one();
        Ok(spool)
    }

    /// Nobody writes any more, and logs has everything.
    pub fn is_empty(&self) -> bool {
        lock(&self.inner.spools).is_empty()
    }

    /// Nothing more will be written. The spool goes when logs has everything.
    pub fn close(&self, name: &str) {
        if let Some(spool) = lock(&self.inner.spools).get(name) {
            spool.closed.send_replace(true);
            spool.wake.notify_one();
        }
    }

    /// When a closed spool is gone: all of it was taken. At most for `limit`.
    pub async fn sent(&self, name: &str, limit: Duration) {
        let gone = async {
            while lock(&self.inner.spools).contains_key(name) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(limit, gone).await;
    }

    /// Sends what former runs left in spools that nobody opened meanwhile: call it after adopting.
    pub fn resume(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.inner.dir)?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if lock(&self.inner.spools).contains_key(&name) {
                continue;
            }
            match fs::read(entry.path().join("meta.json")).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                Some(meta) => {
                    self.open(&name, &meta)?;
                    self.close(&name);
                }
                None => remove_dir_all(&entry.path())?,
            }
        }
        Ok(())
    }

    /// A line of Berth's own, in the spool's order. Only while no sandbox writes to it.
    pub fn say(&self, name: &str, text: &str) -> io::Result<()> {
        let Some(spool) = lock(&self.inner.spools).get(name).cloned() else { return Ok(()) };
        let first = segments(&spool.dir)?.last().copied().unwrap_or(1);
        let path = segment(&spool.dir, first);
        let held =
            fs::read(&path).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(vec![]) } else { Err(e) })?;
        let whole = held.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let next = first + held.iter().filter(|b| **b == b'\n').count() as u64;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        if whole < held.len() {
            file.set_len(whole as u64)?;
        }
        let at = Time::from(SystemTime::now()).unix_micros();
        let mut lines = String::new();
        for (n, line) in (next..).zip(text.lines()) {
            lines.push_str(&format!("{n} {at} b {line}\n"));
        }
        file.write_all(lines.as_bytes())
    }

    /// The last thing that the spool's sandbox printed and that is still here.
    pub fn last_printed(&self, name: &str) -> Option<String> {
        let dir = lock(&self.inner.spools).get(name)?.dir.clone();
        let last = *segments(&dir).ok()?.last()?;
        let text = fs::read_to_string(segment(&dir, last)).ok()?;
        let lines = text.lines().rev().filter_map(parse);
        lines.filter(|l| l.kind != "b").map(|l| l.text.trim().to_owned()).find(|l| !l.is_empty())
    }

    /// Sends until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            for spool in std::mem::take(&mut *lock(&self.inner.waiting)) {
                tasks.spawn(Arc::clone(&self.inner).ship(spool, stop.child_token()));
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.inner.begun.notified() => {}
                () = self.inner.listen() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
        tasks.shutdown().await;
    }
}

impl Inner {
    /// Wakes the spools that were written to, once.
    async fn listen(&self) {
        let Ok(mut ready) = self.inotify.readable().await else { return };
        match ready.get_inner().0.read_events() {
            Ok(events) => {
                let watches = lock(&self.watches);
                for wake in events.iter().filter_map(|e| watches.get(&e.wd)) {
                    wake.notify_one();
                }
            }
            Err(_) => ready.clear_ready(),
        }
    }

    async fn ship(self: Arc<Self>, spool: Arc<Spool>, stop: CancellationToken) {
        let mut place = Place::default();
        let mut retry = RETRY_FIRST;
        while !stop.is_cancelled() {
            let is_closed = *spool.closed.borrow();
            let (dir, from) = (spool.dir.clone(), place.clone());
            let read = tokio::task::spawn_blocking(move || read(&dir, from)).await;
            let (lines, next) = match read {
                Ok(Ok(found)) => found,
                Ok(Err(e)) => {
                    tracing::error!(spool = %spool.name, "could not read a spool of lines: {e}");
                    pause(&stop, LOOK_AGAIN).await;
                    continue;
                }
                Err(_) => return,
            };
            if lines.is_empty() && next == place {
                if is_closed && self.forget(&spool) {
                    return;
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = spool.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
                continue;
            }
            if !lines.is_empty() {
                let batch = Batch {
                    stream: spool.meta.stream,
                    origin: spool.meta.origin.clone(),
                    lines: lines.iter().map(|l| l.told(&spool.meta)).collect(),
                };
                match self.client.post::<serde_json::Value>("/v1/lines", &batch, POST_TIMEOUT).await {
                    Ok(_) => retry = RETRY_FIRST,
                    // Never taken, however often: said, and given up.
                    Err(LinkError::Status { status, text, .. }) if status.as_u16() == 400 || status.as_u16() == 422 => {
                        tracing::error!(spool = %spool.name, lines = lines.len(), "logs refused lines: {text}");
                    }
                    Err(e) => {
                        tracing::debug!(spool = %spool.name, "logs is away: {e}");
                        pause(&stop, retry).await;
                        retry = (retry * 2).min(RETRY_MAX);
                        continue;
                    }
                }
            }
            for first in segments(&spool.dir).unwrap_or_default() {
                if first < next.first {
                    let _ = fs::remove_file(segment(&spool.dir, first));
                }
            }
            place = next;
        }
    }

    /// Removes a closed spool, unless it was opened again just now.
    fn forget(&self, spool: &Spool) -> bool {
        let mut spools = lock(&self.spools);
        if !*spool.closed.borrow() {
            return false;
        }
        spools.remove(&spool.name);
        lock(&self.watches).retain(|_, wake| !Arc::ptr_eq(wake, &spool.wake));
        // The watch goes with the directory.
        if let Err(e) = remove_dir_all(&spool.dir) {
            tracing::error!(spool = %spool.name, "could not remove a spool: {e}");
        }
        true
    }
}

async fn pause(stop: &CancellationToken, time: Duration) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

/// How far a spool is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    /// The segment's first position.
    first: u64,
    offset: u64,
}

struct Line {
    position: u64,
    at: i64,
    kind: String,
    text: String,
}

impl Line {
    fn told(&self, meta: &Meta) -> NewLine {
        let source = if self.kind == "b" { "berth".to_owned() } else { meta.source.clone() };
        NewLine { position: self.position, at: Time::from_unix_micros(self.at), source, text: self.text.clone() }
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut parts = line.splitn(4, ' ');
    Some(Line {
        position: parts.next()?.parse().ok()?,
        at: parts.next()?.parse().ok()?,
        kind: parts.next()?.to_owned(),
        text: parts.next()?.to_owned(),
    })
}

fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}"))
}

fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    let mut all: Vec<u64> = fs::read_dir(dir)?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    Ok(all)
}

/// Whole lines from `place` on, and where the next ones begin.
fn read(dir: &Path, place: Place) -> io::Result<(Vec<Line>, Place)> {
    use std::io::{Read, Seek, SeekFrom};
    let all = segments(dir)?;
    // The place's own segment, or (it was dropped for want of room) the first that is left.
    let Some(first) = all.iter().copied().find(|s| *s >= place.first) else { return Ok((vec![], place)) };
    let offset = if first == place.first { place.offset } else { 0 };
    let mut file = match fs::File::open(segment(dir, first)) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((vec![], Place { first, offset: u64::MAX })),
        Err(e) => return Err(e),
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![];
    file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
    let mut lines = vec![];
    let mut taken = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n').take(LINES_MAX) {
        let Some(text) = line.strip_suffix(b"\n") else { break };
        taken += line.len() as u64;
        lines.extend(parse(&String::from_utf8_lossy(text)));
    }
    let place = Place { first, offset: offset + taken };
    // A later segment is begun only when this one is whole.
    match all.iter().copied().find(|s| *s > first) {
        Some(later) if taken == 0 => Ok((vec![], Place { first: later, offset: 0 })),
        _ => Ok((lines, place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_is_read_line_by_line_over_its_segments() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment(dir.path(), 1), "1 10 o a\n2 11 e b c\n").unwrap();
        fs::write(segment(dir.path(), 3), "3 12 b d\n4 13 o ha").unwrap();
        let (lines, place) = read(dir.path(), Place::default()).unwrap();
        assert_eq!(lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["a", "b c"]);
        let (none, place) = read(dir.path(), place).unwrap();
        assert!(none.is_empty());
        let (lines, place) = read(dir.path(), place).unwrap();
        assert_eq!(lines.iter().map(|l| l.position).collect::<Vec<_>>(), [3]);
        fs::write(segment(dir.path(), 3), "3 12 b d\n4 13 o half\n").unwrap();
        let (lines, place) = read(dir.path(), place).unwrap();
        assert_eq!(lines[0].text, "half");
        assert_eq!(read(dir.path(), place.clone()).unwrap().1, place);
    }
}
