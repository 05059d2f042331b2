//! Who leads: one row, by compare-and-set on the database's clock. And what a leader decided.

use domain::{AppId, Time};
use sqlx::{PgExecutor, query, query_scalar};

use crate::{Result, StoreError, Tx};

/// The new epoch, if nobody leads, or `holder` led: a successor of the same name need not wait for its
/// own lease, since the old epoch ends here and can write nothing more.
pub async fn take(db: impl PgExecutor<'_>, holder: &str, lease_ms: i32) -> Result<Option<i64>> {
    Ok(query_scalar!(
        "update leader set epoch = epoch + 1, holder = $1, until = clock_timestamp() + make_interval(secs => $2::float8 / 1000)
         where until < clock_timestamp() or holder = $1 returning epoch",
        holder,
        f64::from(lease_ms)
    )
    .fetch_optional(db)
    .await?)
}

/// False: the lease ran out, another leads, or this is an older database than the one that knew of revision
/// `counter` (0: none was handed out).
pub async fn renew(db: impl PgExecutor<'_>, epoch: i64, counter: i64, lease_ms: i32) -> Result<bool> {
    let done = query!(
        "update leader set until = clock_timestamp() + make_interval(secs => $3::float8 / 1000)
         where epoch = $1 and until > clock_timestamp()
           and coalesce((select counter from revision where epoch = $1), 0) >= $2",
        epoch,
        counter,
        f64::from(lease_ms)
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives the lease back, so that nobody waits for it.
pub async fn give_back(db: impl PgExecutor<'_>, epoch: i64) -> Result<()> {
    query!("update leader set until = '-infinity' where epoch = $1", epoch).execute(db).await?;
    Ok(())
}

/// Holds the lease's row until the transaction ends: what it writes is the leader's, or nobody's.
pub async fn check(tx: &mut Tx, epoch: i64) -> Result<()> {
    let held =
        query_scalar!("select epoch from leader where epoch = $1 and until > clock_timestamp() for share", epoch)
            .fetch_optional(&mut ***tx)
            .await?;
    match held {
        Some(_) => Ok(()),
        None => Err(StoreError::NotLeading { epoch }),
    }
}

/// `what` was done, and why, in plain words.
pub async fn decided(tx: &mut Tx, epoch: i64, app: Option<AppId>, what: &str, reason: &str) -> Result<()> {
    query!(
        "insert into decision (epoch, app_id, what, reason) values ($1, $2, $3, $4)",
        epoch,
        app.map(|a| a.0),
        what,
        reason
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// What time it is, where the times of rows come from.
pub async fn now(tx: &mut Tx) -> Result<Time> {
    Ok(query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&mut ***tx).await?)
}
