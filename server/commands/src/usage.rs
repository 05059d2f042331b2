//! What an app uses and how it answers, over an hour, a day or a month: what graphs are drawn from.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use domain::{Answers, AppName, SAMPLE_EVERY, Stretch, Time, bins};
use plan::series::steps;

use crate::{Actor, CommandError, Commands, timely};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// What "now" means: the mean of so long.
const NOW: Duration = Duration::from_secs(300);
/// Younger minutes may not be rolled up yet: they are made from the samples.
const RAW: Duration = Duration::from_secs(3600);
const MARKS_MAX: i64 = 50;
const SPARK_HOURS: u32 = 24;
/// What is older was rolled up, where anybody rolls up: twice as long as that waits.
const ROLLED_UP: Duration = Duration::from_secs(600);

/// How far back one looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Range {
    #[default]
    Hour,
    Day,
    Month,
}

impl Range {
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::Day => "1d",
            Self::Month => "30d",
        }
    }

    /// Of one point, and how many there are: both ends of the range have one.
    pub fn step(self) -> (Duration, usize) {
        match self {
            Self::Hour => (MINUTE, 61),
            Self::Day => (MINUTE * 15, 97),
            Self::Month => (HOUR * 8, 91),
        }
    }

    /// When the range up to `now` begins.
    pub fn since(self, now: Time) -> Time {
        let (step, count) = self.step();
        now.floor(step).minus(step * (count as u32 - 1))
    }
}

impl FromStr for Range {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|range| range.as_str() == s).ok_or(())
    }
}

/// A gap is `None`: nobody looked. Nothing used is zero.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageView {
    pub app: AppName,
    pub range: Range,
    pub step: Duration,
    /// In order, `step` apart; the last may not be over.
    pub points: Vec<UsagePoint>,
    /// Of the whole range; `None`: nothing was seen in it.
    pub total: Option<UsageTotal>,
    /// The last minutes; `None`: nothing was seen in them, or the range is a month.
    pub now: Option<UsageNow>,
    /// Releases that went live, the newest first.
    pub marks: Vec<UsageMark>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct UsagePoint {
    pub at: Time,
    /// Busy on average.
    pub cores: Option<f64>,
    /// The most at one time.
    pub memory: Option<MemoryUse>,
    /// A second.
    pub requests: Option<Classes<f64>>,
    pub latency: Option<LatencyView>,
    /// A second.
    pub bytes_out: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    pub bytes: u64,
    pub reserved_bytes: u64,
}

