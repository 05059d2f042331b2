//! What the ledger is held against: everything it was made from, and itself. Across owners; reads only.

use domain::{AppId, AppName, CustomerId, Life, Meter, Money, Month, PricePlanId, Reading, Time};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use super::meters;
use crate::{Result, Tx};

/// Nothing that came late waits to be posted.
pub async fn is_settled(db: impl PgExecutor<'_>) -> Result<bool> {
    Ok(query_scalar!(r#"select not exists (select from reading_late) as "settled!""#).fetch_one(db).await?)
}

/// The highest value that is held of each of these counters, and whose it is.
pub async fn highest(db: impl PgExecutor<'_>, of: &[(Life, Option<AppId>, Meter)]) -> Result<Vec<Option<i64>>> {
    let lives: Vec<String> = of.iter().map(|(life, ..)| life.as_str().to_owned()).collect();
    let apps: Vec<i64> = of.iter().map(|(_, app, _)| app.map_or(0, |app| app.0)).collect();
    let meters: Vec<String> = of.iter().map(|(.., meter)| meter.as_str().to_owned()).collect();
    Ok(query_scalar!(
        r#"select (select max(r.value) from reading r
                   where r.life = k.life and r.meter = k.meter and (k.app = 0 or r.app_id = k.app)) as "value"
           from unnest($1::text[], $2::int8[], $3::text[]) with ordinality k(life, app, meter, nth) order by k.nth"#,
        &lives,
        &apps,
        &meters
    )
    .fetch_all(db)
    .await?)
}

/// A counter that is told by two, and what each says.
#[derive(Debug, Clone)]
pub struct Told {
    pub life: Life,
    pub app: AppId,
    pub meter: Meter,
    pub value: i64,
    /// By the readings; `None`: there is none.
    pub read: Option<i64>,
}

/// What was kept of counters at the end of their lives, in a stretch of time.
pub async fn ends(db: impl PgExecutor<'_>, from: Time, to: Time) -> Result<Vec<Told>> {
    Ok(query_as!(
        Told,
        r#"select e.life as "life: Life", e.app_id as "app: AppId", e.meter as "meter: Meter", e.value,
                  (select max(r.value) from reading r
                   where r.life = e.life and r.app_id = e.app_id and r.meter = e.meter) as read
           from life_end e where e.at >= $1 and e.at < $2 order by e.life, e.meter"#,
        from as Time,
        to as Time
    )
    .fetch_all(db)
    .await?)
}

/// What derived meters say of a moment again, from the rows, for what lived after `after`.
pub async fn derived_again(tx: &mut Tx, after: Time, at: Time) -> Result<Vec<Told>> {
    Ok(query_as!(
        Told,
        r#"select d.life as "life!: Life", d.app_id as "app!: AppId", d.meter as "meter!: Meter", d.value as "value!",
                  (select max(r.value) from reading r
                   where r.life = d.life and r.app_id = d.app_id and r.meter = d.meter and r.hour < $2) as read
           from derived($1, $2, null) d where d.value > 0"#,
        after as Time,
        at as Time
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// An app, deleted ones too, and who pays for it.
#[derive(Debug, Clone)]
pub struct Owned {
    pub id: AppId,
    pub name: AppName,
    pub customer: CustomerId,
    pub customer_name: String,
    pub currency: String,
}

pub async fn owned(db: impl PgExecutor<'_>) -> Result<Vec<Owned>> {
    Ok(query_as!(
        Owned,
        r#"select a.id, a.name, c.id as customer, c.name as customer_name, c.currency
           from app a join customer c on c.id = a.customer_id order by c.id, a.id"#
    )
    .fetch_all(db)
    .await?)
}

/// An app's readings of the hours `from..to`, and of each of their lives the highest value before, as of the hour
/// before `from`.
pub async fn readings(tx: &mut Tx, app: AppId, from: Time, to: Time) -> Result<Vec<Reading>> {
    let rows = query!(
        r#"with fresh as (
               select life, meter, hour, value, at from reading
               where app_id = $1 and meter = any($4) and hour >= $2 and hour < $3
           )
           select life as "life!: Life", meter as "meter!: Meter", hour as "hour!: Time", value as "value!",
                  at as "at!: Time"
           from (select * from fresh
                 union all
                 select f.life, f.meter, $2::timestamptz - interval '1 hour', before.value, $2
                 from (select distinct life, meter from fresh) f cross join lateral (
                     select max(r.value) as value from reading r
                     where r.life = f.life and r.app_id = $1 and r.meter = f.meter and r.hour < $2) before
                 where before.value is not null) r"#,
        app.0,
        from as Time,
        to as Time,
        &meters()
    )
    .fetch_all(&mut ***tx)
    .await?;
    let reading = |(life, meter, hour, value, at): (Life, Meter, Time, i64, Time)| Reading {
        life,
        app,
        meter,
        hour,
        value: u64::try_from(value).unwrap_or(0),
        at,
    };
    Ok(rows.into_iter().map(|row| reading((row.life, row.meter, row.hour, row.value, row.at))).collect())
}

/// What is posted of an app in an hour.
#[derive(Debug, Clone)]
pub struct PostedHour {
    pub meter: Meter,
    pub hour: Time,
    pub units: i64,
}

pub async fn posted(tx: &mut Tx, app: AppId, from: Time, to: Time) -> Result<Vec<PostedHour>> {
    Ok(query_as!(
        PostedHour,
        r#"select meter as "meter: Meter", hour, sum(units)::int8 as "units!" from posting
           where app_id = $1 and hour >= $2 and hour < $3 group by meter, hour"#,
        app.0,
        from as Time,
        to as Time
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// All that is posted of one meter of a customer in a part of a month.
#[derive(Debug, Clone)]
pub struct Posted {
    pub customer: CustomerId,
    pub plan: PricePlanId,
    pub meter: Meter,
    pub postings: i64,
    pub place: i64,
    pub units: i64,
    pub amount: Money,
    /// What ledger entries of the customer's account say.
    pub entries: Money,
}

pub async fn chains(tx: &mut Tx, month: Month) -> Result<Vec<Posted>> {
    Ok(query_as!(
        Posted,
        r#"select p.customer_id as "customer!: CustomerId", p.plan_id as "plan!: PricePlanId", p.meter as "meter!: Meter",
                  count(*) as "postings!", max(p.place) as "place!", sum(p.units)::int8 as "units!",
                  sum(p.amount_micros)::int8 as "amount!: Money",
                  coalesce(sum(e.amount_micros), 0)::int8 as "entries!: Money"
           from posting p left join ledger_entry e on e.posting_id = p.id and e.account = 'customer/' || p.customer_id
           where p.month = $1 group by 1, 2, 3 order by 1, 2, 3"#,
        month as Month
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// Postings that do not follow from the one before, or are not of the month they stand in: their ids.
pub async fn broken(tx: &mut Tx, month: Month) -> Result<Vec<i64>> {
    Ok(query_scalar!(
        r#"select id as "id!" from (
               select id, place, row_number() over chain as nth, used_after, sum(units) over chain as used,
                      owed_after_micros, sum(amount_micros) over chain as owed, hour, month
               from posting where month = $1
               window chain as (partition by customer_id, plan_id, meter order by place)) p
           where place <> nth or used_after <> used or owed_after_micros <> owed
              or month <> date_trunc('month', hour at time zone 'UTC')::date or date_trunc('hour', hour, 'UTC') <> hour
           order by id limit 100"#,
        month as Month
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// Postings of which debits are not credits, or whose entries are not theirs: their ids.
pub async fn unbalanced(tx: &mut Tx, month: Month) -> Result<Vec<i64>> {
    Ok(query_scalar!(
        r#"select p.id as "id!" from posting p left join ledger_entry e on e.posting_id = p.id
           where p.month = $1 group by p.id
           having coalesce(sum(e.amount_micros), 0) <> 0
               or coalesce(sum(e.amount_micros) filter (where e.account = 'customer/' || p.customer_id), 0) <> p.amount_micros
               or coalesce(sum(e.amount_micros) filter (where e.account = 'revenue/' || p.meter), 0) <> -p.amount_micros
           order by p.id limit 100"#,
        month as Month
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// Sums that pages show and that are not those of the postings, in words; and how many there are.
pub async fn sums(tx: &mut Tx, month: Month) -> Result<(i64, Vec<String>)> {
    let count = query_scalar!(
        r#"select (select count(*) from posted_app where month = $1)
                + (select count(*) from posted_day where date_trunc('month', day at time zone 'UTC')::date = $1) as "n!""#,
        month as Month
    )
    .fetch_one(&mut ***tx)
    .await?;
    let wrong = query_scalar!(
        r#"select format('app %s, %s, price plan %s: shown %s, posted %s', app_id, meter, plan_id, s.units, p.units) as "said!"
           from (select * from posted_app where month = $1) s
           full join (select app_id, meter, plan_id, sum(units) as units from posting where month = $1 group by 1, 2, 3) p
               using (app_id, meter, plan_id)
           where s.units is distinct from p.units
           union all
           select format('customer %s, %s, %s: shown %s for %s, posted %s for %s', customer_id, meter, day,
                         s.units, s.amount, p.units, p.amount)
           from (select customer_id, meter, day, units, amount_micros as amount from posted_day
                 where date_trunc('month', day at time zone 'UTC')::date = $1) s
           full join (select customer_id, meter, date_trunc('day', hour, 'UTC') as day, sum(units) as units,
                             sum(amount_micros) as amount from posting where month = $1 group by 1, 2, 3) p
               using (customer_id, meter, day)
           where (s.units, s.amount) is distinct from (p.units, p.amount)
           limit 100"#,
        month as Month
    )
    .fetch_all(&mut ***tx)
    .await?;
    Ok((count, wrong))
}

/// What all of the ledger's lines add up to: nothing; and how many there are.
pub async fn balance(tx: &mut Tx) -> Result<(i64, String)> {
    let row =
        query!(r#"select count(*) as "lines!", coalesce(sum(amount_micros), 0)::text as "sum!" from ledger_entry"#)
            .fetch_one(&mut ***tx)
            .await?;
    Ok((row.lines, row.sum))
}

/// Statements of a transaction that reads all there is may take long.
pub async fn be_patient(tx: &mut Tx) -> Result<()> {
    query!("set local statement_timeout = '10min'").execute(&mut ***tx).await?;
    query!("set local idle_in_transaction_session_timeout = '10min'").execute(&mut ***tx).await?;
    Ok(())
}

/// What is posted of a customer in a month, by app.
#[derive(Debug, Clone)]
pub struct PostedApp {
    pub app: AppId,
    pub meter: Meter,
    pub plan: PricePlanId,
    pub units: i64,
}

pub async fn posted_apps(tx: &mut Tx, customer: CustomerId, month: Month) -> Result<Vec<PostedApp>> {
    Ok(query_as!(
        PostedApp,
        r#"select app_id as "app: AppId", meter as "meter: Meter", plan_id as "plan: PricePlanId",
                  sum(units)::int8 as "units!"
           from posting where customer_id = $1 and month = $2 group by app_id, meter, plan_id"#,
        customer.0,
        month as Month
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// The customers who are called so: by their id, their name, or the address of a member.
pub async fn customers(db: impl PgExecutor<'_>, called: &str) -> Result<Vec<(CustomerId, String)>> {
    let rows = query!(
        r#"select distinct c.id, c.name from customer c
           left join membership m on m.customer_id = c.id left join users u on u.id = m.user_id
           where c.id::text = $1 or c.name = $1 or lower(u.email) = lower($1) order by c.id"#,
        called
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}
