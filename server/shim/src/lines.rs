//! What a sandbox prints, as numbered lines in files that the runner reads and removes.
//!
//! A line is `POSITION MICROS KIND TEXT\n`: positions count by one over the spool's whole life, also
//! over several shims after each other; KIND is `o` (output), `e` (error) or `b` (said by Berth).
//! TEXT is valid UTF-8 of at most 16 KiB. A segment is named by its first position; when they grow
//! beyond the bound the oldest goes, and the log says how many lines went with it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a line may be long, its mark of a cut included.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
const SEGMENT_BYTES_MAX: u64 = 1024 * 1024;
const CUT: &str = " … [cut: longer than 16 KiB]";

/// How much an app may print in a second; four times as much at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub lines: u32,
    pub bytes: u32,
}

const BURST: f64 = 4.0;

pub struct Spool {
    dir: PathBuf,
    file: File,
    bytes: u64,
    /// First position → lines' count is known from the next one's.
    segments: Vec<u64>,
    segments_max: usize,
    next: u64,
    rate: Rate,
    lines_left: f64,
    bytes_left: f64,
    filled: Instant,
    dropped: u64,
    dropped_since: Option<Instant>,
}

fn name(first: u64) -> String {
    format!("{first:020}")
}

impl Spool {
    /// Goes on where the last shim of this spool ended.
    pub fn open(dir: &Path, rate: Rate, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut segments: Vec<u64> =
            fs::read_dir(dir)?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
        segments.sort_unstable();
        let first = match segments.last() {
            Some(last) => *last,
            None => {
                segments.push(1);
                1
            }
        };
        let path = dir.join(name(first));
        let held =
            fs::read(&path).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(vec![]) } else { Err(e) })?;
        // A line that a power cut left half-written is no line.
        let whole = held.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let count = held.iter().filter(|b| **b == b'\n').count() as u64;
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        if whole < held.len() {
            file.set_len(whole as u64)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            file,
            bytes: whole as u64,
            segments,
            segments_max: usize::try_from(bytes_max / SEGMENT_BYTES_MAX).unwrap_or(usize::MAX).max(2),
            next: first + count,
            rate,
            lines_left: f64::from(rate.lines) * BURST,
            bytes_left: f64::from(rate.bytes) * BURST,
            filled: Instant::now(),
            dropped: 0,
            dropped_since: None,
        })
    }

    fn fill(&mut self) {
        let now = Instant::now();
        let seconds = now.duration_since(self.filled).as_secs_f64();
        self.filled = now;
        let (lines, bytes) = (f64::from(self.rate.lines), f64::from(self.rate.bytes));
        self.lines_left = (self.lines_left + lines * seconds).min(lines * BURST);
        self.bytes_left = (self.bytes_left + bytes * seconds).min(bytes * BURST);
    }

    /// Writes the lines that the rate allows, in one write; counts the others.
    pub fn take<'a>(&mut self, kind: char, lines: impl Iterator<Item = (&'a [u8], Cut)>) {
        self.fill();
        let mut out = Vec::new();
        let at = micros();
        for (line, cut) in lines {
            if self.dropped > 0 || self.lines_left < 1.0 || self.bytes_left < line.len() as f64 {
                self.dropped += 1;
                self.dropped_since.get_or_insert_with(Instant::now);
                continue;
            }
            self.lines_left -= 1.0;
            self.bytes_left -= line.len() as f64;
            let _ = write!(out, "{} {at} {kind} ", self.next);
            out.extend_from_slice(clean(line, cut).as_bytes());
            out.push(b'\n');
            self.next += 1;
        }
        self.write(&out);
    }

    /// Whether lines are being dropped: then reading on slowly is enough.
    pub fn is_dropping(&self) -> bool {
        self.dropped > 0
    }

    /// Says what was dropped, after a second of dropping or at the `end`.
    pub fn tell_dropped(&mut self, end: bool) {
        let due = self.dropped_since.is_some_and(|since| end || since.elapsed() >= Duration::from_secs(1));
        if due {
            let text = format!(
                "dropped {} lines: more than {} lines or {} KiB a second",
                self.dropped,
                self.rate.lines,
                self.rate.bytes / 1024
            );
            self.dropped = 0;
            self.dropped_since = None;
            self.say(&text);
        }
    }

    /// A line of Berth's own; never subject to the rate.
    pub fn say(&mut self, text: &str) {
        let line = format!("{} {} b {}\n", self.next, micros(), clean(text.as_bytes(), Cut::No));
        self.next += 1;
        self.write(line.as_bytes());
    }

    fn write(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        // A full disk must not stop the app: its lines are lost then, and only they.
        if self.file.write_all(lines).is_ok() {
            self.bytes += lines.len() as u64;
        }
        if self.bytes >= SEGMENT_BYTES_MAX {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        let path = self.dir.join(name(self.next));
        let Ok(file) = OpenOptions::new().create(true).append(true).open(&path) else { return };
        self.file = file;
        self.bytes = 0;
        self.segments.push(self.next);
        // Those that the runner has removed are sent; what is left waits for logs.
        let dir = self.dir.clone();
        self.segments.retain(|first| dir.join(name(*first)).exists());
        let mut lost = 0;
        while self.segments.len() > self.segments_max {
            let first = self.segments.remove(0);
            if fs::remove_file(self.dir.join(name(first))).is_ok() {
                lost += self.segments.first().map_or(0, |next| next - first);
            }
        }
        if lost > 0 {
            self.say(&format!("dropped up to {lost} older lines: they could not be sent for too long"));
        }
    }
}

fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Yes,
    No,
}

/// Valid UTF-8 without line ends and NUL, cut at a character's bound.
fn clean(line: &[u8], cut: Cut) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::from_utf8_lossy(line).replace(['\0', '\n'], "\u{fffd}");
    if cut == Cut::Yes || text.len() > LINE_BYTES_MAX {
        let room = LINE_BYTES_MAX - CUT.len();
        let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push_str(CUT);
    }
    text
}

/// Puts lines together from what a pipe gives; holds at most one line.
#[derive(Default)]
pub struct Splitter {
    held: Vec<u8>,
    is_skipping: bool,
}

impl Splitter {
    /// The whole lines in `bytes`, with what was held before.
    pub fn lines(&mut self, bytes: &[u8]) -> Vec<(Vec<u8>, Cut)> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(at);
            rest = after.get(1..).unwrap_or_default();
            self.hold(line);
            let cut = if std::mem::take(&mut self.is_skipping) { Cut::Yes } else { Cut::No };
            lines.push((std::mem::take(&mut self.held), cut));
        }
        self.hold(rest);
        lines
    }

    /// The line that was begun and never ended.
    pub fn end(&mut self) -> Option<(Vec<u8>, Cut)> {
        let cut = if std::mem::take(&mut self.is_skipping) { Cut::Yes } else { Cut::No };
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then_some((held, cut))
    }

    fn hold(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX - self.held.len();
        self.is_skipping |= part.len() > room;
        self.held.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("shim-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn held(dir: &Path) -> Vec<String> {
        let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .flat_map(|f| fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    const RATE: Rate = Rate { lines: 1_000_000, bytes: 1 << 30 };

    #[test]
    fn positions_go_on_in_the_next_shim_and_a_torn_line_is_forgotten() {
        let dir = scratch("positions");
        let mut spool = Spool::open(&dir, RATE, 8 << 20).unwrap();
        spool.take('o', [(&b"one"[..], Cut::No), (b"two\r", Cut::No)].into_iter());
        drop(spool);
        OpenOptions::new().append(true).open(dir.join(name(1))).unwrap().write_all(b"3 17 o to").unwrap();
        let mut spool = Spool::open(&dir, RATE, 8 << 20).unwrap();
        spool.say("three");
        let lines = held(&dir);
        let parts: Vec<_> = lines.iter().map(|l| l.split(' ').collect::<Vec<_>>()).collect();
        assert_eq!(
            parts.iter().map(|p| (p[0], p[2], p[3])).collect::<Vec<_>>(),
            [("1", "o", "one"), ("2", "o", "two"), ("3", "b", "three")]
        );
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_long_line_is_cut_and_says_so_and_bytes_that_are_no_text_are_replaced() {
        let mut splitter = Splitter::default();
        let mut given = vec![b'x'; 3 * LINE_BYTES_MAX];
        given.extend_from_slice("é\nshort\nhalf".as_bytes());
        let lines = splitter.lines(&given);
        let texts: Vec<_> = lines.iter().map(|(l, c)| clean(l, *c)).collect();
        assert!(texts[0].len() <= LINE_BYTES_MAX && texts[0].ends_with(CUT));
        assert_eq!(texts[1], "short");
        assert_eq!(splitter.end().unwrap().0, b"half");
        assert_eq!(clean(b"a\xffb\0c", Cut::No), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn what_is_printed_too_fast_is_counted_and_told() {
        let dir = scratch("rate");
        let mut spool = Spool::open(&dir, Rate { lines: 10, bytes: 1 << 20 }, 8 << 20).unwrap();
        spool.take('o', (0..1000).map(|_| (&b"x"[..], Cut::No)));
        assert!(spool.is_dropping());
        spool.tell_dropped(true);
        let lines = held(&dir);
        assert_eq!(lines.len(), 41);
        assert!(lines[40].ends_with("b dropped 960 lines: more than 10 lines or 1024 KiB a second"), "{}", lines[40]);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_spool_is_bounded_and_says_what_it_lost() {
        let dir = scratch("bounded");
        let mut spool = Spool::open(&dir, RATE, 2 << 20).unwrap();
        let line = vec![b'y'; 10_000];
        for _ in 0..1000 {
            spool.take('o', std::iter::once((&line[..], Cut::No)));
        }
        let bytes: u64 = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 4 << 20, "{bytes}");
        assert!(held(&dir).iter().any(|l| l.contains(" b dropped up to ")));
        fs::remove_dir_all(dir).unwrap();
    }
}
