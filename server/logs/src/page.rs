//! Turning over a log in both directions, and searching it. One look reads only so much: where it
//! stopped is said, and the next look goes on there.

use std::collections::VecDeque;
use std::io::BufReader;
use std::io::Read;
use std::ops::ControlFlow;

use domain::wire::{LogLine, LogPage};
use domain::{LogFilter, Time};

use crate::error::StoreError;
use crate::read::{Kept, LATE_MAX, notice};
use crate::segment::{Record, Scanner};
use crate::stream::{Segment, View, open_segment};

/// What one look reads at most, and the one segment more that it stops in.
const LOOK_BYTES_MAX: u64 = 16 << 20;
/// Of the lines of a page.
const PAGE_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Towards {
    /// The last lines before this cursor, or of all.
    Older(Option<u64>),
    /// The first lines after it.
    Newer(u64),
}

#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) towards: Towards,
    pub(crate) lines: usize,
    pub(crate) filter: LogFilter,
}

impl View {
    pub(crate) fn page(&self, turn: &Turn, kept: Kept) -> Result<LogPage, StoreError> {
        match turn.towards {
            Towards::Older(before) => self.older(before, turn, kept),
            Towards::Newer(after) => self.newer(after, turn),
        }
    }

    fn older(&self, before: Option<u64>, turn: &Turn, kept: Kept) -> Result<LogPage, StoreError> {
        let end = before.unwrap_or(self.next).clamp(1, self.next);
        let first = self.segments.first().map_or(self.next, |segment| segment.first);
        let mut page = Found::new(turn.lines);
        // Everything from here on was looked at.
        let mut seen = end;
        let (mut read, mut stopped) = (0, None);
        for (index, segment) in self.segments.iter().enumerate().rev() {
            if segment.first >= end {
                continue;
            }
            let next = self.segments.get(index + 1);
            // All of it was written, so printed, before what is wanted.
            if turn.filter.since.zip(next).is_some_and(|(since, next)| next.since < since) {
                seen = first;
                break;
            }
            if turn.filter.until.is_some_and(|until| segment.since > until.plus(LATE_MAX)) {
                seen = segment.first;
                continue;
            }
            if page.is_full() {
                break;
            }
            if read >= LOOK_BYTES_MAX {
                stopped = next.map(|next| next.since);
                break;
            }
            let mut of_this = Found::new(turn.lines - page.lines.len());
            of_this.bytes_max = of_this.bytes_max.saturating_sub(page.bytes);
            read += self.scan(index, |line| {
                if line.cursor >= end {
                    return ControlFlow::Break(());
                }
                if turn.filter.matches(line.at, line.source, line.text) {
                    of_this.push_last(line.owned());
                }
                ControlFlow::Continue(())
            })?;
            seen = of_this.left_out.map_or(segment.first, |left_out| left_out + 1);
            page.prepend(of_this);
            if seen > segment.first {
                break;
            }
        }
        let more = seen > first;
        if !more && seen > 1 && turn.filter.since.is_none() {
            let at = self.segments.first().map_or(Time::from_unix_micros(0), |segment| segment.since);
            page.lines.push_front(notice(seen, at, kept.dropped(seen - 1)));
        }
        Ok(LogPage {
            lines: page.lines.into(),
            before: more.then_some(seen),
            after: (end < self.next).then(|| end - 1),
            stopped,
            end: self.next - 1,
        })
    }

