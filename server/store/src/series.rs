//! Series for graphs: samples of a day, minutes of a month, hours for good.

mod packed;
mod rolled;

use std::collections::BTreeMap;
use std::time::Duration;

use domain::{Answers, AppId, AppName, CustomerId, Life, SAMPLE_EVERY, Sample, Stretch, Time, Traffic, Work};
use sqlx::{PgExecutor, PgPool, query, query_scalar};

use self::packed::{pack, unpack};
pub use self::rolled::{Requests, hours, minutes, put, requests, requests_since};
use crate::{Result, Tx};

const HOUR: Duration = Duration::from_secs(3600);
/// Slots of the ring, an hour each.
const SLOTS: i64 = 32;
/// A sample that is older is not taken in any more: its hour may be gone.
pub const TAKEN_FOR: Duration = Duration::from_secs(24 * 3600);
/// A source's clock may be this far ahead.
pub const AHEAD_MAX: Duration = Duration::from_secs(60);
const MINUTES_KEPT: Duration = Duration::from_secs(31 * 24 * 3600);

fn slot(hour: Time) -> i16 {
    (hour.unix_micros().div_euclid(3_600_000_000)).rem_euclid(SLOTS) as i16
}

fn slots(from: Time, to: Time) -> Vec<i16> {
    let hours = i64::try_from(to.since(from.hour()).as_secs() / 3600).unwrap_or(SLOTS).min(SLOTS - 1);
    (0..=hours).map(|n| slot(from.hour().plus(HOUR * n as u32))).collect()
}

/// The same for the same life, wherever it is computed (FNV-1a).
fn source(life: &Life) -> i64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    life.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, hash).cast_signed()
}

