//! The ledger: how far it is, what is to be posted, and postings, which nobody changes. For the engine that posts and
//! for whoever verifies; across owners.

use domain::{AppId, CustomerId, Meter, Money, Month, PricePlanId, Prices, Time};
use sqlx::types::Json;
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

pub mod audit;

/// How far it is, by the database's clock. Whole hours, but for `now` and `begun`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub now: Time,
    /// What was used before costs nothing.
    pub begun: Time,
    /// Derived readings are here of all hours before.
    pub derived: Time,
    /// Readings of all hours before are posted.
    pub posted: Time,
}

pub async fn progress(db: impl PgExecutor<'_>) -> Result<Progress> {
    Ok(query_as!(Progress, r#"select clock_timestamp() as "now!: Time", begun, derived, posted from billing"#)
        .fetch_one(db)
        .await?)
}

/// The epoch in which `holder` leads, if it does and this truth counts.
pub async fn leads(db: impl PgExecutor<'_>, holder: &str) -> Result<Option<i64>> {
    Ok(query_scalar!(
        "select epoch from leader, installation
         where holder = $1 and until > clock_timestamp() and older_since is null",
        holder
    )
    .fetch_optional(db)
    .await?)
}

/// Writes the values that derived meters had at the end of an hour. False: somebody did.
pub async fn derive(tx: &mut Tx, hour: Time, end: Time) -> Result<bool> {
    let done = query!("update billing set derived = $2 where derived = $1", hour as Time, end as Time)
        .execute(&mut ***tx)
        .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    query!(
        "insert into reading (life, app_id, meter, hour, value, at)
         select life, app_id, meter, $1, value, $2 from derived($1, $2, null) where value > 0
         on conflict (life, app_id, meter, hour)
         do update set value = excluded.value, at = excluded.at where reading.value < excluded.value",
        hour as Time,
        end as Time
    )
    .execute(&mut ***tx)
    .await?;
    Ok(true)
}

/// How large things were on disk long ago is not asked again.
pub async fn forget_sizes(db: impl PgExecutor<'_>, before: Time) -> Result<()> {
    query!(
        "delete from disk_size s where since < $1
           and exists (select from disk_size n where n.app_id = s.app_id and n.kind = s.kind
                       and n.since > s.since and n.since <= $1)",
        before as Time
    )
    .execute(db)
    .await?;
    Ok(())
}

/// All versions of all currencies.
#[derive(Debug, Clone)]
pub struct Plan {
    pub id: PricePlanId,
    pub currency: String,
    pub since: Time,
    pub prices: Json<Prices>,
    /// When it was decided on.
    pub created: Time,
}

pub async fn plans(db: impl PgExecutor<'_>) -> Result<Vec<Plan>> {
    Ok(query_as!(
        Plan,
        r#"select id as "id: PricePlanId", currency, since, prices as "prices: Json<Prices>", created
           from price_plan order by currency, since"#
    )
    .fetch_all(db)
    .await?)
}

/// Whose use of what, in which hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub customer: CustomerId,
    pub app: AppId,
    pub meter: Meter,
    pub hour: Time,
}

/// What was read in an hour.
pub async fn keys(db: impl PgExecutor<'_>, hour: Time) -> Result<Vec<Key>> {
    Ok(query_as!(
        Key,
        r#"select a.customer_id as "customer!: CustomerId", a.id as "app!: AppId", m.meter as "meter!: Meter",
                  $1::timestamptz as "hour!: Time"
           from app a cross join unnest($2::text[]) m(meter)
           where exists (select from reading r where r.app_id = a.id and r.meter = m.meter and r.hour = $1)
           order by a.customer_id, a.id, m.meter"#,
        hour as Time,
        &meters()
    )
    .fetch_all(db)
    .await?)
}

fn meters() -> Vec<String> {
    Meter::ALL.iter().map(|meter| meter.as_str().to_owned()).collect()
}

/// Customers of whom something is posted in a month.
pub async fn posted_to(db: impl PgExecutor<'_>, month: Month) -> Result<Vec<CustomerId>> {
    Ok(query_scalar!(
        r#"select c.id as "id!: CustomerId" from customer c
           where exists (select from posting p where p.customer_id = c.id and p.month = $1)"#,
        month as Month
    )
    .fetch_all(db)
    .await?)
}

