//! Samples: whatever happens on their way, an hour is what its samples amount to.

use domain::wire::SAMPLE_FIELD;
use domain::{Answers, Latency, SAMPLE_EVERY, Sample, Stretch, Traffic, Work};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const APP: AppId = AppId(7);

fn now() -> Time {
    Time::from(std::time::SystemTime::now())
}

/// Two hours of an app on two servers behind two balancers, by whom and in which order they came.
fn samples(from: Time, steps: u32) -> Vec<Sample> {
    let sample = |step: u32, source: u32| {
        let n = u64::from(step * 7 + source * 3) % 11;
        let work =
            Work { cpu_micros: n * 100_000, memory_bytes: n << 20, memory_reserved_bytes: 512 << 20, bytes_out: n };
        let mut latency = Latency::default();
        latency.add(Latency::bucket(n * 900), n);
        let answers = Answers { ok: n, server_error: n % 2, ..Answers::default() };
        Sample {
            source: format!("boot/{source}").parse().unwrap(),
            app: APP,
            at: from.plus(SAMPLE_EVERY * step),
            work: (source < 2).then_some(work),
            traffic: (source >= 2).then_some(Traffic { answers, bytes_out: n * 100, latency }),
        }
    };
    // A gap of ten minutes, and a source that began later.
    let mut all: Vec<_> = (0..steps)
        .filter(|step| !(60..100).contains(step))
        .flat_map(|step| (0..4).filter(move |source| *source != 3 || step > 30).map(move |source| sample(step, source)))
        .collect();
    all.extend(all.clone().into_iter().rev().step_by(3));
    let third = all.len() / 3;
    all.rotate_left(third);
    all
}

fn clean(samples: &[Sample], hour: Time) -> plan::series::Hour {
    let once: BTreeMap<_, _> = samples.iter().map(|s| ((s.at, s.source.to_string()), s)).collect();
    let seen = once.into_values().map(|s| (s.at, Stretch::of(s.work.as_ref(), s.traffic.as_ref())));
    plan::series::roll_up(hour, &plan::series::steps(seen))
}

impl Lab {
    async fn add_samples(&self, samples: &[Sample]) {
        let mut pipeline = redis::pipe();
        for sample in samples {
            let json = serde_json::to_string(sample).unwrap();
            pipeline.cmd("XADD").arg(READINGS_STREAM).arg("*").arg(SAMPLE_FIELD).arg(json).ignore();
        }
        pipeline.query_async::<()>(&mut self.connection().await).await.unwrap();
    }

    async fn roll_up(&self) -> usize {
        let mut done = 0;
        loop {
            match stats::roll_up_some(&self.db, now().plus(HOUR)).await.unwrap() {
                0 => return done,
                n => done += n,
            }
        }
    }

    /// An hour as it is kept.
    async fn kept(&self, hour: Time) -> (Vec<(Time, Stretch)>, Vec<(Time, Stretch)>) {
        let minutes = store::series::minutes(self.db.pool(), APP, hour, hour.plus(HOUR)).await.unwrap();
        (minutes, store::series::hours(self.db.pool(), APP, hour, hour.plus(HOUR)).await.unwrap())
    }

    async fn check(&self, samples: &[Sample], hour: Time) {
        let clean = clean(samples, hour);
        let minutes =
            clean.minutes.into_iter().enumerate().map(|(n, m)| (hour.plus(plan::series::MINUTE * n as u32), m));
        let minutes: Vec<_> = minutes.filter(|(_, m)| !m.is_gap() || m.latency.count() > 0).collect();
        assert!(!minutes.is_empty());
        let (kept, whole) = self.kept(hour).await;
        assert_eq!(kept, minutes);
        assert_eq!(whole, [(hour, clean.whole)]);
    }
}

#[tokio::test]
async fn whatever_dies_on_their_way_an_hour_is_what_its_samples_amount_to() {
    let lab = Lab::new().await;
    let first = now().hour().minus(HOUR * 2);
    let samples = samples(first, 480);
    for piece in samples.chunks(samples.len() / 6 + 1) {
        let (running, _stop) = lab.consumer();
        lab.add_samples(piece).await;
        tokio::time::sleep(Duration::from_millis(u64::from(rand::random_range(0..30_u32)))).await;
        running.abort();
        // In the middle of it all, it is rolled up again and again.
        lab.roll_up().await;
    }
    let (_running, stop) = lab.consumer();
    lab.settled(&[]).await;
    lab.roll_up().await;
    for hour in [first, first.plus(HOUR)] {
        lab.check(&samples, hour).await;
    }
    // The same again changes nothing, and makes nothing due.
    lab.add_samples(&samples).await;
    lab.settled(&[]).await;
    assert_eq!(lab.roll_up().await, 0);
    stop.cancel();
}

