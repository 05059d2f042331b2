//! What an hour of samples amounts to.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Latency, SAMPLE_EVERY, Stretch, Time};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const MINUTES: usize = 60;
/// Times of answers are kept by five minutes, with the first of them.
pub const LATENCY_MINUTES: usize = 5;

/// An app's hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    /// One each, in order; of five, the first has all their times.
    pub minutes: Vec<Stretch>,
    pub whole: Stretch,
}

/// Joins what several sources saw of the same step; each source's sample of a time stands in it once.
pub fn steps(seen: impl IntoIterator<Item = (Time, Stretch)>) -> BTreeMap<Time, Stretch> {
    let mut steps = BTreeMap::<Time, Stretch>::new();
    for (at, one) in seen {
        let at = at.floor(SAMPLE_EVERY);
        match steps.get_mut(&at) {
            Some(step) => step.beside(&one),
            None => drop(steps.insert(at, one)),
        }
    }
    steps
}

/// The hour that begins at `hour`: what of `steps` lies in it.
pub fn roll_up(hour: Time, steps: &BTreeMap<Time, Stretch>) -> Hour {
    let end = hour.plus(MINUTE * MINUTES as u32);
    let mut minutes = domain::bins(steps.range(hour..end).map(|(at, step)| (*at, step)), hour, MINUTE, MINUTES);
    let mut whole = Stretch::default();
    minutes.iter().for_each(|minute| whole.then(minute));
    for five in minutes.chunks_mut(LATENCY_MINUTES) {
        let mut all = Latency::default();
        for minute in &mut *five {
            all.merge(&std::mem::take(&mut minute.latency));
        }
        if let Some(first) = five.first_mut() {
            first.latency = all;
        }
    }
    Hour { minutes, whole }
}

#[cfg(test)]
mod tests {
    use domain::{Answers, Traffic, Work};
    use proptest::prelude::*;

    use super::*;

    const HOUR: Time = Time::from_unix_micros(490_000 * 3_600_000_000);

    fn at(step: u32) -> Time {
        HOUR.plus(SAMPLE_EVERY * step)
    }

    fn worked(cpu_micros: u64, memory_bytes: u64) -> Stretch {
        let work = Work { cpu_micros, memory_bytes, memory_reserved_bytes: 512, bytes_out: 7 };
        Stretch::of(Some(&work), None)
    }

    fn answered(ok: u64, server_error: u64, micros: u64) -> Stretch {
        let answers = Answers { ok, server_error, ..Answers::default() };
        let mut latency = Latency::default();
        latency.add(Latency::bucket(micros), ok);
        Stretch::of(None, Some(&Traffic { answers, bytes_out: ok * 100, latency }))
    }

    #[test]
    fn a_minute_nobody_saw_is_a_gap_and_one_without_a_request_is_not() {
        let seen = [(at(0), worked(30_000_000, 100)), (at(1), worked(0, 50)), (at(4), answered(0, 0, 0))];
        let hour = roll_up(HOUR, &steps(seen));
        let (first, second, third) = (&hour.minutes[0], &hour.minutes[1], &hour.minutes[2]);
        assert_eq!((first.cores(), first.memory(), first.a_second(0)), (Some(1.0), Some((100, 512)), None));
        assert_eq!((second.cores(), second.a_second(second.answers.all())), (None, Some(0.0)));
        assert!(third.is_gap() && third.bytes_out_a_second().is_none());
    }

    #[test]
    fn what_two_sources_saw_at_one_time_is_added_and_over_time_memory_is_the_most() {
        let seen = [
            (at(0), worked(15_000_000, 100)),
            (at(0), worked(15_000_000, 80)),
            (at(1), worked(15_000_000, 120)),
            (at(0), answered(4, 0, 1000)),
            (at(0), answered(6, 1, 9000)),
        ];
        let minute = &roll_up(HOUR, &steps(seen)).minutes[0];
        assert_eq!((minute.cores(), minute.memory()), (Some(1.5), Some((180, 1024))));
        assert_eq!((minute.answers.all(), minute.a_second(minute.answers.all())), (11, Some(11.0 / 15.0)));
        assert_eq!(minute.latency.count(), 10);
    }

    #[test]
    fn what_lies_beside_the_hour_is_another_hours() {
        let before = (HOUR.minus(SAMPLE_EVERY), worked(1, 1));
        let after = (at(240), worked(1, 1));
        assert!(roll_up(HOUR, &steps([before, after])).whole.is_gap());
    }

    fn samples() -> impl Strategy<Value = Vec<(Time, Stretch)>> {
        let one =
            (0..240_u32, 0..4_u8, 0..50_u64, 0..9_u64, 64..9_000_000_u64).prop_map(|(step, source, n, bad, micros)| {
                let stretch = if source < 2 { worked(n * 1000, n * 3) } else { answered(n, bad, micros) };
                (at(step), source, stretch)
            });
        // The same (source, at) is the same sample.
        prop::collection::vec(one, 0..200).prop_map(|all| {
            let once: BTreeMap<_, _> = all.into_iter().map(|(at, source, seen)| ((at, source), seen)).collect();
            once.into_iter().map(|((at, _), seen)| (at, seen)).collect()
        })
    }

    proptest! {
        #[test]
        fn in_any_order_the_hour_is_the_same((kept, mixed) in samples().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle()))) {
            let hour = roll_up(HOUR, &steps(kept));
            prop_assert_eq!(&hour, &roll_up(HOUR, &steps(mixed)));
            // Nothing is lost between the minutes and the hour.
            let mut again = Stretch::default();
            hour.minutes.iter().for_each(|minute| again.then(minute));
            prop_assert_eq!(&again, &hour.whole);
            prop_assert_eq!(hour.minutes.len(), MINUTES);
        }

        #[test]
        fn cut_into_bins_of_any_size_nothing_is_lost(all in samples(), size in 1..120_u32) {
            let steps = steps(all);
            let cut = domain::bins(steps.iter().map(|(at, step)| (*at, step)), HOUR, SAMPLE_EVERY * size, 240_usize.div_ceil(size as usize));
            let mut again = Stretch::default();
            cut.iter().for_each(|bin| again.then(bin));
            prop_assert_eq!(again, roll_up(HOUR, &steps).whole);
        }
    }
}
