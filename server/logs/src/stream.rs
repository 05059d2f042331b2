//! One stream: its segments, its next cursor, the positions known of each origin.
//!
//! Everything here is known from the files alone, so a stream is read back by [`Stream::open`]
//! after a `kill -9` as after being idle. A write opens, writes and closes its file (some 10 µs):
//! thousands of streams hold no descriptor.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Time;
use domain::wire::{LogStream, NewLine};
use tokio::sync::watch;

use crate::clean;
use crate::durable::Dirty;
use crate::error::StoreError;
use crate::segment::{Record, Scanner};

/// How many origins a new segment takes over, the last heard ones, and for how long. An origin is
/// an instance; its runner sends a batch again within seconds, or when it is back itself.
const ORIGINS_MAX: usize = 512;
const ORIGIN_KEPT: Duration = Duration::from_secs(30 * 86_400);

/// A segment as its file name says: `FIRST-SINCE.seg`, the first cursor in it and, in
/// microseconds since 1970, when it was begun. So the names are the index by cursor and by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: u64,
    pub(crate) since: Time,
}

impl Segment {
    pub(crate) fn name(self) -> String {
        format!("{:020}-{:016}.seg", self.first, self.since.unix_micros())
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, since) = name.strip_suffix(".seg")?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, since: Time::from_unix_micros(since.parse().ok()?) })
    }
}

struct Origin {
    /// The lowest position that is new: those below are known.
    wanted: u64,
    heard: Time,
    /// In the newest segment; `None` until it is used there.
    number: Option<u32>,
}

pub(crate) struct Stream {
    name: LogStream,
    dir: PathBuf,
    /// Oldest first; the last is being written.
    segments: Vec<Segment>,
    /// Good bytes of the newest segment.
    bytes: u64,
    /// Since it was opened, over all segments.
    written: u64,
    next: u64,
    origins: HashMap<String, Origin>,
    numbered: u32,
    /// Wakes followers; its value is the next cursor.
    tail: watch::Sender<u64>,
}

/// What a reader needs to know of a stream at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) dir: PathBuf,
    pub(crate) segments: Vec<Segment>,
    /// Good bytes of the newest segment.
    pub(crate) bytes: u64,
    pub(crate) next: u64,
}

impl Stream {
    /// Reads a stream back from its files. What a write left half-done is cut off; a stream that
    /// was never written has no files.
    pub(crate) fn open(name: LogStream, dir: PathBuf, now: Time, dirty: &Dirty) -> Result<Self, StoreError> {
        let segments = segments_in(&dir)?;
        let tail = watch::Sender::new(1);
        let mut stream =
            Self { name, dir, segments, bytes: 0, written: 0, next: 1, origins: HashMap::new(), numbered: 0, tail };
        let mut floor = 1;
        while let Some(&newest) = stream.segments.last() {
            if stream.recover(newest, now)? {
                break;
            }
            // Its head is not whole. It was being begun, so none of its lines was acknowledged and
            // the segment before it still knows everything; or the disk lost it, then it is kept
            // aside until retention takes it.
            floor = floor.max(newest.first);
            let path = stream.dir.join(newest.name());
            tracing::warn!(path = %path.display(), "a segment of {name} has no readable beginning and is put aside");
            let aside = path.with_extension("damaged");
            fs::rename(&path, aside).map_err(|cause| StoreError::new("putting aside", &path, cause))?;
            stream.segments.pop();
        }
        if stream.next < floor {
            // A cursor is never given twice, or a reader would miss the second line of that number.
            stream.next = floor;
            stream.begin_segment(now, dirty)?;
        }
        stream.tail.send_replace(stream.next);
        Ok(stream)
    }

