//! What a person is shown of money: prices, sums of what was posted, and the readings behind them.
//!
//! All of it is of one customer, or of everybody (prices).

use domain::{
    AppId, AppName, CustomerId, Life, Meter, Money, Month, PricePlanId, Prices, Reading, ReleaseNumber, Time, UserId,
};
use sqlx::types::Json;
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

/// A version of the price plan.
#[derive(Debug, Clone)]
pub struct Version {
    pub id: PricePlanId,
    pub since: Time,
    pub prices: Json<Prices>,
    pub created: Time,
    /// By name; `None`: Berth's own, or somebody who left.
    pub by: Option<String>,
}

/// All of a currency, the first one first.
pub async fn versions(db: impl PgExecutor<'_>, currency: &str) -> Result<Vec<Version>> {
    Ok(query_as!(
        Version,
        r#"select p.id, p.since, p.prices as "prices: Json<Prices>", p.created, u.name as "by?"
           from price_plan p left join users u on u.id = p.created_by
           where p.currency = $1 order by p.since"#,
        currency
    )
    .fetch_all(db)
    .await?)
}

/// As [`versions`], without who decided on them: for a role that knows no users.
pub async fn prices(db: impl PgExecutor<'_>, currency: &str) -> Result<Vec<(PricePlanId, Time, Prices)>> {
    let rows = query!(
        r#"select id, since, prices as "prices: Json<Prices>" from price_plan where currency = $1 order by since"#,
        currency
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.since, row.prices.0)).collect())
}

