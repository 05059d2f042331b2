//! Readings and samples on their way: held against what is possible, put into the Redis stream, and acknowledged:
//! readings by what PostgreSQL holds, samples when Redis has them. Redis may be away: then they are sent again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::wire::{Committed, CommittedReading, READING_FIELD, READINGS_STREAM, SAMPLE_FIELD};
use domain::{AppId, InstanceId, Life, Meter, Reading, SAMPLE_EVERY, Sample, Secret, ServerId, Time};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use store::{StoreError, instance, reading};
use tracing::{debug, warn};

use crate::{Shared, clock};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// After a failure, Redis is left alone for so long: reports are not held up by it.
const PAUSE: Duration = Duration::from_secs(2);
/// What was put in is not put in again before so long: the consumer has it.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// A stream this long means that nobody consumes: what is not in it waits at its source, on disk.
const STREAM_MAX: usize = 500_000;
const REMEMBERED_MAX: usize = 100_000;

/// A runner's wall clock may be off by this.
const CLOCK_SLACK: Duration = Duration::from_secs(60);
const OLDEST: Duration = Duration::from_secs(400 * 24 * 3600);
const OLDEST_SAMPLE: Duration = Duration::from_secs(24 * 3600);
/// What a sample's stretch may be longer than it should.
const STRETCH_SLACK: Duration = Duration::from_secs(5);
/// 100 Gbit/s.
const BYTES_PER_SECOND_MAX: u128 = 12_500_000_000;
/// Of a count or size in a sample: sums of a year of them fit.
const SAMPLED_MAX: u64 = 1 << 44;

type Key = (Life, AppId, Meter, Time);

pub struct Stream {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    paused_until: Duration,
    /// What was put in lately, and when.
    put: HashMap<Key, (u64, Duration)>,
}

impl Stream {
    /// Connects when it is first needed.
    pub fn open(url: &Secret<String>) -> Result<Self, RedisError> {
        Ok(Self { client: Client::open(url.expose().as_str())?, state: Mutex::new(State::default()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts readings in, those that were not lately, and samples: whether these are there. A failure only means
    /// that they come again.
    async fn put(&self, readings: &[Reading], samples: &[&Sample]) -> bool {
        let now = clock::boottime();
        let new: Vec<&Reading> = {
            let state = self.state();
            if now < state.paused_until {
                return false;
            }
            let known = |r: &Reading| {
                let put = state.put.get(&key(r));
                put.is_some_and(|(value, at)| *value >= r.value && now.saturating_sub(*at) < AGAIN_AFTER)
            };
            readings.iter().filter(|r| !known(r)).collect()
        };
        if new.is_empty() && samples.is_empty() {
            return true;
        }
        match self.add(&new, samples).await {
            Ok(false) => false,
            Ok(true) => {
                let mut state = self.state();
                if state.put.len() + new.len() > REMEMBERED_MAX {
                    state.put.clear();
                }
                state.put.extend(new.into_iter().map(|r| (key(r), (r.value, now))));
                true
            }
            Err(cause) => {
                let mut state = self.state();
                if state.paused_until.is_zero() {
                    warn!(error = %cause, "Redis does not take readings; they wait at their sources");
                }
                state.connection = None;
                state.paused_until = clock::boottime() + PAUSE;
                false
            }
        }
    }

    /// False: nobody consumes.
    async fn add(&self, readings: &[&Reading], samples: &[&Sample]) -> Result<bool, RedisError> {
        let known = self.state().connection.clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(ANSWER_TIMEOUT));
                let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
                let mut state = self.state();
                state.connection = Some(connection.clone());
                state.paused_until = Duration::ZERO;
                connection
            }
        };
        let length: usize = redis::cmd("XLEN").arg(READINGS_STREAM).query_async(&mut connection).await?;
        if length >= STREAM_MAX {
            warn!(length, "the stream of readings is not consumed; new ones wait at their sources");
            return Ok(false);
        }
        let mut pipeline = redis::pipe();
        let readings = readings.iter().map(|reading| (READING_FIELD, serde_json::to_string(reading)));
        let samples = samples.iter().map(|sample| (SAMPLE_FIELD, serde_json::to_string(sample)));
        for (field, json) in readings.chain(samples) {
            let Ok(json) = json else { continue };
            pipeline.cmd("XADD").arg(READINGS_STREAM).arg("*").arg(field).arg(json).ignore();
        }
        pipeline.query_async::<()>(&mut connection).await?;
        Ok(true)
    }
}

fn key(reading: &Reading) -> Key {
    (reading.life.clone(), reading.app, reading.meter, reading.hour)
}

/// Who says that something was used.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    Runner(ServerId),
    Balancer,
}

/// Takes readings and samples on, and says which of them may be forgotten.
pub async fn take(
    shared: &Shared,
    source: Source,
    readings: &[Reading],
    samples: &[Sample],
    now: Time,
) -> Result<Committed, StoreError> {
    if readings.is_empty() && samples.is_empty() {
        return Ok(Committed::default());
    }
    let samples = likely(shared, source, samples, now).await?;
    let possible = if readings.is_empty() { vec![] } else { possible(shared, source, readings, now).await? };
    let samples_taken = shared.readings.put(&possible, &samples).await;
    let held = if possible.is_empty() { vec![] } else { reading::held(shared.db.pool(), &possible).await? };
    let held = held.into_iter().map(|h| CommittedReading {
        life: h.life,
        app: h.app_id,
        meter: h.meter,
        hour: h.hour,
        value: u64::try_from(h.value).unwrap_or(0),
    });
    Ok(Committed { readings: held.collect(), samples_taken })
}