    /// Takes over the newest segment; false if it has no good head.
    fn recover(&mut self, segment: Segment, now: Time) -> Result<bool, StoreError> {
        let path = self.dir.join(segment.name());
        let failed = |cause| StoreError::new("reading back", &path, cause);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let mut scanner = Scanner::new(BufReader::with_capacity(64 << 10, &file), 0);
        let stream = self.name.to_string();
        match scanner.next().map_err(failed)? {
            Some(Record::Head { first, stream: of }) if first == segment.first && of == stream => {}
            _ => return Ok(false),
        }
        let (mut next, mut names) = (segment.first, Vec::<String>::new());
        let mut good = scanner.offset();
        while let Some(record) = scanner.next().map_err(failed)? {
            match record {
                Record::Origin { number, wanted, heard, name } if number as usize == names.len() => {
                    names.push(name.to_owned());
                    let origin = Origin { wanted, heard, number: Some(number) };
                    self.origins.insert(name.to_owned(), origin);
                }
                Record::Line { cursor, position, origin, .. } if cursor == next => {
                    let known = names.get(origin as usize).and_then(|name| self.origins.get_mut(name));
                    let Some(known) = known else { break };
                    known.wanted = known.wanted.max(position.saturating_add(1));
                    known.heard = now;
                    next += 1;
                }
                // Whole, but not what we would have written there.
                _ => break,
            }
            good = scanner.offset();
        }
        let length = file.metadata().map_err(failed)?.len();
        if length > good {
            tracing::info!(path = %path.display(), "cut off {} bytes of a write to {} that did not end", length - good, self.name);
            file.set_len(good).map_err(failed)?;
        }
        (self.bytes, self.next, self.numbered) = (good, next, names.len() as u32);
        Ok(true)
    }

    /// Appends the lines that are new of `origin`, each with the next
    /// cursor. On an error those written before it are kept, and the same call may be made again.
    pub(crate) fn append(
        &mut self,
        origin: &str,
        lines: &[NewLine],
        segment_bytes: u64,
        now: Time,
        dirty: &Dirty,
    ) -> Result<(), StoreError> {
        let mut wanted = self.origins.get(origin).map_or(0, |known| known.wanted);
        let mut rest = lines.iter().filter(|line| {
            let new = line.position >= wanted;
            if new {
                wanted = line.position.saturating_add(1);
            }
            new
        });
        let mut pending = rest.next();
        while pending.is_some() {
            if self.segments.is_empty() || (self.bytes >= segment_bytes && !self.newest_is_empty()) {
                self.begin_segment(now, dirty)?;
            }
            // One write a segment; what it says is taken as true only after it.
            let (mut run, mut next, mut top) = (Vec::new(), self.next, 0);
            let known = self.origins.get(origin);
            let number = known.and_then(|known| known.number).unwrap_or_else(|| {
                let wanted = known.map_or(0, |known| known.wanted);
                Record::Origin { number: self.numbered, wanted, heard: now, name: origin }.encode(&mut run);
                self.numbered
            });
            while let Some(line) = pending {
                let (source, text) = (clean::source(&line.source), clean::text(&line.text));
                let (position, at) = (line.position, line.at);
                Record::Line { cursor: next, position, at, origin: number, source: &source, text: &text }
                    .encode(&mut run);
                (next, top) = (next + 1, position.saturating_add(1));
                pending = rest.next();
                if self.bytes + run.len() as u64 >= segment_bytes {
                    break;
                }
            }
            self.write(&run, dirty)?;
            self.next = next;
            self.numbered = self.numbered.max(number + 1);
            self.origins.insert(origin.to_owned(), Origin { wanted: top, heard: now, number: Some(number) });
            self.tail.send_replace(next);
        }
        Ok(())
    }

    /// Writes behind the good bytes of the newest segment. A write that fails half-way is taken
    /// back; where even that fails, the next open cuts it off.
    fn write(&mut self, run: &[u8], dirty: &Dirty) -> Result<(), StoreError> {
        let Some(newest) = self.segments.last() else { return Ok(()) };
        let path = self.dir.join(newest.name());
        let failed = |cause| StoreError::new("writing", &path, cause);
        let file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        if let Err(cause) = file.write_all_at(run, self.bytes) {
            let _ = file.set_len(self.bytes);
            return Err(failed(cause));
        }
        self.bytes += run.len() as u64;
        self.written += run.len() as u64;
        dirty.written(path);
        Ok(())
    }

