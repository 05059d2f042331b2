//! Letters: written in the transaction of what they tell, sent by one sender.

use std::time::Duration;

use domain::{LinkKind, MailId, MailState, Time, UserId};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

/// Where the sender puts a letter's link.
pub const LINK_HERE: &str = "{link}";

#[derive(Debug, Clone)]
pub struct NewMail<'a> {
    pub user: Option<UserId>,
    pub address: &'a str,
    /// What it is, for the operator: `confirm`, `reset`, `password changed`, …
    pub kind: &'a str,
    pub subject: &'a str,
    pub text: &'a str,
    /// A link of this kind is put where the text says [`LINK_HERE`].
    pub link: Option<LinkKind>,
}

pub async fn write(tx: &mut Tx, mail: NewMail<'_>) -> Result<()> {
    query!(
        "insert into mail (user_id, address, kind, subject, text, link) values ($1, $2, $3, $4, $5, $6)",
        mail.user.map(|user| user.0),
        mail.address,
        mail.kind,
        mail.subject,
        mail.text,
        mail.link.map(LinkKind::as_str)
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// How many letters of this kind were written to them in the last hour. Until the transaction ends, only
/// it may count them.
pub async fn lately(tx: &mut Tx, user: UserId, kind: &str) -> Result<i64> {
    query!("select pg_advisory_xact_lock(2, $1::int8::int4)", user.0 & 0x7fff_ffff).execute(&mut ***tx).await?;
    Ok(query_scalar!(
        r#"select count(*) as "count!" from mail
           where user_id = $1 and kind = $2 and created > now() - interval '1 hour'"#,
        user.0,
        kind
    )
    .fetch_one(&mut ***tx)
    .await?)
}

/// For the operator: what it says is nobody's but its reader's.
#[derive(Debug, Clone)]
pub struct Mail {
    pub id: MailId,
    pub address: String,
    pub kind: String,
    pub subject: String,
    pub state: MailState,
    pub tries: i32,
    pub next_try: Time,
    pub error: Option<String>,
    pub created: Time,
    pub ended: Option<Time>,
}

/// The newest first, those before `before`; across owners, for the operator.
pub async fn list(
    db: impl PgExecutor<'_>,
    state: Option<MailState>,
    before: Option<MailId>,
    limit: i64,
) -> Result<Vec<Mail>> {
    Ok(query_as!(
        Mail,
        "select id, address, kind, subject, state, tries, next_try, error, created, ended from mail
         where ($1::text is null or state = $1) and ($2::int8 is null or id < $2) order by id desc limit $3",
        state.map(MailState::as_str),
        before.map(|id| id.0),
        limit
    )
    .fetch_all(db)
    .await?)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: i64,
    pub failed: i64,
}

pub async fn counts(db: impl PgExecutor<'_>) -> Result<Counts> {
    Ok(query_as!(
        Counts,
        r#"select count(*) filter (where state = 'waiting') as "waiting!",
                  count(*) filter (where state = 'failed') as "failed!" from mail where state <> 'sent'"#
    )
    .fetch_one(db)
    .await?)
}

/// Whether it was there and not sent: it is tried now, and for days.
pub async fn again(tx: &mut Tx, id: MailId) -> Result<bool> {
    let done = query!(
        "update mail set state = 'waiting', next_try = now(), tried_since = now(), ended = null
         where id = $1 and state <> 'sent'",
        id.0
    )
    .execute(&mut ***tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// For the sender: across owners.
pub mod all {
    use super::*;

    #[derive(Debug, Clone)]
    pub struct Due {
        pub id: MailId,
        pub user_id: Option<UserId>,
        pub address: String,
        pub kind: String,
        pub subject: String,
        pub text: String,
        pub link: Option<LinkKind>,
        /// This one's number: what an older one says is not taken.
        pub tries: i32,
        pub tried_for_seconds: f64,
    }

    /// The next letter to be sent, for as long as `lease`; it is nobody else's meanwhile.
    pub async fn claim(db: impl PgExecutor<'_>, holder: &str, lease: Duration) -> Result<Option<Due>> {
        Ok(query_as!(
            Due,
            r#"update mail set tries = tries + 1, holder = $1, holder_until = now() + make_interval(secs => $2)
               where id = (select id from mail where state = 'waiting' and next_try <= now()
                             and (holder_until is null or holder_until < now())
                           order by next_try, id limit 1 for update skip locked)
               returning id, user_id, address, kind, subject, coalesce(text, '') as "text!", link, tries,
                         extract(epoch from now() - tried_since)::float8 as "tried_for_seconds!""#,
            holder,
            lease.as_secs_f64()
        )
        .fetch_optional(db)
        .await?)
    }

    /// In how many seconds the next letter is due; `None`: none waits.
    pub async fn next_in(db: impl PgExecutor<'_>) -> Result<Option<f64>> {
        Ok(query_scalar!(
            "select extract(epoch from min(greatest(next_try, coalesce(holder_until, next_try))) - now())::float8
             from mail where state = 'waiting'"
        )
        .fetch_one(db)
        .await?)
    }

    /// What it said is forgotten.
    pub async fn sent(db: impl PgExecutor<'_>, id: MailId, tries: i32) -> Result<()> {
        query!(
            "update mail set state = 'sent', text = null, error = null, ended = now(), holder_until = null
             where id = $1 and tries = $2 and state = 'waiting'",
            id.0,
            tries
        )
        .execute(db)
        .await?;
        Ok(())
    }

    /// It is given up.
    pub async fn failed(db: impl PgExecutor<'_>, id: MailId, tries: i32, error: &str) -> Result<()> {
        query!(
            "update mail set state = 'failed', error = $3, ended = now(), holder_until = null
             where id = $1 and tries = $2 and state = 'waiting'",
            id.0,
            tries,
            error
        )
        .execute(db)
        .await?;
        Ok(())
    }

    pub async fn later(db: impl PgExecutor<'_>, id: MailId, tries: i32, error: &str, wait: Duration) -> Result<()> {
        query!(
            "update mail set next_try = now() + make_interval(secs => $4), error = $3, holder_until = null
             where id = $1 and tries = $2 and state = 'waiting'",
            id.0,
            tries,
            error,
            wait.as_secs_f64()
        )
        .execute(db)
        .await?;
        Ok(())
    }

    pub async fn create_link(
        db: impl PgExecutor<'_>,
        token_hash: &[u8],
        user: UserId,
        kind: LinkKind,
        lasts: Duration,
    ) -> Result<()> {
        query!(
            "insert into mail_link (token_hash, user_id, kind, expires)
             values ($1, $2, $3, now() + make_interval(secs => $4))",
            token_hash,
            user.0,
            kind.as_str(),
            lasts.as_secs_f64()
        )
        .execute(db)
        .await?;
        Ok(())
    }

    /// Deletes sent letters and spent links of more than 30 days ago.
    pub async fn forget(db: impl PgExecutor<'_>) -> Result<()> {
        query!(
            "with gone as (delete from mail_link where expires < now() - interval '30 days')
             delete from mail where state = 'sent' and ended < now() - interval '30 days'"
        )
        .execute(db)
        .await?;
        Ok(())
    }
}
