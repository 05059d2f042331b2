//! Readings for money, merged by maximum.

use domain::wire::LastRead;
use domain::{AppId, InstanceId, Life, Meter, Reading, ServerId, Time};
use sqlx::{PgExecutor, query, query_as};

use crate::{Result, Tx};

/// Takes in a batch; the same reading again, an older or a smaller one changes nothing. What is news of an hour that was
/// over a minute before is noted, for whoever posted that hour already: a statement takes much less than the minute that
/// is left until the hour is posted.
/// A key (life, app, meter, hour) must not stand in it twice.
pub async fn merge(db: impl PgExecutor<'_>, batch: &[Reading]) -> Result<()> {
    let lives: Vec<String> = batch.iter().map(|r| r.life.as_str().to_owned()).collect();
    let apps: Vec<i64> = batch.iter().map(|r| r.app.0).collect();
    let meters: Vec<String> = batch.iter().map(|r| r.meter.as_str().to_owned()).collect();
    let hours: Vec<Time> = batch.iter().map(|r| r.hour).collect();
    let values: Vec<i64> = batch.iter().map(|r| i64::try_from(r.value).unwrap_or(i64::MAX)).collect();
    let ats: Vec<Time> = batch.iter().map(|r| r.at).collect();
    query!(
        "with taken as (
             insert into reading (life, app_id, meter, hour, value, at)
             select * from unnest($1::text[], $2::int8[], $3::text[], $4::timestamptz[], $5::int8[], $6::timestamptz[])
             on conflict (life, app_id, meter, hour)
             do update set value = excluded.value, at = excluded.at where reading.value < excluded.value
             returning life, app_id, meter, hour
         )
         insert into reading_late (life, app_id, meter, hour)
         select life, app_id, meter, hour from taken
         where hour < date_trunc('hour', clock_timestamp() - interval '1 minute', 'UTC')",
        &lives,
        &apps,
        &meters,
        &hours as &[Time],
        &values,
        &ats as &[Time],
    )
    .execute(db)
    .await?;
    Ok(())
}

#[derive(Debug, Clone)]
pub struct Held {
    pub life: Life,
    pub app_id: AppId,
    pub meter: Meter,
    pub hour: Time,
    pub value: i64,
}

/// What is held of these readings.
pub async fn held(db: impl PgExecutor<'_>, of: &[Reading]) -> Result<Vec<Held>> {
    let lives: Vec<String> = of.iter().map(|r| r.life.as_str().to_owned()).collect();
    let apps: Vec<i64> = of.iter().map(|r| r.app.0).collect();
    let meters: Vec<String> = of.iter().map(|r| r.meter.as_str().to_owned()).collect();
    let hours: Vec<Time> = of.iter().map(|r| r.hour).collect();
    Ok(query_as!(
        Held,
        "select r.life, r.app_id, r.meter, r.hour, r.value
         from unnest($1::text[], $2::int8[], $3::text[], $4::timestamptz[]) as k(life, app_id, meter, hour)
         join reading r on r.life = k.life and r.app_id = k.app_id and r.meter = k.meter and r.hour = k.hour",
        &lives,
        &apps,
        &meters,
        &hours as &[Time],
    )
    .fetch_all(db)
    .await?)
}

/// What the counters of an instance said when its last process was gone; told again, it changes nothing.
pub async fn ended(tx: &mut Tx, server: ServerId, instance: InstanceId, last: &LastRead) -> Result<()> {
    let of = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    query!(
        "insert into life_end (life, app_id, meter, value, at)
         select $3, i.app_id, m.meter, m.value, now()
         from instance i cross join (values ('cpu', $4::int8), ('bytes_out', $5::int8)) m(meter, value)
         where i.id = $1 and i.server_id = $2
         on conflict (life, meter) do nothing",
        instance.0,
        server.0,
        last.life.as_str(),
        of(last.cpu_micros),
        of(last.bytes_out),
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}