/// Answers by status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Classes<N> {
    /// 2xx and 1xx
    pub ok: N,
    /// 3xx
    pub redirect: N,
    /// 4xx
    pub client_error: N,
    /// 5xx, of these also:
    pub server_error: N,
    /// Nobody answered, so Berth had to.
    pub unanswered: N,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencyView {
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsageTotal {
    pub cpu: Duration,
    pub memory: Option<MemoryUse>,
    pub requests: u64,
    pub by_class: Classes<u64>,
    pub latency: Option<LatencyView>,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsageNow {
    pub requests: Option<f64>,
    /// Of the requests, from 0 to 1; `None` without any.
    pub errors: Option<f64>,
    pub latency: Option<LatencyView>,
    pub cores: Option<f64>,
    pub memory: Option<MemoryUse>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageMark {
    pub release: i64,
    pub at: Time,
}

/// Requests a second by hours of the last day, the present one last.
#[derive(Debug, Clone, PartialEq)]
pub struct Spark {
    pub points: Vec<Option<f64>>,
    /// All of them.
    pub requests: u64,
}

impl Commands {
    pub async fn usage(&self, actor: &Actor, name: &AppName, range: Range) -> Result<UsageView, CommandError> {
        let now = Time::from(SystemTime::now());
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let app = store::app::get(&mut **tx, actor.customer, name).await?;
            let app = app.ok_or_else(|| CommandError::NoApp { name: name.clone() })?.id;
            let (step, count) = range.step();
            // One more than is shown: the youngest may have nothing yet.
            let from = now.floor(step).minus(step * count as u32);
            let mut seen = BTreeMap::new();
            match range {
                Range::Hour => seen = steps(store::series::seen(&mut **tx, app, from, now).await?),
                Range::Day => {
                    let young = now.hour().minus(RAW);
                    seen.extend(store::series::minutes(&mut **tx, app, from, young).await?);
                    seen.extend(steps(store::series::seen(&mut **tx, app, young, now).await?));
                }
                Range::Month => seen.extend(store::series::hours(&mut **tx, app, from, now).await?),
            }
            let marks = store::deploy::went_live(&mut **tx, app, from.plus(step), MARKS_MAX).await?;
            tx.commit().await?;
            Ok(view(name, range, from, &seen, marks, now))
        })
        .await
    }

    /// Requests of all apps of the actor's customer in the last day, until half a minute ago; those that nobody asked
    /// for anything are absent.
    pub async fn sparks(&self, actor: &Actor) -> Result<HashMap<AppName, Spark>, CommandError> {
        let now = Time::from(SystemTime::now());
        let from = now.hour().minus(HOUR * (SPARK_HOURS - 1));
        timely(async {
            let mut tx = self.db.snapshot().await?;
            let rolled = store::series::requests(&mut **tx, actor.customer, from).await?;
            let fresh = store::series::requests_since(&mut **tx, actor.customer, now.minus(ROLLED_UP), now).await?;
            tx.commit().await?;
            Ok(all_sparks(rolled.into_iter().chain(fresh), from))
        })
        .await
    }
}

fn view(
    app: &AppName,
    range: Range,
    from: Time,
    seen: &BTreeMap<Time, Stretch>,
    marks: Vec<(i64, Time)>,
    now: Time,
) -> UsageView {
    let (step, count) = range.step();
    let mut points = bins(seen.iter().map(|(at, stretch)| (*at, stretch)), from, step, count + 1);
    // What is not over and has nothing yet is not a gap.
    let first = match points.last().is_some_and(Stretch::is_gap) {
        true => from,
        false => from.plus(step),
    };
    if first == from {
        drop(points.pop())
    } else {
        drop(points.remove(0))
    }
    let all = points.iter().fold(Stretch::default(), |mut all, point| {
        all.then(point);
        all
    });
    let lately = (range != Range::Month).then(|| {
        let mut lately = Stretch::default();
        seen.range(now.minus(NOW).floor(SAMPLE_EVERY)..).for_each(|(_, stretch)| lately.then(stretch));
        lately
    });
    let points = points.iter().enumerate().map(|(n, stretch)| point(first.plus(step * n as u32), stretch)).collect();
    let mark = |(release, at): (i64, Time)| (at >= first).then_some(UsageMark { release, at });
    UsageView {
        app: app.clone(),
        range,
        step,
        points,
        total: (!all.is_gap()).then(|| total(&all)),
        now: lately.filter(|lately| !lately.is_gap()).map(|lately| present(&lately)),
        marks: marks.into_iter().filter_map(mark).collect(),
    }
}

fn point(at: Time, seen: &Stretch) -> UsagePoint {
    let a_second = |count| seen.a_second(count);
    UsagePoint {
        at,
        cores: seen.cores(),
        memory: memory(seen),
        requests: a_second(0).map(|_| by_class(&seen.answers).map(|count| a_second(count).unwrap_or(0.0))),
        latency: latency(seen),
        bytes_out: seen.bytes_out_a_second(),
    }
}

impl<N: Copy> Classes<N> {
    pub fn map<M>(self, each: impl Fn(N) -> M) -> Classes<M> {
        Classes {
            ok: each(self.ok),
            redirect: each(self.redirect),
            client_error: each(self.client_error),
            server_error: each(self.server_error),
            unanswered: each(self.unanswered),
        }
    }
}

fn by_class(answers: &Answers) -> Classes<u64> {
    Classes {
        ok: answers.ok,
        redirect: answers.redirect,
        client_error: answers.client_error,
        server_error: answers.server_error.saturating_add(answers.unanswered),
        unanswered: answers.unanswered,
    }
}

fn memory(seen: &Stretch) -> Option<MemoryUse> {
    seen.memory().map(|(bytes, reserved_bytes)| MemoryUse { bytes, reserved_bytes })
}

fn latency(seen: &Stretch) -> Option<LatencyView> {
    let of = |permille| seen.latency.quantile(permille);
    Some(LatencyView { p50: of(500)?, p95: of(950)?, p99: of(990)? })
}

fn total(all: &Stretch) -> UsageTotal {
    UsageTotal {
        cpu: Duration::from_micros(all.cpu_micros),
        memory: memory(all),
        requests: all.answers.all(),
        by_class: by_class(&all.answers),
        latency: latency(all),
        bytes_out: all.bytes_out,
    }
}

fn present(lately: &Stretch) -> UsageNow {
    let (all, classes) = (lately.answers.all(), by_class(&lately.answers));
    UsageNow {
        requests: lately.a_second(all),
        errors: (all > 0).then(|| classes.server_error as f64 / all as f64),
        latency: latency(lately),
        cores: lately.cores(),
        memory: memory(lately),
    }
}

fn all_sparks(rows: impl Iterator<Item = store::series::Requests>, from: Time) -> HashMap<AppName, Spark> {
    let mut hours: HashMap<AppName, [(i64, i64); SPARK_HOURS as usize]> = HashMap::new();
    for row in rows {
        let n = usize::try_from(row.hour.since(from).as_secs() / HOUR.as_secs()).unwrap_or(usize::MAX);
        if let Some((count, steps)) = hours.entry(row.app).or_default().get_mut(n) {
            *count = count.saturating_add(row.count);
            *steps = steps.saturating_add(row.steps);
        }
    }
    let point = |(count, steps): &(i64, i64)| {
        (*steps > 0).then(|| *count as f64 / (*steps as f64 * SAMPLE_EVERY.as_secs_f64()))
    };
    let spark = |(app, hours): (AppName, [(i64, i64); SPARK_HOURS as usize])| {
        let requests = hours.iter().map(|(count, _)| u64::try_from(*count).unwrap_or(0)).fold(0, u64::saturating_add);
        (app, Spark { points: hours.iter().map(point).collect(), requests })
    };
    hours.into_iter().map(spark).collect()
}

#[cfg(test)]
mod tests {
    use domain::{Latency, Traffic, Work};

    use super::*;

    const NOON: Time = Time::from_unix_micros(490_000 * 3_600_000_000);

    fn seen(minutes: std::ops::Range<u32>) -> BTreeMap<Time, Stretch> {
        let mut latency = Latency::default();
        latency.add(Latency::bucket(30_000), 30);
        let answers = Answers { ok: 28, server_error: 1, unanswered: 1, ..Answers::default() };
        let work = Work { cpu_micros: 7_500_000, memory_bytes: 100, memory_reserved_bytes: 200, bytes_out: 15 };
        let both = Stretch::of(Some(&work), Some(&Traffic { answers, bytes_out: 15, latency }));
        minutes.map(|n| (NOON.plus(SAMPLE_EVERY * n), both.clone())).collect()
    }

    fn at(seconds: u64, seen: &BTreeMap<Time, Stretch>, range: Range) -> UsageView {
        let now = NOON.plus(Duration::from_secs(seconds));
        let (step, count) = range.step();
        let from = now.floor(step).minus(step * count as u32);
        view(&"shop".parse().unwrap(), range, from, seen, vec![(3, now), (2, NOON.minus(HOUR * 24 * 60))], now)
    }

    #[test]
    fn rates_are_of_the_time_that_was_seen_and_gaps_stay_gaps() {
        let view = at(3590, &seen(100..130), Range::Hour);
        assert_eq!((view.points.len(), view.points[60].at), (61, NOON.plus(MINUTE * 58)));
        let seen: Vec<usize> =
            view.points.iter().enumerate().filter(|(_, p)| p.cores.is_some()).map(|(n, _)| n).collect();
        assert_eq!(seen, (27..=34).collect::<Vec<_>>());
        // Of this minute only two quarters were seen.
        for n in [27, 34] {
            let point = &view.points[n];
            assert_eq!((point.cores, point.bytes_out, point.requests.unwrap().ok), (Some(0.5), Some(2.0), 28.0 / 15.0));
            assert_eq!(point.requests.unwrap().server_error, 2.0 / 15.0);
        }
        assert_eq!((view.points[26].requests, view.points[26].memory), (None, None));
        let total = view.total.unwrap();
        assert_eq!((total.requests, total.by_class.server_error, total.bytes_out), (900, 60, 900));
        assert_eq!(view.now, None);
        assert_eq!(view.marks.iter().map(|m| m.release).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn the_present_minute_is_shown_as_soon_as_it_has_something() {
        let view = at(3590, &seen(0..239), Range::Hour);
        assert_eq!(view.points[60].at, NOON.plus(MINUTE * 59));
        let now = view.now.unwrap();
        assert_eq!((now.requests, now.errors), (Some(2.0), Some(2.0 / 30.0)));
        let total = at(3590, &BTreeMap::new(), Range::Month);
        assert_eq!((total.total, total.points.len()), (None, 91));
    }

    #[test]
    fn a_range_is_known_by_its_word_only() {
        assert!(Range::ALL.iter().all(|range| range.as_str().parse() == Ok(*range)));
        assert!(["", "1H", "2h", "30"].iter().all(|bad| bad.parse::<Range>().is_err()));
    }
}
