//! What graphs say of an app's answers: counted beside the meters, taken at the end of each stretch. Never money.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use domain::{Answers, Latency, Life, Sample, Time, Traffic};
use plan::{Look, Outbox, Stretches};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Shared;
use crate::meters::Slot;

/// How an answer counts; in the order of [`Answers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Ok,
    Redirect,
    ClientError,
    ServerError,
    Unanswered,
}

impl Class {
    pub fn of(status: u16) -> Self {
        match status {
            ..300 => Self::Ok,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

/// Of one app, since the last stretch; some 400 bytes, made at its first answer.
struct Counters {
    answers: [AtomicU32; 5],
    latency: [AtomicU32; Latency::BUCKETS],
    /// What its meter said then. Nobody else looks at this.
    bytes_out: AtomicU64,
}

#[derive(Default)]
pub struct Seen(OnceLock<Box<Counters>>);

impl Seen {
    /// One answer; `after` its request's head, if an instance gave it.
    pub fn count(&self, class: Class, after: Option<Duration>) {
        let counters = self.0.get_or_init(Counters::new);
        counters.answers[class as usize].fetch_add(1, Relaxed);
        if let Some(after) = after {
            let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            counters.latency[usize::from(Latency::bucket(micros))].fetch_add(1, Relaxed);
        }
    }

    /// What there was since it was taken last; `None`: nothing.
    fn take(&self, meter: &Slot) -> Option<Traffic> {
        let total = meter.bytes_out();
        let counters = match self.0.get() {
            Some(counters) => counters,
            // A long answer sends before it is counted.
            None if total > 0 => self.0.get_or_init(Counters::new),
            None => return None,
        };
        let bytes_out = total.saturating_sub(counters.bytes_out.swap(total, Relaxed));
        let [ok, redirect, client_error, server_error, unanswered] =
            counters.answers.each_ref().map(|count| u64::from(count.swap(0, Relaxed)));
        let answers = Answers { ok, redirect, client_error, server_error, unanswered };
        let mut latency = Latency::default();
        for (bucket, count) in (0..).zip(&counters.latency) {
            // Read first: most are zero, and stay.
            if count.load(Relaxed) > 0 {
                latency.add(bucket, u64::from(count.swap(0, Relaxed)));
            }
        }
        (answers.all() > 0 || bytes_out > 0).then_some(Traffic { answers, bytes_out, latency })
    }
}

impl Counters {
    fn new() -> Box<Self> {
        Box::new(Self {
            answers: [const { AtomicU32::new(0) }; 5],
            latency: [const { AtomicU32::new(0) }; Latency::BUCKETS],
            bytes_out: AtomicU64::new(0),
        })
    }
}

/// Samples on their way to the coordinator.
#[derive(Default)]
pub struct Samples(Mutex<Outbox>);

impl Samples {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn next(&self) -> (Vec<Sample>, u64) {
        self.outbox().next()
    }

    pub fn taken(&self, until: u64) {
        self.outbox().taken(until);
    }

    /// Makes them until `done`, as from a source of its own: counters that go on in the same life are another's.
    pub async fn make(&self, shared: &Shared, life: &Life, done: &CancellationToken) {
        let now = || Time::from(SystemTime::now());
        let Ok(source) = format!("{life}/{}", now().unix_micros() / 1_000_000).parse::<Life>() else { return };
        let mut stretches = Stretches::default();
        while !done.is_cancelled() {
            let look = stretches.look(now(), shared.started.elapsed());
            self.look(shared, &source, look);
            tokio::select! {
                () = sleep(Stretches::left(now()).max(Duration::from_millis(1))) => {}
                () = done.cancelled() => {}
            }
        }
        let look = stretches.last(shared.started.elapsed());
        self.look(shared, &source, look);
    }

    fn look(&self, shared: &Shared, source: &Life, look: Look) {
        if look == Look::Within {
            return;
        }
        let table = shared.table.load();
        for app in table.all() {
            let traffic = app.seen.take(&app.meter);
            let Look::Over(at) = look else { continue };
            // Of an app that could be asked, nothing is also said: a gap in its graph is not a zero.
            if let Some(traffic) = traffic.or_else(|| (!app.instances.is_empty()).then(Traffic::default)) {
                let source = source.clone();
                self.outbox().put(Sample { source, app: app.id, at, work: None, traffic: Some(traffic) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::AppId;

    use super::*;
    use crate::meters::Meters;

    #[test]
    fn what_was_counted_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let (slot, seen) = (Meters::open(dir.path()).unwrap().slot(AppId(1)), Seen::default());
        assert_eq!(seen.take(&slot), None);
        slot.count_bytes(10);
        assert_eq!(seen.take(&slot).unwrap().bytes_out, 10);
        for (status, micros) in [(101, 100), (204, 100), (302, 100), (404, 90_000), (503, 5_000_000)] {
            seen.count(Class::of(status), Some(Duration::from_micros(micros)));
        }
        seen.count(Class::Unanswered, None);
        slot.count_bytes(7);
        let traffic = seen.take(&slot).unwrap();
        let answers = Answers { ok: 2, redirect: 1, client_error: 1, server_error: 1, unanswered: 1 };
        assert_eq!((traffic.answers, traffic.bytes_out, traffic.latency.count()), (answers, 7, 5));
        assert_eq!(traffic.latency.buckets().next(), Some((Latency::bucket(100), 3)));
        assert_eq!(seen.take(&slot), None);
    }
}
