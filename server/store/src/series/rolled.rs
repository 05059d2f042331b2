//! What was rolled up: an app's hour, as minutes and as a whole.

use sqlx::query_as;

use super::*;

/// Writes an app's hour, in place of what was known of it. `minutes` are 60; of five, the first has the latency.
pub async fn put(tx: &mut Tx, app: AppId, hour: Time, minutes: &[Stretch], whole: &Stretch) -> Result<()> {
    let steps = |of: fn(&Stretch) -> u32| -> Vec<i16> {
        minutes.iter().map(|m| i16::try_from(of(m)).unwrap_or(i16::MAX)).collect()
    };
    let bigs = |of: fn(&Stretch) -> u64| -> Vec<i64> { minutes.iter().map(|m| big(of(m))).collect() };
    let smalls = |of: fn(&Stretch) -> u64| -> Vec<i32> { minutes.iter().map(|m| small(of(m))).collect() };
    let latency: Vec<Vec<u8>> = minutes.iter().step_by(LATENCY_MINUTES).map(|m| pack(&m.latency)).collect();
    query!(
        "insert into series_minutes (app_id, hour, work_steps, cpu_micros, memory_bytes, memory_reserved_bytes,
             traffic_steps, bytes_out, ok, redirect, client_error, server_error, unanswered, latency)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         on conflict (app_id, hour) do update set
             work_steps = excluded.work_steps, cpu_micros = excluded.cpu_micros, memory_bytes = excluded.memory_bytes,
             memory_reserved_bytes = excluded.memory_reserved_bytes, traffic_steps = excluded.traffic_steps,
             bytes_out = excluded.bytes_out, ok = excluded.ok, redirect = excluded.redirect,
             client_error = excluded.client_error, server_error = excluded.server_error,
             unanswered = excluded.unanswered, latency = excluded.latency",
        app.0,
        hour as Time,
        &steps(|m| m.work_steps),
        &bigs(|m| m.cpu_micros),
        &bigs(|m| m.memory_bytes),
        &bigs(|m| m.memory_reserved_bytes),
        &steps(|m| m.traffic_steps),
        &bigs(|m| m.bytes_out),
        &smalls(|m| m.answers.ok),
        &smalls(|m| m.answers.redirect),
        &smalls(|m| m.answers.client_error),
        &smalls(|m| m.answers.server_error),
        &smalls(|m| m.answers.unanswered),
        &latency,
    )
    .execute(&mut ***tx)
    .await?;
    query!(
        "insert into series_hour (app_id, hour, work_steps, cpu_micros, memory_bytes, memory_reserved_bytes,
             traffic_steps, bytes_out, ok, redirect, client_error, server_error, unanswered, latency)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         on conflict (app_id, hour) do update set
             work_steps = excluded.work_steps, cpu_micros = excluded.cpu_micros, memory_bytes = excluded.memory_bytes,
             memory_reserved_bytes = excluded.memory_reserved_bytes, traffic_steps = excluded.traffic_steps,
             bytes_out = excluded.bytes_out, ok = excluded.ok, redirect = excluded.redirect,
             client_error = excluded.client_error, server_error = excluded.server_error,
             unanswered = excluded.unanswered, latency = excluded.latency",
        app.0,
        hour as Time,
        small(whole.work_steps.into()),
        big(whole.cpu_micros),
        big(whole.memory_bytes),
        big(whole.memory_reserved_bytes),
        small(whole.traffic_steps.into()),
        big(whole.bytes_out),
        big(whole.answers.ok),
        big(whole.answers.redirect),
        big(whole.answers.client_error),
        big(whole.answers.server_error),
        big(whole.answers.unanswered),
        pack(&whole.latency),
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// Of five minutes, the first has the latency of all.
const LATENCY_MINUTES: usize = 5;