pub async fn currency(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Option<String>> {
    Ok(query_scalar!("select currency from customer where id = $1", customer.0).fetch_optional(db).await?)
}

/// False: there is a version from that moment on already.
pub async fn create_version(
    tx: &mut Tx,
    currency: &str,
    since: Time,
    prices: &Prices,
    by: Option<UserId>,
) -> Result<bool> {
    let done = query!(
        "insert into price_plan (currency, since, prices, created_by) values ($1, $2, $3, $4)
         on conflict (currency, since) do nothing",
        currency,
        since as Time,
        Json(prices) as _,
        by.map(|by| by.0)
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes back a version that does not hold yet: since when it would have, and with which prices.
pub async fn take_back(tx: &mut Tx, version: PricePlanId) -> Result<Option<(Time, Prices)>> {
    let row = query!(
        r#"delete from price_plan where id = $1 and since > now() returning since, prices as "prices: Json<Prices>""#,
        version.0
    )
    .fetch_optional(&mut ***tx)
    .await?;
    Ok(row.map(|row| (row.since, row.prices.0)))
}

/// What was posted of an app in a month.
#[derive(Debug, Clone)]
pub struct Posted {
    pub app_id: AppId,
    pub meter: Meter,
    pub plan_id: PricePlanId,
    pub units: i64,
}

pub async fn posted(db: impl PgExecutor<'_>, customer: CustomerId, month: Month) -> Result<Vec<Posted>> {
    Ok(query_as!(
        Posted,
        "select app_id, meter, plan_id, units from posted_app where customer_id = $1 and month = $2",
        customer.0,
        month as Month
    )
    .fetch_all(db)
    .await?)
}

/// What was posted of an app in the hours `from..to`.
pub async fn posted_between(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    app: AppId,
    from: Time,
    to: Time,
) -> Result<Vec<Posted>> {
    Ok(query_as!(
        Posted,
        r#"select app_id, meter, plan_id, sum(units)::int8 as "units!" from posting
           where customer_id = $1 and app_id = $2 and hour >= $3 and hour < $4 group by app_id, meter, plan_id"#,
        customer.0,
        app.0,
        from as Time,
        to as Time
    )
    .fetch_all(db)
    .await?)
}

#[derive(Debug, Clone)]
pub struct PostedDay {
    pub day: Time,
    pub meter: Meter,
    pub units: i64,
    pub amount: Money,
}

/// What was posted of each day that begins in `from..to`.
pub async fn posted_days(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    from: Time,
    to: Time,
) -> Result<Vec<PostedDay>> {
    Ok(query_as!(
        PostedDay,
        r#"select day, meter, units, amount_micros as "amount: Money" from posted_day
           where customer_id = $1 and day >= $2 and day < $3 order by day"#,
        customer.0,
        from as Time,
        to as Time
    )
    .fetch_all(db)
    .await?)
}

/// The first hour that anything is posted of.
pub async fn first_hour(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Option<Time>> {
    Ok(query_scalar!(r#"select min(hour) as "hour: Time" from posting where customer_id = $1"#, customer.0)
        .fetch_one(db)
        .await?)
}

/// The months that anything was posted in, the newest first.
pub async fn months(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Month>> {
    Ok(query_scalar!(
        "select distinct month from posted_app where customer_id = $1 order by month desc limit 120",
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// How an app is called, deleted ones too.
#[derive(Debug, Clone)]
pub struct Named {
    pub id: AppId,
    pub name: AppName,
    pub deleted: Option<Time>,
    /// Counts from 1 among those of the customer with this name, the oldest first.
    pub nth: i64,
}

pub async fn named(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Named>> {
    Ok(query_as!(
        Named,
        r#"select id, name, deleted, row_number() over (partition by name order by id) as "nth!"
           from app where customer_id = $1"#,
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// What an app used of a meter in an hour.
#[derive(Debug, Clone)]
pub struct Used {
    pub app_id: AppId,
    pub meter: Meter,
    pub hour: Time,
    pub units: i64,
}

/// What was posted by hours in `from..to`: of one app or all, of one meter or all.
pub async fn posted_hours(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    app: Option<AppId>,
    meter: Option<Meter>,
    from: Time,
    to: Time,
) -> Result<Vec<Used>> {
    Ok(query_as!(
        Used,
        r#"select app_id, meter, hour, sum(units)::int8 as "units!" from posting
           where customer_id = $1 and hour >= $2 and hour < $3
             and ($4::int8 is null or app_id = $4) and ($5::text is null or meter = $5)
           group by app_id, meter, hour order by hour, app_id, meter"#,
        customer.0,
        from as Time,
        to as Time,
        app.map(|app| app.0),
        meter.map(Meter::as_str)
    )
    .fetch_all(db)
    .await?)
}

/// What is not posted yet: the values of each life in the hours from `from`, what is derived until `at`, which is in the
/// hour `hour`, of what lived after `derived`, and each life's last value before.
pub async fn fresh(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    from: Time,
    derived: Time,
    at: Time,
    hour: Time,
) -> Result<Vec<Reading>> {
    let rows = query!(
        r#"with fresh as (
               select r.life, r.app_id, r.meter, r.hour, r.value
               from app a join reading r on r.app_id = a.id
               where a.customer_id = $1 and r.hour >= $2 and r.hour < $4
               union all
               select life, app_id, meter, $5, value from derived($3, $4, $1) where $3 < $4
           ), before as (
               select distinct on (f.life, f.app_id, f.meter) b.life, b.app_id, b.meter, b.hour, b.value
               from fresh f join lateral (
                   select * from reading b where b.life = f.life and b.app_id = f.app_id and b.meter = f.meter
                     and b.hour < $2 order by b.hour desc limit 1) b on true
           )
           select life as "life!: Life", app_id as "app!: AppId", meter as "meter!: Meter", hour as "hour!: Time",
                  value as "value!"
           from (select * from fresh union all select * from before) all_of_them"#,
        customer.0,
        from as Time,
        derived as Time,
        at as Time,
        hour as Time
    )
    .fetch_all(db)
    .await?;
    let reading = |(life, app, meter, hour, value)| Reading {
        life,
        app,
        meter,
        hour,
        value: u64::try_from(value).unwrap_or(0),
        at: hour,
    };
    Ok(rows.into_iter().map(|row| reading((row.life, row.app, row.meter, row.hour, row.value))).collect())
}

/// A reading, and the one before it of its life.
#[derive(Debug, Clone)]
pub struct Behind {
    pub life: Life,
    pub app_id: AppId,
    pub hour: Time,
    pub at: Time,
    pub value: i64,
    pub before: i64,
}

/// Where a page of readings ended.
#[derive(Debug, Clone)]
pub struct Place {
    pub hour: Time,
    pub app: AppId,
    pub life: String,
}

/// The readings of a meter in the hours `from..to`, the oldest first: those after a place.
#[expect(clippy::too_many_arguments, reason = "a page of one list, by its filters")]
pub async fn readings(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    app: Option<AppId>,
    meter: Meter,
    from: Time,
    to: Time,
    after: Option<&Place>,
    limit: i64,
) -> Result<Vec<Behind>> {
    Ok(query_as!(
        Behind,
        r#"select r.life, r.app_id, r.hour, r.at, r.value,
                  coalesce((select b.value from reading b where b.life = r.life and b.app_id = r.app_id
                            and b.meter = r.meter and b.hour < r.hour order by b.hour desc limit 1), 0) as "before!"
           from app a join reading r on r.app_id = a.id
           where a.customer_id = $1 and ($2::int8 is null or a.id = $2) and r.meter = $3
             and r.hour >= coalesce($6::timestamptz, $4::timestamptz) and r.hour < $5
             and ($6::timestamptz is null or (r.hour, r.app_id, r.life) > ($6, $7::int8, $8::text))
           order by r.hour, r.app_id, r.life limit $9"#,
        customer.0,
        app.map(|app| app.0),
        meter.as_str(),
        from as Time,
        to as Time,
        after.map(|after| after.hour) as Option<Time>,
        after.map(|after| after.app.0),
        after.map(|after| after.life.as_str()),
        limit
    )
    .fetch_all(db)
    .await?)
}

/// What an app's counters counted, as posted, while each of its releases served.
#[derive(Debug, Clone)]
pub struct Served {
    pub number: i64,
    pub meter: Meter,
    pub units: i64,
}

/// `spans`: each release's number, and from and until when it served. Of an app whose owner was checked.
pub async fn served(db: impl PgExecutor<'_>, app: AppId, spans: &[(i64, Time, Time)]) -> Result<Vec<Served>> {
    let numbers: Vec<i64> = spans.iter().map(|span| span.0).collect();
    let from: Vec<Time> = spans.iter().map(|span| span.1).collect();
    let to: Vec<Time> = spans.iter().map(|span| span.2).collect();
    Ok(query_as!(
        Served,
        r#"select s.number as "number!", p.meter, sum(p.units)::int8 as "units!"
           from unnest($2::int8[], $3::timestamptz[], $4::timestamptz[]) s(number, since, until)
           join posting p on p.app_id = $1 and p.hour >= s.since and p.hour < s.until
           where p.meter in ('cpu', 'requests', 'bytes_out') group by s.number, p.meter"#,
        app.0,
        &numbers,
        &from as &[Time],
        &to as &[Time]
    )
    .fetch_all(db)
    .await?)
}

/// What a release of an app reserves, and what its customer wants instead.
#[derive(Debug, Clone)]
pub struct Formation {
    pub number: ReleaseNumber,
    pub formation: Json<crate::deploy::all::Formation>,
}

/// The latest releases of an app whose owner was checked.
pub async fn formations(db: impl PgExecutor<'_>, app: AppId, limit: i64) -> Result<Vec<Formation>> {
    Ok(query_as!(
        Formation,
        r#"select number, formation as "formation: Json<crate::deploy::all::Formation>" from release
           where app_id = $1 order by number desc limit $2"#,
        app.0,
        limit
    )
    .fetch_all(db)
    .await?)
}
