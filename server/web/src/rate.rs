//! How fast an app's lines go to one viewer.

use std::collections::VecDeque;
use std::time::Duration;

use domain::wire::LogLine;
use tokio::time::Instant;

/// An app that prints faster than this is shown its latest lines only: nobody reads more, and a browser
/// that draws more does nothing else. (A build's lines come later instead, and all of them.)
pub const BEAT: Duration = Duration::from_millis(200);
const LINES_A_BEAT: usize = 400;

/// How many lines of the app go out in each beat; of what is too much, the latest wait for the next one.
#[derive(Default)]
pub struct Rate {
    /// Sent since it began.
    beat: Option<(Instant, usize)>,
    waiting: VecDeque<LogLine>,
    /// Lines between what was sent and what waits.
    left_out: usize,
}

impl Rate {
    /// What may go now, or nothing: then it waits, and the oldest of it gives way.
    pub fn take(&mut self, lines: Vec<LogLine>, now: Instant) -> Vec<LogLine> {
        let (begun, sent) = self.beat.filter(|(begun, _)| now < *begun + BEAT).unwrap_or((now, 0));
        if self.waiting.is_empty() && sent + lines.len() <= LINES_A_BEAT {
            self.beat = Some((begun, sent + lines.len()));
            return lines;
        }
        self.beat = Some((begun, sent));
        self.waiting.extend(lines);
        while self.waiting.len() > LINES_A_BEAT {
            self.waiting.pop_front();
            self.left_out += 1;
        }
        Vec::new()
    }

    /// When what waits may go.
    pub fn due(&self) -> Option<Instant> {
        self.beat.filter(|_| !self.waiting.is_empty()).map(|(begun, _)| begun + BEAT)
    }

    /// What waited, and how many lines are missing before it.
    pub fn flush(&mut self, now: Instant) -> (usize, Vec<LogLine>) {
        let lines: Vec<LogLine> = self.waiting.drain(..).collect();
        self.beat = Some((now, lines.len()));
        (std::mem::take(&mut self.left_out), lines)
    }
}

#[cfg(test)]
mod tests {
    use domain::Time;

    use super::*;

    #[test]
    fn what_is_printed_faster_than_it_can_be_read_is_left_out_and_said_and_the_latest_is_shown() {
        let line =
            |cursor| LogLine { cursor, at: Time::from_unix_micros(0), source: "web.1".into(), text: String::new() };
        let lines = |from: u64, n: u64| (from..from + n).map(line).collect::<Vec<_>>();
        let mut rate = Rate::default();
        let mut now = Instant::now();
        assert_eq!(rate.take(lines(1, 100), now).len(), 100);
        assert_eq!(rate.take(lines(101, 300), now).len(), 300, "one beat's worth goes at once");
        assert_eq!(rate.take(lines(401, 1000), now).len(), 0);
        let due = rate.due().unwrap();
        assert_eq!(due.duration_since(now), BEAT);
        now += BEAT;
        assert_eq!(rate.take(lines(1401, 1), now).len(), 0, "in order, behind what waits");
        let (left_out, shown) = rate.flush(now);
        assert_eq!((left_out, shown.len(), shown.last().unwrap().cursor), (601, 400, 1401));
        assert_eq!((rate.due(), rate.left_out), (None, 0));
        now += BEAT;
        assert_eq!(rate.take(lines(1402, 1), now).len(), 1, "a quiet app is shown at once again");
    }
}
