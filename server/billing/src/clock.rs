//! Whether the database's clock is to be believed: what is posted is never taken back.

use std::time::Duration;

use domain::Time;
use nix::time::{ClockId, clock_gettime};
use store::ledger::Progress;

/// More than clocks that are kept right are apart, and less than what would move use to another hour.
const APART_MAX: Duration = Duration::from_secs(60);
/// A clock that was set must run on for so long.
const CALM: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("the database's clock and this server's are {seconds} s apart; set the one that is wrong")]
    Apart { seconds: u64 },
    #[error("the clock was set by {seconds} s; when it has run on for ten minutes it is believed")]
    Set { seconds: u64 },
    #[error("the clock is before {until}, up to when hours are posted; it was ahead, or was set back")]
    Before { until: Time },
}

#[derive(Debug, Default)]
pub struct Clock {
    /// What the clock said when the server began, if it was not set since.
    beginning: Option<Time>,
    doubted: Option<(Duration, Doubt)>,
}

impl Clock {
    /// `here` is this server's clock, `boottime` what no one can set.
    pub fn look(&mut self, database: Progress, here: Time, boottime: Duration) -> Result<(), Doubt> {
        let apart = |a: Time, b: Time| a.since(b).max(b.since(a));
        let now = database.now;
        let between = apart(now, here);
        if between > APART_MAX {
            return Err(Doubt::Apart { seconds: between.as_secs() });
        }
        let beginning = now.minus(boottime);
        let set = self.beginning.replace(beginning).map_or(Duration::ZERO, |before| apart(before, beginning));
        if set > APART_MAX {
            self.doubted = Some((boottime + CALM, Doubt::Set { seconds: set.as_secs() }));
        }
        match self.doubted {
            Some((until, doubt)) if boottime < until => return Err(doubt),
            _ => self.doubted = None,
        }
        if now < database.posted.max(database.derived) {
            return Err(Doubt::Before { until: database.posted.max(database.derived) });
        }
        Ok(())
    }
}

/// Runs on while the server sleeps, and is never set.
pub fn boottime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_clock_an_hour_off_is_found() {
        let begun = Time::from_unix_micros(1_700_000_000_000_000);
        let at = |now: Time| Progress { now, begun, derived: begun, posted: begun };
        let mut clock = Clock::default();
        let mut look = |minutes: u32, off_minutes: u32, here_off_minutes: u32| {
            let now = |off: u32| begun.plus(MINUTE * (minutes + off));
            clock.look(at(now(off_minutes)), now(here_off_minutes), MINUTE * (1000 + minutes))
        };
        assert_eq!((look(0, 0, 0), look(1, 0, 0), look(200, 0, 0)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(look(201, 60, 0), Err(Doubt::Apart { seconds: 3600 }), "one of two servers");
        assert_eq!(look(202, 60, 60), Err(Doubt::Set { seconds: 3600 }), "the only one");
        assert_eq!(look(211, 60, 60), Err(Doubt::Set { seconds: 3600 }));
        assert_eq!(look(213, 60, 60), Ok(()), "it runs on");
        assert_eq!(look(214, 0, 0), Err(Doubt::Set { seconds: 3600 }), "back again");
        let before = Progress { now: begun, posted: begun.plus(MINUTE * 60), begun, derived: begun };
        assert!(matches!(Clock::default().look(before, begun, MINUTE), Err(Doubt::Before { .. })));
    }
}
