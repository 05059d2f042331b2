//! Which truth this database is: what was handed out from it, whether what runs is ahead of it, and the operator's
//! word that it counts all the same.

use std::collections::BTreeMap;

use domain::wire::Seen;
use sqlx::{PgExecutor, query, query_as, query_scalar};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Which {
    pub incarnation: i64,
    /// It is known that what runs is ahead of it.
    pub is_older: bool,
}

pub async fn which(db: impl PgExecutor<'_>) -> Result<Which> {
    Ok(query_as!(Which, r#"select incarnation, older_since is not null as "is_older!" from installation"#)
        .fetch_one(db)
        .await?)
}

/// What runs is ahead of this truth.
pub async fn note_older(db: impl PgExecutor<'_>, ahead: &Seen) -> Result<()> {
    query!(
        "update installation set older_since = coalesce(older_since, now()),
                older_incarnation = greatest(older_incarnation, $1), older_epoch = greatest(older_epoch, $2)
         where older_since is null or older_incarnation < $1 or older_epoch < $2",
        ahead.incarnation,
        ahead.revision.epoch
    )
    .execute(db)
    .await?;
    Ok(())
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