#[tokio::test]
async fn a_late_sample_joins_its_hour_and_one_of_a_wrong_clock_none() {
    let lab = Lab::new().await;
    let hour = now().hour().minus(HOUR * 5);
    let mut all = samples(hour, 240);
    let late = all.split_off(all.len() / 2);
    let add = async |samples: &[Sample]| store::series::add(lab.db.pool(), samples, now()).await.unwrap().dropped;
    assert_eq!(add(&all).await, 0);
    lab.roll_up().await;
    lab.check(&all, hour).await;
    assert_eq!(add(&late).await, 0);
    lab.roll_up().await;
    all.extend(late);
    lab.check(&all, hour).await;

    // A clock an hour ahead, and one that stood still for two days.
    let wrong: Vec<_> = [now().plus(HOUR), now().minus(HOUR * 48)].into_iter().flat_map(|at| samples(at, 1)).collect();
    assert_eq!(add(&wrong).await, wrong.len());
    // Set back by an hour, a source says again what it said: the first holds.
    let mut again = all[..40].to_vec();
    again.iter_mut().for_each(|s| s.work.iter_mut().for_each(|work| work.cpu_micros += 1));
    assert_eq!(add(&again).await, 0);
    assert_eq!(lab.roll_up().await, 0);
    lab.check(&all, hour).await;
}

#[tokio::test]
async fn what_is_committed_while_an_hour_is_rolled_up_is_rolled_up_next() {
    let lab = Lab::new().await;
    let hour = now().hour().minus(HOUR);
    let all = samples(hour, 100);
    let (early, late) = all.split_at(all.len() / 2);
    store::series::add(lab.db.pool(), early, now()).await.unwrap();
    let mut open = lab.db.begin().await.unwrap();
    store::series::add(&mut **open, late, now()).await.unwrap();
    // It waits for the open one: what is not committed could be missed.
    let other = Db::open(&Secret::new(lab.postgres.url_as("berth_control")), 1).unwrap();
    let rolling = tokio::spawn(async move { stats::roll_up_some(&other, now().plus(HOUR)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!rolling.is_finished());
    open.commit().await.unwrap();
    assert_eq!(rolling.await.unwrap().unwrap(), 1);
    lab.check(&all, hour).await;
}

#[tokio::test]
async fn samples_go_after_a_day_and_minutes_after_a_month_but_never_before_they_are_rolled_up() {
    let lab = Lab::new().await;
    let (hour, pool) = (now().hour().minus(HOUR * 2), lab.db.pool());
    let all = samples(hour, 240);
    store::series::add(pool, &all, now()).await.unwrap();
    let left = async || store::series::seen(pool, APP, hour, hour.plus(HOUR)).await.unwrap().len();
    let whole = left().await;
    let later = |hours: u32| hour.plus(HOUR * hours);
    for hours in 0..32 {
        assert!(!store::series::empty_one(pool, later(hours)).await.unwrap(), "it is not rolled up");
    }
    lab.roll_up().await;
    for hours in 0..26 {
        assert!(!store::series::empty_one(pool, later(hours)).await.unwrap(), "{hours} h");
    }
    assert_eq!(left().await, whole);
    assert!(store::series::empty_one(pool, later(27)).await.unwrap());
    assert_eq!(left().await, 0);
    assert!(!store::series::empty_one(pool, later(27)).await.unwrap());

    store::series::forget_minutes(pool, later(24 * 31 - 1), 1).await.unwrap();
    assert!(!lab.kept(hour).await.0.is_empty());
    assert!(store::series::forget_minutes(pool, later(24 * 31 + 1), 1).await.unwrap(), "there may be more");
    assert!(!store::series::forget_minutes(pool, later(24 * 31 + 1), 1).await.unwrap());
    let (minutes, whole) = lab.kept(hour).await;
    assert_eq!((minutes.len(), whole.len()), (0, 1), "the hour stays for good");
}
