//! What was seen of an app in a stretch of time, however long: samples side by side and one after the other.

use crate::{Answers, Latency, SAMPLE_EVERY, Time, Traffic, Work};

/// Sums, but for memory, which is the most at one time. No step of a kind: nobody saw it (a gap, not a zero).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stretch {
    /// Quarter minutes that a runner saw, and those that a balancer saw.
    pub work_steps: u32,
    pub traffic_steps: u32,
    pub cpu_micros: u64,
    pub memory_bytes: u64,
    pub memory_reserved_bytes: u64,
    /// To the internet, and in answers.
    pub bytes_out: u64,
    pub answers: Answers,
    pub latency: Latency,
}

impl Stretch {
    /// What one source saw in one step.
    pub fn of(work: Option<&Work>, traffic: Option<&Traffic>) -> Self {
        let mut stretch = Self::default();
        if let Some(work) = work {
            stretch.work_steps = 1;
            stretch.cpu_micros = work.cpu_micros;
            stretch.memory_bytes = work.memory_bytes;
            stretch.memory_reserved_bytes = work.memory_reserved_bytes;
            stretch.bytes_out = work.bytes_out;
        }
        if let Some(traffic) = traffic {
            stretch.traffic_steps = 1;
            stretch.answers = traffic.answers;
            stretch.bytes_out = stretch.bytes_out.saturating_add(traffic.bytes_out);
            stretch.latency = traffic.latency.clone();
        }
        stretch
    }

    /// Takes in what another source saw of the same step.
    pub fn beside(&mut self, other: &Self) {
        self.work_steps = self.work_steps.max(other.work_steps);
        self.traffic_steps = self.traffic_steps.max(other.traffic_steps);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.memory_reserved_bytes = self.memory_reserved_bytes.saturating_add(other.memory_reserved_bytes);
        self.add(other);
    }

    /// Takes in another time.
    pub fn then(&mut self, other: &Self) {
        self.work_steps = self.work_steps.saturating_add(other.work_steps);
        self.traffic_steps = self.traffic_steps.saturating_add(other.traffic_steps);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.memory_reserved_bytes = self.memory_reserved_bytes.max(other.memory_reserved_bytes);
        self.add(other);
    }

    fn add(&mut self, other: &Self) {
        self.cpu_micros = self.cpu_micros.saturating_add(other.cpu_micros);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.answers.add(&other.answers);
        self.latency.merge(&other.latency);
    }

    pub fn is_gap(&self) -> bool {
        self.work_steps == 0 && self.traffic_steps == 0
    }

    fn seconds(steps: u32) -> Option<f64> {
        (steps > 0).then(|| f64::from(steps) * SAMPLE_EVERY.as_secs_f64())
    }

    pub fn cores(&self) -> Option<f64> {
        Some(self.cpu_micros as f64 / 1e6 / Self::seconds(self.work_steps)?)
    }

    /// In use, of what is reserved.
    pub fn memory(&self) -> Option<(u64, u64)> {
        (self.work_steps > 0).then_some((self.memory_bytes, self.memory_reserved_bytes))
    }

    /// `count` of what balancers saw, a second.
    pub fn a_second(&self, count: u64) -> Option<f64> {
        Some(count as f64 / Self::seconds(self.traffic_steps)?)
    }

    pub fn bytes_out_a_second(&self) -> Option<f64> {
        Some(self.bytes_out as f64 / Self::seconds(self.work_steps.max(self.traffic_steps))?)
    }
}

/// Puts stretches into `count` bins of `step` each, the first of which begins at `from`; what lies outside is left out.
pub fn bins<'a>(
    stretches: impl IntoIterator<Item = (Time, &'a Stretch)>,
    from: Time,
    step: std::time::Duration,
    count: usize,
) -> Vec<Stretch> {
    let mut bins = vec![Stretch::default(); count];
    let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
    for (at, stretch) in stretches {
        let bin = at.unix_micros().saturating_sub(from.unix_micros()).div_euclid(step);
        if let Some(bin) = usize::try_from(bin).ok().and_then(|bin| bins.get_mut(bin)) {
            bin.then(stretch);
        }
    }
    bins
}
