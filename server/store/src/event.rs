//! The log of what people did, by ids only.

use std::net::IpAddr;

use domain::{AppName, CustomerId, Time, UserId};
use serde_json::Value;

use sqlx::{PgExecutor, query_as};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    pub user: Option<UserId>,
    pub customer: Option<CustomerId>,
    /// `page`, `ssh`, `api`, `shell`
    pub door: &'a str,
    pub origin: Option<IpAddr>,
    /// `app create`
    pub verb: &'a str,
    pub subject: &'a str,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// Its subject is an app's name, where it is about one of the customer's.
pub async fn record(tx: &mut Tx, event: NewEvent<'_>) -> Result<()> {
    sqlx::query!(
        "insert into event (user_id, customer_id, door, origin, verb, subject, before, after, app_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8,
                 (select id from app where customer_id = $2 and name = $6 order by id desc limit 1))",
        event.user.map(|u| u.0),
        event.customer.map(|c| c.0),
        event.door,
        event.origin as Option<IpAddr>,
        event.verb,
        event.subject,
        event.before,
        event.after,
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// As a person sees it.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: i64,
    pub at: Time,
    /// By name; `None`: root's shell, or a user who is gone.
    pub by: Option<String>,
    pub door: String,
    pub origin: Option<IpAddr>,
    pub verb: String,
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// What was done for `customer`, or to the app of theirs called `app`: the newest first, before `before`.
pub async fn list(
    db: impl PgExecutor<'_>,
    customer: CustomerId,
    app: Option<&AppName>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Event>> {
    Ok(query_as!(
        Event,
        r#"select e.id, e.at, u.name as "by?", e.door, e.origin, e.verb, e.subject, e.before, e.after
           from event e left join users u on u.id = e.user_id
           where e.customer_id = $1 and ($3::int8 is null or e.id < $3)
             and ($2::text is null
                  or e.app_id = (select id from app where customer_id = $1 and name = $2 and state <> 'deleted'))
           order by e.id desc limit $4"#,
        customer.0,
        app.map(AppName::as_str),
        before,
        limit
    )
    .fetch_all(db)
    .await?)
}
