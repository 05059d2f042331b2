//! What graphs are drawn from: what a source saw of an app in a quarter of a minute. Never money: samples may be lost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AppId, Life, Time};

/// A sample is of a stretch this long, which begins at a whole multiple of it (UTC).
pub const SAMPLE_EVERY: Duration = Duration::from_secs(15);

/// The sums of all samples of one app and time, whoever they are from, are what happened; the same
/// (source, app, at) again is the same sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Who saw it: one run of a runner (`<boot id>/<when it began>`) or a balancer (`<life>/<when it began>`).
    pub source: Life,
    pub app: AppId,
    /// When the stretch began.
    pub at: Time,
    /// A runner's.
    #[serde(default)]
    pub work: Option<Work>,
    /// A balancer's.
    #[serde(default)]
    pub traffic: Option<Traffic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    pub cpu_micros: u64,
    /// In use by all its instances, the most that was seen at one time.
    pub memory_bytes: u64,
    /// What these may use.
    pub memory_reserved_bytes: u64,
    /// Sent by its instances to the internet.
    pub bytes_out: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    pub answers: Answers,
    /// Of answers.
    pub bytes_out: u64,
    /// From a request's head to the answer's.
    pub latency: Latency,
}

/// By status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Answers {
    /// Below 300.
    pub ok: u64,
    /// 3xx
    pub redirect: u64,
    /// 4xx
    pub client_error: u64,
    /// 5xx of the app, or broken off by it.
    pub server_error: u64,
    /// 502, 503, 504 of the balancer, since no instance answered.
    pub unanswered: u64,
}

impl Answers {
    pub fn all(&self) -> u64 {
        [self.ok, self.redirect, self.client_error, self.server_error, self.unanswered]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    pub fn add(&mut self, other: &Self) {
        let add = |to: &mut u64, count: u64| *to = to.saturating_add(count);
        add(&mut self.ok, other.ok);
        add(&mut self.redirect, other.redirect);
        add(&mut self.client_error, other.client_error);
        add(&mut self.server_error, other.server_error);
        add(&mut self.unanswered, other.unanswered);
    }
}

/// How long answers took, as counts by buckets whose bounds are the same everywhere: two are merged by adding, and a
/// quantile is wrong by less than an eighth.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latency(BTreeMap<u8, u64>);

/// Buckets are quarters of a power of two: the first ends at 64 µs, the last begins at 2²⁷ µs (134 s).
const FIRST: u32 = 6;
const LAST: u32 = 27;
const QUARTERS: u32 = 4;

impl Latency {
    /// So many buckets there are.
    pub const BUCKETS: usize = ((LAST - FIRST) * QUARTERS + 2) as usize;

    /// Which bucket a time belongs to; below [`Self::BUCKETS`].
    pub const fn bucket(micros: u64) -> u8 {
        if micros < 1 << FIRST {
            return 0;
        }
        let power = micros.ilog2();
        if power >= LAST {
            return (Self::BUCKETS - 1) as u8;
        }
        let quarter = (micros >> (power - 2)) as u32 & 3;
        ((power - FIRST) * QUARTERS + quarter + 1) as u8
    }

    /// Where a bucket begins and ends, in microseconds; the last one's end is that of a bucket as long as the one before.
    pub const fn bounds(bucket: u8) -> (u64, u64) {
        if bucket == 0 {
            return (0, 1 << FIRST);
        }
        let at = bucket as u32 - 1;
        let (power, quarter) = (FIRST + at / QUARTERS, (at % QUARTERS) as u64);
        let width = 1_u64 << (power - 2);
        ((4 + quarter) * width, (5 + quarter) * width)
    }

    pub fn add(&mut self, bucket: u8, count: u64) {
        if count > 0 && usize::from(bucket) < Self::BUCKETS {
            let held = self.0.entry(bucket).or_default();
            *held = held.saturating_add(count);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        other.buckets().for_each(|(bucket, count)| self.add(bucket, count));
    }

    /// Those that have something, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (u8, u64)> {
        self.0.iter().map(|(bucket, count)| (*bucket, *count))
    }

    pub fn count(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What `permille` of the answers took at most: the middle of the bucket it lies in. `None` without any answer.
    pub fn quantile(&self, permille: u16) -> Option<Duration> {
        let all = u128::from(self.count());
        let rank = (all * u128::from(permille.min(1000))).div_ceil(1000).max(1);
        let mut seen = 0_u128;
        for (bucket, count) in self.buckets() {
            seen += u128::from(count);
            if seen >= rank {
                let (from, to) = Self::bounds(bucket);
                return Some(Duration::from_micros(from.midpoint(to)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_buckets_meet_without_a_gap() {
        for bucket in 0..Latency::BUCKETS as u8 - 1 {
            let ((from, to), (next, _)) = (Latency::bounds(bucket), Latency::bounds(bucket + 1));
            assert_eq!(to, next);
            assert_eq!((Latency::bucket(from), Latency::bucket(to - 1)), (bucket, bucket));
        }
        assert_eq!(Latency::default().quantile(500), None);
    }

    proptest! {
        #[test]
        fn merged_in_any_order_it_is_the_same_and_a_quantile_is_near(
            mut times in prop::collection::vec(64..100_000_000_u64, 1..200), permille in 1..1000_u16, cut in any::<prop::sample::Index>(),
        ) {
            let of = |times: &[u64]| {
                let mut latency = Latency::default();
                times.iter().for_each(|micros| latency.add(Latency::bucket(*micros), 1));
                latency
            };
            let (left, right) = times.split_at(cut.index(times.len()));
            let (mut one, mut other) = (of(left), of(right));
            one.merge(&of(right));
            other.merge(&of(left));
            prop_assert_eq!(&one, &of(&times));
            prop_assert_eq!(&one, &other);
            times.sort_unstable();
            let exact = times[(times.len() * usize::from(permille)).div_ceil(1000).max(1) - 1];
            let near = one.quantile(permille).map_or(0, |d| d.as_micros() as u64);
            prop_assert!(near.abs_diff(exact) * 8 <= exact, "{near} is not near {exact}");
        }
    }
}
