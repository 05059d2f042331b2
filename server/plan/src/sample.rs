//! Samples for graphs at their source: which stretch something was counted in, and how long it is held on to.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use domain::{SAMPLE_EVERY, Sample, Time};

/// A stretch that took so much longer than it should belongs nowhere: this process stood still.
const LATE: Duration = Duration::from_secs(5);
/// Stretches of a day, which is as old as a sample may be.
const TOLD_MAX: usize = 24 * 3600 / SAMPLE_EVERY.as_secs() as usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The stretch goes on.
    Within,
    /// It is over: what was counted is its sample's.
    Over(Time),
    /// What was counted belongs nowhere: the clock was set back to what is told already, or time was lost.
    Nowhere,
}

/// Cuts what is counted into stretches, whatever the clock does: none is told twice.
#[derive(Debug, Default)]
pub struct Stretches {
    /// The stretch that is counted, and since when on a clock that nobody sets.
    now: Option<(Time, Duration)>,
    told: BTreeSet<Time>,
}

impl Stretches {
    /// `now` is the wall clock, `steady` one that nobody sets.
    pub fn look(&mut self, now: Time, steady: Duration) -> Look {
        let at = stretch(now);
        let Some((of, since)) = self.now.replace((at, steady)) else { return Look::Within };
        let took = steady.saturating_sub(since);
        if of == at && took <= SAMPLE_EVERY + LATE {
            self.now = Some((of, since));
            return Look::Within;
        }
        self.end(of, took)
    }

    /// Whoever counts ends: the stretch is over before its time.
    pub fn last(&mut self, steady: Duration) -> Look {
        let Some((of, since)) = self.now.take() else { return Look::Nowhere };
        self.end(of, steady.saturating_sub(since))
    }

    fn end(&mut self, of: Time, took: Duration) -> Look {
        if took > SAMPLE_EVERY + LATE || !self.told.insert(of) {
            return Look::Nowhere;
        }
        if self.told.len() > TOLD_MAX {
            self.told.pop_first();
        }
        Look::Over(of)
    }

    /// How long until the stretch that `now` lies in ends.
    pub fn left(now: Time) -> Duration {
        stretch(now).plus(SAMPLE_EVERY).since(now)
    }
}

fn stretch(at: Time) -> Time {
    let every = i64::try_from(SAMPLE_EVERY.as_micros()).unwrap_or(i64::MAX);
    Time::from_unix_micros(at.unix_micros().div_euclid(every) * every)
}

/// Samples until somebody has taken them: those of a quarter of an hour, and not more than fit.
#[derive(Debug, Default)]
pub struct Outbox {
    held: VecDeque<Sample>,
    /// The number of the first that is held.
    first: u64,
}

const HELD: Duration = Duration::from_secs(900);
const HELD_MAX: usize = 100_000;
const SENT_MAX: usize = 5_000;

impl Outbox {
    pub fn put(&mut self, sample: Sample) {
        let oldest = sample.at.minus(HELD);
        while self.held.front().is_some_and(|first| first.at < oldest) || self.held.len() >= HELD_MAX {
            self.held.pop_front();
            self.first += 1;
        }
        self.held.push_back(sample);
    }

    /// The next to be sent, and up to which number these are.
    pub fn next(&self) -> (Vec<Sample>, u64) {
        let next: Vec<Sample> = self.held.iter().take(SENT_MAX).cloned().collect();
        let until = self.first + next.len() as u64;
        (next, until)
    }

    pub fn taken(&mut self, until: u64) {
        while self.first < until && self.held.pop_front().is_some() {
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{AppId, Work};
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_unix_micros(seconds * 1_000_000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_stretch_is_told_once_and_begins_at_a_whole_multiple() {
        let mut stretches = Stretches::default();
        let looks: Vec<_> = (7..=46).map(|s| stretches.look(at(s), secs(s as u64))).collect();
        let over: Vec<_> = looks.into_iter().filter(|look| *look != Look::Within).collect();
        assert_eq!(over, [Look::Over(at(0)), Look::Over(at(15)), Look::Over(at(30))]);
        assert_eq!(stretches.last(secs(50)), Look::Over(at(45)));
        assert_eq!(Stretches::left(at(46)), secs(14));
    }

    #[test]
    fn a_clock_that_is_set_tells_nothing_twice_and_lost_time_is_a_gap() {
        let mut stretches = Stretches::default();
        assert_eq!(stretches.look(at(3600), secs(0)), Look::Within);
        assert_eq!(stretches.look(at(3615), secs(15)), Look::Over(at(3600)));
        // Set back by a minute, and on again: a stretch that was told is not told again.
        assert_eq!(stretches.look(at(3555), secs(16)), Look::Over(at(3615)));
        for (wall, steady) in [(3570, 31), (3585, 46), (3600, 61)] {
            assert_eq!(stretches.look(at(wall), secs(steady)), Look::Over(at(wall - 15)));
        }
        assert_eq!(stretches.look(at(3615), secs(76)), Look::Nowhere);
        assert_eq!(stretches.look(at(3630), secs(91)), Look::Nowhere);
        assert_eq!(stretches.look(at(3645), secs(106)), Look::Over(at(3630)));
        // An hour on, and half a minute without a look.
        assert_eq!(stretches.look(at(7245), secs(107)), Look::Over(at(3645)));
        assert_eq!(stretches.look(at(7275), secs(137)), Look::Nowhere);
        assert_eq!(stretches.look(at(7275), secs(160)), Look::Nowhere, "the clock stands");
    }

    proptest! {
        #[test]
        fn no_stretch_is_told_twice_whatever_the_clock_does(steps in prop::collection::vec((-4000_i64..4000, 0_u64..20), 1..400)) {
            let (mut stretches, mut told, mut wall, mut steady) = (Stretches::default(), BTreeSet::new(), 1_000_000, 0);
            for (jump, passes) in steps {
                wall += passes as i64 + if jump.abs() > 3800 { jump } else { 0 };
                steady += passes;
                if let Look::Over(of) = stretches.look(at(wall), secs(steady)) {
                    prop_assert!(told.insert(of), "{of} is told twice");
                }
            }
        }
    }

    #[test]
    fn a_sample_is_sent_until_it_was_taken_and_not_for_ever() {
        let sample = |seconds: i64| Sample {
            source: "boot/1".parse().unwrap(),
            app: AppId(1),
            at: at(seconds),
            work: Some(Work::default()),
            traffic: None,
        };
        let times =
            |outbox: &Outbox| outbox.next().0.iter().map(|s| s.at.unix_micros() / 1_000_000).collect::<Vec<_>>();
        let mut outbox = Outbox::default();
        [0, 15, 30].into_iter().for_each(|s| outbox.put(sample(s)));
        let (_, until) = outbox.next();
        outbox.put(sample(900));
        outbox.put(sample(915));
        assert_eq!(times(&outbox), [15, 30, 900, 915]);
        // The answer to what was sent before: the first of it was given up meanwhile.
        outbox.taken(until);
        assert_eq!(times(&outbox), [900, 915]);
        outbox.taken(until);
        assert_eq!(times(&outbox), [900, 915]);
    }
}