    fn newer(&self, after: u64, turn: &Turn) -> Result<LogPage, StoreError> {
        let begin = after.saturating_add(1).clamp(1, self.next);
        let first = self.segments.first().map_or(self.next, |segment| segment.first);
        let mut page = Found::new(turn.lines);
        let mut seen = begin;
        let (mut read, mut stopped) = (0, None);
        for (index, segment) in self.segments.iter().enumerate() {
            let end = self.segments.get(index + 1).map_or(self.next, |next| next.first);
            let over = turn.filter.until.is_some_and(|until| segment.since > until.plus(LATE_MAX));
            if over {
                seen = self.next;
                break;
            }
            let early = self.segments.get(index + 1).zip(turn.filter.since).is_some_and(|(next, s)| next.since < s);
            if end <= begin || early {
                seen = seen.max(end);
                continue;
            }
            if read >= LOOK_BYTES_MAX {
                stopped = Some(segment.since);
                break;
            }
            read += self.scan(index, |line| {
                if line.cursor < begin {
                    return ControlFlow::Continue(());
                }
                if page.is_full() {
                    return ControlFlow::Break(());
                }
                seen = line.cursor + 1;
                if turn.filter.matches(line.at, line.source, line.text) {
                    page.push(line.owned());
                }
                ControlFlow::Continue(())
            })?;
            if page.is_full() {
                break;
            }
            seen = end;
        }
        Ok(LogPage {
            lines: page.lines.into(),
            before: (begin > first).then_some(begin),
            after: (seen < self.next).then(|| seen - 1),
            stopped,
            end: self.next - 1,
        })
    }

    /// Gives all lines of a segment, as far as they are good. How many bytes were read.
    fn scan(&self, index: usize, mut each: impl FnMut(Line<'_>) -> ControlFlow<()>) -> Result<u64, StoreError> {
        let Some(segment) = self.segments.get(index).copied() else { return Ok(0) };
        let path = self.dir.join(Segment::name(segment));
        let failed = |cause| StoreError::new("reading", &path, cause);
        let end = self.segments.get(index + 1).map_or(self.next, |next| next.first);
        // Dropped meanwhile: there is nothing in it.
        let Some(file) = open_segment(&path)? else { return Ok(0) };
        let good = if index + 1 == self.segments.len() { self.bytes } else { u64::MAX };
        let mut scanner = Scanner::new(BufReader::with_capacity(64 << 10, file.take(good)), 0);
        let mut next = segment.first;
        while next < end {
            match scanner.next().map_err(failed)? {
                Some(Record::Line { cursor, at, source, text, .. }) => {
                    next = cursor + 1;
                    if each(Line { cursor, at, source, text }).is_break() {
                        break;
                    }
                }
                Some(_) => {}
                None => {
                    let text = format!("{} lines cannot be read any more: their file is damaged", end - next);
                    let _ = each(Line { cursor: end - 1, at: segment.since, source: "berth", text: &text });
                    break;
                }
            }
        }
        Ok(scanner.offset())
    }
}

#[derive(Clone, Copy)]
struct Line<'a> {
    cursor: u64,
    at: Time,
    source: &'a str,
    text: &'a str,
}

impl Line<'_> {
    fn owned(self) -> LogLine {
        LogLine { cursor: self.cursor, at: self.at, source: self.source.to_owned(), text: self.text.to_owned() }
    }
}

/// Lines of a page, within its bounds; one is always taken, however long.
struct Found {
    lines: VecDeque<LogLine>,
    bytes: usize,
    lines_max: usize,
    bytes_max: usize,
    /// The last one for which there was no room.
    left_out: Option<u64>,
}

fn size(line: &LogLine) -> usize {
    line.source.len() + line.text.len() + 64
}

impl Found {
    fn new(lines_max: usize) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, lines_max, bytes_max: PAGE_BYTES_MAX, left_out: None }
    }

    fn is_full(&self) -> bool {
        self.lines.len() >= self.lines_max || (self.bytes >= self.bytes_max && !self.lines.is_empty())
    }

    fn push(&mut self, line: LogLine) {
        self.bytes += size(&line);
        self.lines.push_back(line);
    }

    /// Takes it instead of the first ones, if there is no room for all.
    fn push_last(&mut self, line: LogLine) {
        self.push(line);
        while self.lines.len() > self.lines_max || (self.bytes > self.bytes_max && self.lines.len() > 1) {
            let Some(first) = self.lines.pop_front() else { return };
            self.bytes -= size(&first);
            self.left_out = Some(first.cursor);
        }
    }

    fn prepend(&mut self, before: Self) {
        self.bytes += before.bytes;
        for line in before.lines.into_iter().rev() {
            self.lines.push_front(line);
        }
    }
}