    /// Begins a segment at the next cursor, with all origins that are still of use.
    fn begin_segment(&mut self, now: Time, dirty: &Dirty) -> Result<(), StoreError> {
        let segment = Segment { first: self.next, since: now };
        let path = self.dir.join(segment.name());
        let failed = |cause| StoreError::new("beginning", &path, cause);
        fs::create_dir_all(&self.dir).map_err(failed)?;
        let mut kept: Vec<(&String, &Origin)> =
            self.origins.iter().filter(|(_, origin)| now.since(origin.heard) <= ORIGIN_KEPT).collect();
        kept.sort_by(|(a, x), (b, y)| y.heard.cmp(&x.heard).then(a.cmp(b)));
        kept.truncate(ORIGINS_MAX);
        let mut head = Vec::new();
        Record::Head { first: segment.first, stream: &self.name.to_string() }.encode(&mut head);
        for (number, (name, origin)) in (0u32..).zip(&kept) {
            Record::Origin { number, wanted: origin.wanted, heard: origin.heard, name }.encode(&mut head);
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        if let Err(cause) = file.write_all_at(&head, 0) {
            let _ = fs::remove_file(&path);
            return Err(failed(cause));
        }
        let numbers: Vec<String> = kept.into_iter().map(|(name, _)| name.clone()).collect();
        let mut before = std::mem::take(&mut self.origins);
        for (number, name) in (0u32..).zip(numbers) {
            if let Some(origin) = before.remove(&name) {
                self.origins.insert(name, Origin { number: Some(number), ..origin });
            }
        }
        self.numbered = self.origins.len() as u32;
        self.bytes = head.len() as u64;
        self.written += self.bytes;
        self.segments.push(segment);
        dirty.created(path);
        Ok(())
    }

    /// Drops the segment that begins at `first` and all before it. The newest is replaced by an
    /// empty one first: the cursor and the origins live on. Returns how many lines were dropped.
    pub(crate) fn drop_through(&mut self, first: u64, now: Time, dirty: &Dirty) -> Result<u64, StoreError> {
        let Some(&newest) = self.segments.last() else { return Ok(0) };
        if newest.first <= first {
            if self.newest_is_empty() {
                return self.drop_before(newest.first);
            }
            self.begin_segment(now, dirty)?;
            // It must be on the disk before what it replaces is gone.
            dirty.flush();
        }
        let oldest_kept = self.segments.iter().find(|segment| segment.first > first).map_or(self.next, |s| s.first);
        self.drop_before(oldest_kept)
    }

    fn drop_before(&mut self, oldest_kept: u64) -> Result<u64, StoreError> {
        let oldest = self.segments.first().map_or(oldest_kept, |segment| segment.first);
        while let Some(&segment) = self.segments.first().filter(|segment| segment.first < oldest_kept) {
            let path = self.dir.join(segment.name());
            match fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::new("dropping", &path, cause));
                }
                _ => self.segments.remove(0),
            };
        }
        Ok(oldest_kept - oldest)
    }

    fn newest_is_empty(&self) -> bool {
        self.segments.last().is_none_or(|newest| newest.first == self.next)
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    pub(crate) fn view(&self) -> View {
        View { dir: self.dir.clone(), segments: self.segments.clone(), bytes: self.bytes, next: self.next }
    }

    /// Is woken by every line from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.tail.subscribe()
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.tail.receiver_count() > 0
    }
}

/// The segments of a folder, oldest first; none if there is no such folder.
fn segments_in(dir: &Path) -> Result<Vec<Segment>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(StoreError::new("listing", dir, cause)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| StoreError::new("listing", dir, cause))?;
        segments.extend(entry.file_name().to_str().and_then(Segment::parse));
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Opens a segment for reading; `None` if it was dropped meanwhile.
pub(crate) fn open_segment(path: &Path) -> Result<Option<File>, StoreError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(StoreError::new("opening", path, cause)),
    }
}
