//! Rolls samples up, and lets go of what is old.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use domain::Time;
use plan::series::{MINUTE, MINUTES, roll_up, steps};
use store::{Db, StoreError, series};

/// After its first new sample an hour waits so long for others: each hour is rolled up twelve times while it lasts.
pub const WAIT: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Hours of apps in one transaction: while it lasts, no sample is taken in.
const AT_ONCE: i64 = 20;
const FORGET_EVERY: u32 = 30;
const FORGET_AT_ONCE: i64 = 500;

/// Ends in trouble only.
pub(crate) async fn run(db: &Db) -> StoreError {
    match keep(db).await {
        Err(cause) => cause,
        Ok(never) => match never {},
    }
}

async fn keep(db: &Db) -> Result<Infallible, StoreError> {
    let mut looks = 0_u32;
    loop {
        let now = Time::from(SystemTime::now());
        while roll_up_some(db, now.minus(WAIT)).await? > 0 {}
        if looks.is_multiple_of(FORGET_EVERY) {
            series::empty_one(db.pool(), now).await?;
            while series::forget_minutes(db.pool(), now, FORGET_AT_ONCE).await? {}
        }
        looks = looks.wrapping_add(1);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Rolls up hours that have had samples since before `before`; how many. Whoever dies in the middle has done nothing.
pub async fn roll_up_some(db: &Db, before: Time) -> Result<usize, StoreError> {
    let mut tx = db.begin().await?;
    let due = series::take_due(&mut tx, before, AT_ONCE).await?;
    for (app, hour) in &due {
        let seen = series::seen(&mut **tx, *app, *hour, hour.plus(MINUTE * MINUTES as u32)).await?;
        let hour_of = roll_up(*hour, &steps(seen));
        series::put(&mut tx, *app, *hour, &hour_of.minutes, &hour_of.whole).await?;
    }
    tx.commit().await?;
    Ok(due.len())
}