async fn existing(shared: &Shared, apps: impl Iterator<Item = AppId>) -> Result<HashSet<AppId>, StoreError> {
    let ids: Vec<i64> = apps.map(|app| app.0).collect::<BTreeSet<_>>().into_iter().collect();
    Ok(store::app::all::existing(shared.db.pool(), &ids).await?.into_iter().collect())
}

/// What works at once there.
fn cores(shared: &Shared, source: Source) -> u128 {
    match source {
        Source::Runner(server) => u128::from(shared.known().cores(server).unwrap_or(1).max(1)),
        Source::Balancer => 0,
    }
}

/// The samples that say what can be; the others are taken by nobody, however often they come.
async fn likely<'a>(
    shared: &Shared,
    source: Source,
    samples: &'a [Sample],
    now: Time,
) -> Result<Vec<&'a Sample>, StoreError> {
    if samples.is_empty() {
        return Ok(vec![]);
    }
    let known = existing(shared, samples.iter().map(|s| s.app)).await?;
    let stretch = (SAMPLE_EVERY + STRETCH_SLACK).as_micros();
    let bytes_max = stretch * BYTES_PER_SECOND_MAX / 1_000_000;
    let cores = cores(shared, source);
    let of_source = |s: &Sample| match (source, &s.work, &s.traffic) {
        (Source::Runner(_), Some(work), None) => {
            u128::from(work.cpu_micros) <= stretch * cores
                && work.memory_bytes.max(work.memory_reserved_bytes) <= SAMPLED_MAX
                && u128::from(work.bytes_out) <= bytes_max
        }
        (Source::Balancer, None, Some(traffic)) => {
            traffic.answers.all().max(traffic.latency.count()) <= SAMPLED_MAX
                && u128::from(traffic.bytes_out) <= bytes_max
        }
        _ => false,
    };
    let fits = |s: &Sample| {
        let micros = u128::try_from(s.at.unix_micros()).ok();
        micros.is_some_and(|at| at.is_multiple_of(SAMPLE_EVERY.as_micros()))
            && s.at <= now.plus(CLOCK_SLACK)
            && s.at >= now.minus(OLDEST_SAMPLE)
            && known.contains(&s.app)
            && of_source(s)
    };
    let likely: Vec<&Sample> = samples.iter().filter(|s| fits(s)).collect();
    if likely.len() < samples.len() {
        warn!(refused = samples.len() - likely.len(), "samples were refused: they say what cannot be");
    }
    Ok(likely)
}

/// A taken-over runner or balancer can lie within the possible only.
async fn possible(
    shared: &Shared,
    source: Source,
    readings: &[Reading],
    now: Time,
) -> Result<Vec<Reading>, StoreError> {
    let sane = |r: &Reading| {
        r.hour == r.at.hour()
            && r.at <= now.plus(CLOCK_SLACK)
            && r.at >= now.minus(OLDEST)
            && i64::try_from(r.value).is_ok()
    };
    let possible: Vec<Reading> = match source {
        Source::Runner(server) => {
            let ids: Vec<i64> = readings.iter().filter_map(instance_of).map(|id| id.0).collect();
            let known: HashMap<InstanceId, instance::all::Metered> =
                instance::all::metered(shared.db.pool(), &ids).await?.into_iter().map(|m| (m.id, m)).collect();
            let cores = cores(shared, source);
            let fits = |r: &Reading| {
                let Some(of) = instance_of(r).and_then(|id| known.get(&id)) else { return false };
                // A core's microseconds are those of the clock.
                let micros = r.at.plus(CLOCK_SLACK).since(of.created).as_micros();
                let most = match r.meter {
                    Meter::Cpu => micros * cores,
                    Meter::BytesOut => micros * BYTES_PER_SECOND_MAX / 1_000_000,
                    _ => return false,
                };
                of.app_id == r.app && of.server_id == server && u128::from(r.value) <= most
            };
            readings.iter().filter(|r| sane(r) && fits(r)).cloned().collect()
        }
        Source::Balancer => {
            let known = existing(shared, readings.iter().map(|r| r.app)).await?;
            let fits = |r: &Reading| matches!(r.meter, Meter::Requests | Meter::BytesOut) && known.contains(&r.app);
            readings.iter().filter(|r| sane(r) && fits(r)).cloned().collect()
        }
    };
    if possible.len() < readings.len() {
        warn!(refused = readings.len() - possible.len(), "readings were refused: they say what cannot be");
        for refused in readings.iter().filter(|r| !possible.contains(r)).take(3) {
            debug!(?refused, "refused");
        }
    }
    Ok(possible)
}

/// `<boot id>/<instance>`, and perhaps `/<generation>`.
fn instance_of(reading: &Reading) -> Option<InstanceId> {
    reading.life.as_str().split('/').nth(1)?.parse().ok()
}