pub(crate) fn big(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn small(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(crate) fn back<N: TryInto<u64>>(n: N) -> u64 {
    n.try_into().unwrap_or(0)
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// Of a time that is too long ago, or to come.
    pub dropped: usize,
}

/// Takes in samples; the same (source, app, time) again changes nothing. Its hours will be rolled up.
pub async fn add(db: impl PgExecutor<'_>, samples: &[Sample], now: Time) -> Result<Added> {
    let (oldest, newest) = (now.minus(TAKEN_FOR), now.plus(AHEAD_MAX));
    // In one order everywhere: two that take in the same rows must not wait for each other.
    let mut rows = BTreeMap::new();
    for sample in samples {
        let at = sample.at.floor(SAMPLE_EVERY);
        if at >= oldest && at <= newest {
            rows.entry((sample.app, at, source(&sample.source))).or_insert(sample);
        }
    }
    let added =
        Added { dropped: samples.iter().filter(|s| s.at.floor(SAMPLE_EVERY) < oldest || s.at > newest).count() };
    if rows.is_empty() {
        return Ok(added);
    }
    let works = |of: fn(&Work) -> u64| -> Vec<Option<i64>> {
        rows.values().map(|s| s.work.as_ref().map(|work| big(of(work)))).collect()
    };
    let answers = |of: fn(&Answers) -> u64| -> Vec<Option<i32>> {
        rows.values().map(|s| s.traffic.as_ref().map(|t| small(of(&t.answers)))).collect()
    };
    let apps: Vec<i64> = rows.keys().map(|(app, ..)| app.0).collect();
    let ats: Vec<Time> = rows.keys().map(|(_, at, _)| *at).collect();
    let sources: Vec<i64> = rows.keys().map(|(.., source)| *source).collect();
    let hours: Vec<Time> = ats.iter().map(|at| at.hour()).collect();
    let slots: Vec<i16> = hours.iter().map(|hour| slot(*hour)).collect();
    let traffic_bytes: Vec<Option<i64>> = rows.values().map(|s| s.traffic.as_ref().map(|t| big(t.bytes_out))).collect();
    let latency: Vec<Option<Vec<u8>>> = rows.values().map(|s| s.traffic.as_ref().map(|t| pack(&t.latency))).collect();
    query!(
        "with added as (
             insert into series_raw (app_id, at, source, slot, cpu_micros, memory_bytes, memory_reserved_bytes,
                 work_bytes_out, ok, redirect, client_error, server_error, unanswered, traffic_bytes_out, latency)
             select * from unnest($1::int8[], $2::timestamptz[], $3::int8[], $4::int2[], $5::int8[], $6::int8[],
                 $7::int8[], $8::int8[], $9::int4[], $10::int4[], $11::int4[], $12::int4[], $13::int4[], $14::int8[],
                 $15::bytea[])
             on conflict do nothing
             returning app_id, at)
         insert into series_dirty (app_id, hour, since)
         select distinct app_id, date_trunc('hour', at, 'UTC'), $16::timestamptz from added order by 1, 2
         on conflict do nothing",
        &apps,
        &ats as &[Time],
        &sources,
        &slots,
        &works(|w| w.cpu_micros) as &[Option<i64>],
        &works(|w| w.memory_bytes) as &[Option<i64>],
        &works(|w| w.memory_reserved_bytes) as &[Option<i64>],
        &works(|w| w.bytes_out) as &[Option<i64>],
        &answers(|a| a.ok) as &[Option<i32>],
        &answers(|a| a.redirect) as &[Option<i32>],
        &answers(|a| a.client_error) as &[Option<i32>],
        &answers(|a| a.server_error) as &[Option<i32>],
        &answers(|a| a.unanswered) as &[Option<i32>],
        &traffic_bytes as &[Option<i64>],
        &latency as &[Option<Vec<u8>>],
        now as Time,
    )
    .execute(db)
    .await?;
    Ok(added)
}

/// What each source saw of an app, from `from` until before `to`; at most a day.
pub async fn seen(db: impl PgExecutor<'_>, app: AppId, from: Time, to: Time) -> Result<Vec<(Time, Stretch)>> {
    let rows = query!(
        "select at, cpu_micros, memory_bytes, memory_reserved_bytes, work_bytes_out, ok, redirect, client_error,
                server_error, unanswered, traffic_bytes_out, latency
         from series_raw where slot = any($1) and app_id = $2 and at >= $3 and at < $4",
        &slots(from, to),
        app.0,
        from as Time,
        to as Time,
    )
    .fetch_all(db)
    .await?;
    let seen = rows.into_iter().map(|row| {
        let work = row.cpu_micros.map(|cpu_micros| Work {
            cpu_micros: back(cpu_micros),
            memory_bytes: back(row.memory_bytes.unwrap_or(0)),
            memory_reserved_bytes: back(row.memory_reserved_bytes.unwrap_or(0)),
            bytes_out: back(row.work_bytes_out.unwrap_or(0)),
        });
        let traffic = row.ok.map(|ok| Traffic {
            answers: Answers {
                ok: back(ok),
                redirect: back(row.redirect.unwrap_or(0)),
                client_error: back(row.client_error.unwrap_or(0)),
                server_error: back(row.server_error.unwrap_or(0)),
                unanswered: back(row.unanswered.unwrap_or(0)),
            },
            bytes_out: back(row.traffic_bytes_out.unwrap_or(0)),
            latency: unpack(row.latency.as_deref().unwrap_or_default()),
        });
        (row.at, Stretch::of(work.as_ref(), traffic.as_ref()))
    });
    Ok(seen.collect())
}

/// Claims hours that have samples since before `before`, at most `limit`. Whoever takes in a sample waits for the end of
/// the transaction, and then makes the hour due again: what is not seen here is seen the next time.
pub async fn take_due(tx: &mut Tx, before: Time, limit: i64) -> Result<Vec<(AppId, Time)>> {
    query!("lock table series_dirty in share row exclusive mode").execute(&mut ***tx).await?;
    let due = query!(
        "delete from series_dirty d using (select app_id, hour from series_dirty where since <= $1
                                           order by since limit $2) due
         where d.app_id = due.app_id and d.hour = due.hour returning d.app_id, d.hour",
        before as Time,
        limit
    )
    .fetch_all(&mut ***tx)
    .await?;
    Ok(due.into_iter().map(|row| (row.app_id, row.hour)).collect())
}

/// Lets go of samples that are over a day old, where none waits for its roll-up; of one slot at most, so that nobody
/// waits long. Whether there was one.
pub async fn empty_one(db: &PgPool, now: Time) -> Result<bool> {
    // Taken in are this hour, the next and the 24 before; one more is for those that are under way.
    let free: Vec<i16> = (2..=SLOTS - 26).map(|n| slot(now.hour().plus(HOUR * n as u32))).collect();
    let old = query_scalar!(
        "select slot from series_raw where slot = any($1) and at < $2
             and not exists (select from series_dirty where hour < $2) limit 1",
        &free,
        now.minus(TAKEN_FOR + HOUR) as Time,
    )
    .fetch_optional(db)
    .await?;
    let Some(old) = old else { return Ok(false) };
    query!("select series_empty($1)::text as nothing", i32::from(old)).fetch_one(db).await?;
    Ok(true)
}

/// Lets go of minutes that are over a month old: at most `limit` hours of apps. Whether there may be more.
pub async fn forget_minutes(db: impl PgExecutor<'_>, now: Time, limit: i64) -> Result<bool> {
    let gone = query!(
        "delete from series_minutes m using (select app_id, hour from series_minutes where hour < $1
                                             order by hour limit $2) old
         where m.app_id = old.app_id and m.hour = old.hour",
        now.minus(MINUTES_KEPT) as Time,
        limit
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected() >= back(limit))
}
