//! The log of what people did, by ids only.

use std::net::IpAddr;

use domain::{CustomerId, UserId};
use serde_json::Value;

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct NewEvent<'a> {
    pub user: Option<UserId>,
    pub customer: Option<CustomerId>,
    /// `page`, `ssh`, `shell`
    pub door: &'a str,
    pub origin: Option<IpAddr>,
    /// `app create`
    pub verb: &'a str,
    pub subject: &'a str,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

pub async fn record(tx: &mut Tx, event: NewEvent<'_>) -> Result<()> {
    sqlx::query!(
        "insert into event (user_id, customer_id, door, origin, verb, subject, before, after)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
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
