//! Reading from segments, without a lock: files only grow, and a view says how far they are good.
//!
//! What a reader asked for and cannot have is said in its place by a line of `berth`, which has
//! the cursor of the last missing line: so it is said once, and reading goes on behind it.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::time::Duration;

use domain::wire::LogLine;
use domain::{LogFilter, Time};

use crate::error::StoreError;
use crate::segment::{Record, Scanner};
use crate::stream::{Segment, View, open_segment};

/// A line comes so long after it was printed, at most: only for times asked for; what was spooled
/// for longer is found without them.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(600);
/// What one look reads at most, found or not.
const LOOK_BYTES_MAX: usize = 4 << 20;

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the next line wanted.
    pub(crate) cursor: u64,
    /// Where that line is, if known: the segment's first cursor, and the offset.
    at: Option<(u64, u64)>,
}

impl Place {
    pub(crate) fn at(cursor: u64) -> Self {
        Self { cursor, at: None }
    }
}

/// How much to read at once, and what to leave out.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) lines_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) filter: LogFilter,
    /// A reader that is further behind is moved on: a live view that is minutes late helps nobody.
    pub(crate) behind_max: Option<u64>,
}

pub(crate) struct Chunk {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) place: Place,
    /// Nothing was left to read.
    pub(crate) ended: bool,
}

/// Words for what was kept, for the lines that say what is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

impl View {
    /// The place of the last `n` lines; the very beginning if that reaches what is gone.
    pub(crate) fn last(&self, n: u64) -> Place {
        let first = self.segments.first().map_or(self.next, |segment| segment.first);
        let cursor = self.next.saturating_sub(n);
        Place::at(if cursor <= first { 1 } else { cursor })
    }

    /// From where on lines of `since` or later can be: a line is written after it was made.
    pub(crate) fn since(&self, since: Time) -> Place {
        let begun = self.segments.iter().rev().find(|segment| segment.since <= since);
        Place::at(begun.or(self.segments.first()).map_or(1, |segment| segment.first))
    }

    pub(crate) fn read(&self, mut place: Place, wish: &Wish, kept: Kept) -> Result<Chunk, StoreError> {
        let mut lines = Vec::new();
        let mut size = Size::default();
        // A reader may know cursors that a power cut took: it goes on with what comes.
        place.cursor = place.cursor.clamp(1, self.next);
        if let Some(behind_max) = wish.behind_max.filter(|max| self.next - place.cursor > *max) {
            let to = self.next - behind_max / 2;
            let skipped = to - place.cursor;
            let text =
                format!("skipped {skipped} lines: more is written than this view can show. They are in the history.");
            let at = self.segments.last().map_or(Time::from_unix_micros(0), |segment| segment.since);
            lines.push(notice(to, at, text));
            place = Place::at(to);
        }
        while place.cursor < self.next && lines.len() < wish.lines_max && size.has_room(wish) {
            let index = self.segments.partition_point(|segment| segment.first <= place.cursor);
            let Some(segment) = index.checked_sub(1).and_then(|i| self.segments.get(i)) else {
                let (first, at) =
                    self.segments.first().map_or((self.next, Time::from_unix_micros(0)), |s| (s.first, s.since));
                lines.push(notice(first, at, kept.dropped(first - place.cursor)));
                place = Place::at(first);
                continue;
            };
            if wish.filter.until.is_some_and(|until| segment.since > until.plus(LATE_MAX)) {
                place = Place::at(self.next);
                break;
            }
            let end = self.segments.get(index).map_or(self.next, |next| next.first);
            let good = if index == self.segments.len() { self.bytes } else { u64::MAX };
            self.read_segment(*segment, good, end, &mut place, wish, kept, &mut lines, &mut size)?;
        }
        Ok(Chunk { ended: place.cursor >= self.next, lines, place })
    }

    #[expect(clippy::too_many_arguments, reason = "one loop in two functions")]
    fn read_segment(
        &self,
        segment: Segment,
        good: u64,
        end: u64,
        place: &mut Place,
        wish: &Wish,
        kept: Kept,
        lines: &mut Vec<LogLine>,
        size: &mut Size,
    ) -> Result<(), StoreError> {
        let path = self.dir.join(segment.name());
        let failed = |cause: io::Error| StoreError::new("reading", &path, cause);
        let Some(mut file) = open_segment(&path)? else {
            lines.push(notice(end, segment.since, kept.dropped(end - place.cursor)));
            *place = Place::at(end);
            return Ok(());
        };
        let offset = place.at.filter(|(first, _)| *first == segment.first).map_or(0, |(_, offset)| offset);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let reader = BufReader::with_capacity(64 << 10, file.take(good.saturating_sub(offset)));
        let mut scanner = Scanner::new(reader, offset);
        while place.cursor < end && lines.len() < wish.lines_max && size.has_room(wish) {
            match scanner.next().map_err(failed)? {
                Some(Record::Line { cursor, .. }) if cursor < place.cursor => {}
                Some(Record::Line { cursor, at, source, text, .. }) => {
                    let length = source.len() + text.len() + 64;
                    size.read += length;
                    if wish.filter.matches(at, source, text) {
                        size.found += length;
                        lines.push(LogLine { cursor, at, source: source.to_owned(), text: text.to_owned() });
                    }
                    place.cursor = cursor + 1;
                }
                Some(_) => {}
                None => {
                    tracing::error!(path = %path.display(), offset = scanner.offset(), "a log segment is damaged");
                    let text = format!("{} lines cannot be read any more: their file is damaged", end - place.cursor);
                    lines.push(notice(end, segment.since, text));
                    *place = Place::at(end);
                    return Ok(());
                }
            }
        }
        place.at = Some((segment.first, scanner.offset()));
        Ok(())
    }
}

/// Of what was read, and of what of it is wanted.
#[derive(Debug, Default)]
struct Size {
    read: usize,
    found: usize,
}

impl Size {
    fn has_room(&self, wish: &Wish) -> bool {
        self.found < wish.bytes_max && self.read < LOOK_BYTES_MAX
    }
}

impl Kept {
    pub(crate) fn dropped(self, lines: u64) -> String {
        let (days, mib) = (self.time.as_secs() / 86_400, self.bytes >> 20);
        let lines = if lines == 1 { "1 earlier line was".to_owned() } else { format!("{lines} earlier lines were") };
        format!(
            "{lines} dropped: an app's log is kept for {days} days and up to {mib} MiB, less when the disk is nearly full"
        )
    }
}

/// A line of ours in the place of all before `next`.
pub(crate) fn notice(next: u64, at: Time, text: String) -> LogLine {
    LogLine { cursor: next - 1, at, source: "berth".to_owned(), text }
}