/// An app by minutes, from the hour of `from` until before the hour `to`. Those that nobody saw are left out.
pub async fn minutes(db: impl PgExecutor<'_>, app: AppId, from: Time, to: Time) -> Result<Vec<(Time, Stretch)>> {
    let rows = query!(
        "select hour, work_steps, cpu_micros, memory_bytes, memory_reserved_bytes, traffic_steps, bytes_out, ok,
                redirect, client_error, server_error, unanswered, latency
         from series_minutes where app_id = $1 and hour >= $2 and hour < $3",
        app.0,
        from.hour() as Time,
        to as Time,
    )
    .fetch_all(db)
    .await?;
    let mut minutes = Vec::with_capacity(rows.len() * 60);
    for row in rows {
        let at = |column: &[i64], n: usize| back(column.get(n).copied().unwrap_or(0));
        let few = |column: &[i32], n: usize| back(column.get(n).copied().unwrap_or(0));
        for n in 0..row.work_steps.len() {
            let latency = match n % LATENCY_MINUTES {
                0 => row.latency.get(n / LATENCY_MINUTES).map(|packed| unpack(packed)).unwrap_or_default(),
                _ => Default::default(),
            };
            let minute = Stretch {
                work_steps: row.work_steps[n].try_into().unwrap_or(0),
                traffic_steps: row.traffic_steps.get(n).copied().unwrap_or(0).try_into().unwrap_or(0),
                cpu_micros: at(&row.cpu_micros, n),
                memory_bytes: at(&row.memory_bytes, n),
                memory_reserved_bytes: at(&row.memory_reserved_bytes, n),
                bytes_out: at(&row.bytes_out, n),
                answers: Answers {
                    ok: few(&row.ok, n),
                    redirect: few(&row.redirect, n),
                    client_error: few(&row.client_error, n),
                    server_error: few(&row.server_error, n),
                    unanswered: few(&row.unanswered, n),
                },
                latency,
            };
            // The first of five may hold the times of the others.
            if !minute.is_gap() || minute.latency.count() > 0 {
                minutes.push((row.hour.plus(Duration::from_secs(60 * n as u64)), minute));
            }
        }
    }
    Ok(minutes)
}

/// An app by hours, from `from` until before `to`.
pub async fn hours(db: impl PgExecutor<'_>, app: AppId, from: Time, to: Time) -> Result<Vec<(Time, Stretch)>> {
    let rows = query!(
        "select hour, work_steps, cpu_micros, memory_bytes, memory_reserved_bytes, traffic_steps, bytes_out, ok,
                redirect, client_error, server_error, unanswered, latency
         from series_hour where app_id = $1 and hour >= $2 and hour < $3 order by hour",
        app.0,
        from as Time,
        to as Time,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let whole = Stretch {
                work_steps: row.work_steps.try_into().unwrap_or(0),
                traffic_steps: row.traffic_steps.try_into().unwrap_or(0),
                cpu_micros: back(row.cpu_micros),
                memory_bytes: back(row.memory_bytes),
                memory_reserved_bytes: back(row.memory_reserved_bytes),
                bytes_out: back(row.bytes_out),
                answers: Answers {
                    ok: back(row.ok),
                    redirect: back(row.redirect),
                    client_error: back(row.client_error),
                    server_error: back(row.server_error),
                    unanswered: back(row.unanswered),
                },
                latency: unpack(&row.latency),
            };
            (row.hour, whole)
        })
        .collect())
}

/// Requests of an app in an hour, where somebody saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Requests {
    pub app: AppName,
    pub hour: Time,
    pub count: i64,
    /// Quarter minutes that were seen.
    pub steps: i64,
}

/// Of all apps of a customer since `from`, as rolled up.
pub async fn requests(db: impl PgExecutor<'_>, customer: CustomerId, from: Time) -> Result<Vec<Requests>> {
    Ok(query_as!(
        Requests,
        r#"select a.name as app, h.hour, h.ok + h.redirect + h.client_error + h.server_error + h.unanswered as "count!",
                  h.traffic_steps::int8 as "steps!"
           from app a join series_hour h on h.app_id = a.id
           where a.customer_id = $1 and a.state <> 'deleted' and h.hour >= $2 and h.traffic_steps > 0"#,
        customer.0,
        from as Time,
    )
    .fetch_all(db)
    .await?)
}

/// Of all apps of a customer, what came in after `from` and after the last roll-up of its hour. What was on its way at
/// that moment may be left out until the next, and is never there twice. `from` is an hour before `now` at most: both slots
/// are named, since a plan that is kept leaves out no part for `any` of them, and each app would look into all 32.
pub async fn requests_since(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    from: Time,
    now: Time,
) -> Result<Vec<Requests>> {
    Ok(query_as!(
        Requests,
        r#"select a.name as app, d.hour, r.count as "count!", r.steps as "steps!"
           from app a join series_dirty d on d.app_id = a.id, lateral (
               select sum(ok + redirect + client_error + server_error + unanswered)::int8 as count,
                      count(distinct at) as steps
               from series_raw where (slot = $4 or slot = $5) and app_id = d.app_id and ok is not null
                 and at >= greatest(d.since, d.hour, $2) and at < d.hour + interval '1 hour') r
           where a.customer_id = $1 and a.state <> 'deleted' and d.hour > $2::timestamptz - interval '1 hour'
             and d.hour <= $3 and r.steps > 0"#,
        customer.0,
        from as Time,
        now as Time,
        slot(from),
        slot(now),
    )
    .fetch_all(db)
    .await?)
}