/// The newest note of a reading that came late.
pub async fn newest_late(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(query_scalar!(r#"select coalesce(max(id), 0) as "id!" from reading_late"#).fetch_one(db).await?)
}

/// The oldest readings that came late, up to a note: their notes, and what has to be looked at again.
pub async fn late(db: impl PgExecutor<'_>, newest: i64, limit: i64) -> Result<(Vec<i64>, Vec<Key>)> {
    let rows = query!(
        r#"select n.id as "note!", a.customer_id as "customer?: CustomerId", r.app_id as "app?: AppId",
                  r.meter as "meter?: Meter", r.hour as "hour?: Time"
           from (select * from reading_late where id <= $1 order by id limit $2) n
           cross join billing b
           left join reading r on r.life = n.life and r.app_id = n.app_id and r.meter = n.meter and r.hour >= n.hour
               and r.hour >= date_trunc('hour', b.begun, 'UTC') and r.hour < b.posted
           left join app a on a.id = r.app_id"#,
        newest,
        limit
    )
    .fetch_all(db)
    .await?;
    let mut notes: Vec<i64> = rows.iter().map(|row| row.note).collect();
    let key = |row: (Option<CustomerId>, Option<AppId>, Option<Meter>, Option<Time>)| match row {
        (Some(customer), Some(app), Some(meter), Some(hour)) => Some(Key { customer, app, meter, hour }),
        _ => None,
    };
    let mut keys: Vec<Key> =
        rows.into_iter().filter_map(|row| key((row.customer, row.app, row.meter, row.hour))).collect();
    notes.sort_unstable();
    notes.dedup();
    keys.sort_unstable();
    keys.dedup();
    Ok((notes, keys))
}

/// Has readings looked at again: of each life the first hour, since those after it are looked at with it.
pub async fn note_late(tx: &mut Tx, keys: &[Key]) -> Result<()> {
    let (apps, meters, hours) = columns(keys);
    query!(
        "insert into reading_late (life, app_id, meter, hour)
         select r.life, r.app_id, r.meter, min(r.hour)
         from unnest($1::int8[], $2::text[], $3::timestamptz[]) k(app, meter, hour)
         join reading r on r.app_id = k.app and r.meter = k.meter and r.hour = k.hour
         group by r.life, r.app_id, r.meter",
        &apps,
        &meters,
        &hours as &[Time]
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

fn columns(keys: &[Key]) -> (Vec<i64>, Vec<String>, Vec<Time>) {
    let row = |key: &Key| (key.app.0, key.meter.as_str().to_owned(), key.hour);
    keys.iter().map(row).collect()
}

pub async fn forget_late(tx: &mut Tx, notes: &[i64]) -> Result<()> {
    query!("delete from reading_late where id = any($1)", notes).execute(&mut ***tx).await?;
    Ok(())
}

/// Where a chain of postings stands: its last one.
#[derive(Debug, Clone)]
pub struct Tail {
    pub customer: CustomerId,
    pub month: Month,
    pub plan: PricePlanId,
    pub meter: Meter,
    pub place: i64,
    pub app: AppId,
    pub hour: Time,
    pub used: i64,
    pub owed: Money,
}

/// Of these customers' chains in these months and versions. To be asked before [`used`]: what another posts between the
/// two then takes the place that was next here.
pub async fn tails(tx: &mut Tx, customers: &[i64], months: &[Month], plans: &[i64]) -> Result<Vec<Tail>> {
    Ok(query_as!(
        Tail,
        r#"select c.id as "customer!: CustomerId", m.month as "month!: Month", v.id as "plan!: PricePlanId",
                  t.meter as "meter!: Meter", p.place, p.app_id as "app: AppId", p.hour, p.used_after as used,
                  p.owed_after_micros as "owed: Money"
           from unnest($1::int8[]) c(id) cross join unnest($2::date[]) m(month) cross join unnest($3::int8[]) v(id)
           cross join unnest($4::text[]) t(meter)
           cross join lateral (
               select * from posting p where p.customer_id = c.id and p.month = m.month and p.plan_id = v.id
                   and p.meter = t.meter order by p.place desc limit 1) p"#,
        customers,
        months as &[Month],
        plans,
        &meters()
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// What was used, and what of it is posted.
#[derive(Debug, Clone)]
pub struct Used {
    pub app: AppId,
    pub meter: Meter,
    pub hour: Time,
    pub units: i64,
    pub posted: i64,
}

/// Use in an hour is what its readings have more than the highest of their lives before. (Values of one life that
/// contradict the order of their hours are within minutes of each other: clocks that are off by more are refused.)
pub async fn used(tx: &mut Tx, keys: &[Key]) -> Result<Vec<Used>> {
    let (apps, meters, hours) = columns(keys);
    Ok(query_as!(
        Used,
        r#"select k.app as "app!: AppId", k.meter as "meter!: Meter", k.hour as "hour!: Time",
                  u.units as "units!", p.units as "posted!"
           from unnest($1::int8[], $2::text[], $3::timestamptz[]) k(app, meter, hour)
           cross join lateral (
               select least(coalesce(sum(greatest(r.value - before.value, 0)), 0), 9223372036854775807)::int8 as units
               from reading r cross join lateral (
                   select greatest(0,
                       (select b.value from reading b where b.life = r.life and b.app_id = r.app_id
                            and b.meter = r.meter and b.hour < r.hour order by b.hour desc limit 1),
                       (select max(b.value) from reading b where b.life = r.life and b.app_id = r.app_id
                            and b.meter = r.meter and b.hour < r.hour and b.hour >= r.hour - interval '12 hours')
                   ) as value) before
               where r.app_id = k.app and r.meter = k.meter and r.hour = k.hour) u
           cross join lateral (
               select coalesce(sum(p.units), 0)::int8 as units from posting p
               where p.app_id = k.app and p.hour = k.hour and p.meter = k.meter) p"#,
        &apps,
        &meters,
        &hours as &[Time]
    )
    .fetch_all(&mut ***tx)
    .await?)
}

/// A posting that is to be made.
#[derive(Debug, Clone)]
pub struct New {
    pub customer: CustomerId,
    pub app: AppId,
    pub meter: Meter,
    pub plan: PricePlanId,
    pub month: Month,
    pub hour: Time,
    pub place: i64,
    pub units: i64,
    pub used_after: i64,
    pub amount: Money,
    pub owed_after: Money,
}

/// Writes them and their two lines each, and has them balanced. Refused where one's place is taken.
pub async fn insert(tx: &mut Tx, new: &[New]) -> Result<()> {
    let customers: Vec<i64> = new.iter().map(|p| p.customer.0).collect();
    let apps: Vec<i64> = new.iter().map(|p| p.app.0).collect();
    let meters: Vec<String> = new.iter().map(|p| p.meter.as_str().to_owned()).collect();
    let plans: Vec<i64> = new.iter().map(|p| p.plan.0).collect();
    let months: Vec<Month> = new.iter().map(|p| p.month).collect();
    let hours: Vec<Time> = new.iter().map(|p| p.hour).collect();
    let places: Vec<i64> = new.iter().map(|p| p.place).collect();
    let units: Vec<i64> = new.iter().map(|p| p.units).collect();
    let used: Vec<i64> = new.iter().map(|p| p.used_after).collect();
    let amounts: Vec<i64> = new.iter().map(|p| p.amount.micros()).collect();
    let owed: Vec<i64> = new.iter().map(|p| p.owed_after.micros()).collect();
    query!(
        "with made as (
             insert into posting (customer_id, app_id, meter, plan_id, month, hour, place, units, used_after,
                                  amount_micros, owed_after_micros)
             select * from unnest($1::int8[], $2::int8[], $3::text[], $4::int8[], $5::date[], $6::timestamptz[],
                                  $7::int8[], $8::int8[], $9::int8[], $10::int8[], $11::int8[])
             returning id, customer_id, meter, amount_micros
         )
         insert into ledger_entry (posting_id, account, amount_micros)
         select id, 'customer/' || customer_id, amount_micros from made where amount_micros <> 0
         union all select id, 'revenue/' || meter, -amount_micros from made where amount_micros <> 0",
        &customers,
        &apps,
        &meters,
        &plans,
        &months as &[Month],
        &hours as &[Time],
        &places,
        &units,
        &used,
        &amounts,
        &owed
    )
    .execute(&mut ***tx)
    .await?;
    query!("set constraints posting_balances immediate").execute(&mut ***tx).await?;
    Ok(())
}

/// All readings of an hour are posted. False: somebody said so.
pub async fn passed(tx: &mut Tx, hour: Time, end: Time) -> Result<bool> {
    let done = query!("update billing set posted = $2 where posted = $1", hour as Time, end as Time)
        .execute(&mut ***tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Each customer's currency.
pub async fn currencies(db: impl PgExecutor<'_>, customers: &[i64]) -> Result<Vec<(CustomerId, String)>> {
    let rows = query!("select id, currency from customer where id = any($1)", customers).fetch_all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.currency)).collect())
}
