//! Which truth this database is: what was handed out from it, whether what runs is ahead of it, and the operator's
//! word that it counts all the same.

use std::collections::BTreeMap;

use domain::Time;
use domain::wire::Seen;
use sqlx::{PgExecutor, query, query_scalar};

use crate::{Result, StoreError, Tx};

/// Epochs remembered: what a runner or a balancer took in of an earlier one is taken to be known.
const EPOCHS_KEPT: i64 = 1_000;

/// Before anybody can have taken it in. Only the leader's word counts.
pub async fn hand_out(db: impl PgExecutor<'_>, epoch: i64, counter: i64) -> Result<()> {
    let done = query!(
        "insert into revision (epoch, counter)
         select epoch, $2 from leader where epoch = $1 and until > clock_timestamp()
         on conflict (epoch) do update set counter = greatest(revision.counter, excluded.counter)",
        epoch,
        counter
    )
    .execute(db)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::NotLeading { epoch }) }
}

/// What was handed out, by epoch.
pub async fn handed_out(tx: &mut Tx) -> Result<BTreeMap<i64, i64>> {
    query!("delete from revision where epoch < (select epoch from leader) - $1", EPOCHS_KEPT)
        .execute(&mut ***tx)
        .await?;
    let rows = query!("select epoch, counter from revision").fetch_all(&mut ***tx).await?;
    Ok(rows.into_iter().map(|row| (row.epoch, row.counter)).collect())
}

/// Since when it is known that this truth is older than what runs.
pub async fn older_since(db: impl PgExecutor<'_>) -> Result<Option<Time>> {
    Ok(query_scalar!("select older_since from installation").fetch_one(db).await?)
}

/// What runs is ahead of this truth. True if that is news.
pub async fn note_older(db: impl PgExecutor<'_>, ahead: &Seen) -> Result<bool> {
    let done = query!(
        "update installation set older_since = coalesce(older_since, now()),
                older_incarnation = greatest(older_incarnation, $1), older_epoch = greatest(older_epoch, $2)
         where older_since is null or older_incarnation < $1 or older_epoch < $2",
        ahead.incarnation,
        ahead.revision.epoch
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// From now on this truth counts: a new incarnation, and every counter jumps over what may have been given
/// meanwhile. The new incarnation; `None`: this truth was not older. By the owner's role only.
pub async fn accept(tx: &mut Tx) -> Result<Option<i64>> {
    let incarnation = query_scalar!(
        "update installation set incarnation = greatest(incarnation, older_incarnation) + 1, older_since = null
         where older_since is not null returning incarnation"
    )
    .fetch_optional(&mut ***tx)
    .await?;
    let Some(incarnation) = incarnation else { return Ok(None) };
    // Whoever leads ends here.
    query!(
        "update leader set epoch = greatest(epoch, (select older_epoch from installation)) + 1000, until = '-infinity'"
    )
    .execute(&mut ***tx)
    .await?;
    query!("delete from revision").execute(&mut ***tx).await?;
    query!("update app set deploy_next = deploy_next + 1000").execute(&mut ***tx).await?;
    // Every identity: ids of apps (and with them UIDs) by less, since their range is the smallest.
    query!(
        r#"select setval(c.oid::regclass, coalesce(pg_sequence_last_value(c.oid), 0)
                         + case when c.relname = 'app_id_seq' then 1000 else 100000 end) as "last"
           from pg_class c where c.relkind = 'S' and c.relnamespace = 'public'::regnamespace"#
    )
    .fetch_all(&mut ***tx)
    .await?;
    Ok(Some(incarnation))
}
