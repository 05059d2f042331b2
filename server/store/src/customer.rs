//! Customers: what they may use, and whether they may.

use domain::{Approval, CustomerId, Money, Time};
use sqlx::{PgExecutor, query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Limits {
    pub apps_max: i32,
    pub memory_bytes_max: i64,
    pub builds_max: i32,
    pub build_seconds_max: i32,
    pub disk_bytes_max: i64,
}

pub async fn limits(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Option<Limits>> {
    Ok(query_as!(
        Limits,
        "select apps_max, memory_bytes_max, builds_max, build_seconds_max, disk_bytes_max from customer where id = $1",
        customer.0
    )
    .fetch_optional(db)
    .await?)
}

/// Builds of `customer` that are under way.
pub async fn builds(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<i64> {
    Ok(query_scalar!(
        r#"select count(*) as "builds!" from deploy d join app a on a.id = d.app_id
           where a.customer_id = $1 and d.state = 'building'"#,
        customer.0
    )
    .fetch_one(db)
    .await?)
}

/// For whoever changes it: until the transaction ends nobody else does.
#[derive(Debug, Clone)]
pub struct Locked {
    pub name: String,
    pub approval: Approval,
}

pub async fn lock(tx: &mut Tx, customer: CustomerId) -> Result<Option<Locked>> {
    Ok(query_as!(Locked, "select name, approval from customer where id = $1 for update", customer.0)
        .fetch_optional(&mut ***tx)
        .await?)
}

pub async fn set_limits(tx: &mut Tx, customer: CustomerId, limits: &Limits) -> Result<()> {
    query!(
        "update customer set apps_max = $2, memory_bytes_max = $3, builds_max = $4, build_seconds_max = $5,
                             disk_bytes_max = $6 where id = $1",
        customer.0,
        limits.apps_max,
        limits.memory_bytes_max,
        limits.builds_max,
        limits.build_seconds_max,
        limits.disk_bytes_max
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

pub async fn set_approval(tx: &mut Tx, customer: CustomerId, approval: Approval) -> Result<()> {
    query!("update customer set approval = $2 where id = $1", customer.0, approval.as_str())
        .execute(&mut ***tx)
        .await?;
    Ok(())
}

/// Across owners, for the operator.
pub mod all {
    use super::*;

    #[derive(Debug, Clone)]
    pub struct Row {
        pub id: CustomerId,
        pub name: String,
        pub approval: Approval,
        pub created: Time,
        pub apps: i64,
        pub apps_max: i32,
        pub memory_bytes_max: i64,
        /// Of the first who joined.
        pub email: String,
        pub confirmed: bool,
        pub operator: bool,
        pub currency: String,
        /// This month, until the last full hour.
        pub posted: Money,
    }

    /// The newest first, those before `before`. `like`: a pattern of name or address.
    pub async fn list(
        db: impl PgExecutor<'_>,
        approval: Option<Approval>,
        like: Option<&str>,
        before: Option<CustomerId>,
        limit: i64,
    ) -> Result<Vec<Row>> {
        Ok(query_as!(
            Row,
            r#"select c.id, c.name, c.approval, c.created, c.apps_max, c.memory_bytes_max,
                      (select count(*) from app where customer_id = c.id and state <> 'deleted') as "apps!",
                      coalesce(u.email, '') as "email!", u.confirmed is not null as "confirmed!",
                      coalesce(u.operator, false) as "operator!", c.currency,
                      coalesce((select sum(amount_micros) from posted_day where customer_id = c.id
                                and day >= date_trunc('month', now(), 'UTC')), 0)::int8 as "posted!: Money"
               from customer c
               left join lateral (select users.* from membership m join users on users.id = m.user_id
                                  where m.customer_id = c.id order by m.created, users.id limit 1) u on true
               where ($1::text is null or c.approval = $1)
                 and ($2::text is null or c.name ilike $2 or u.email ilike $2)
                 and ($3::int8 is null or c.id < $3)
               order by c.id desc limit $4"#,
            approval.map(Approval::as_str),
            like,
            before.map(|id| id.0),
            limit
        )
        .fetch_all(db)
        .await?)
    }

    pub async fn get(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Option<Row>> {
        Ok(query_as!(
            Row,
            r#"select c.id, c.name, c.approval, c.created, c.apps_max, c.memory_bytes_max,
                      (select count(*) from app where customer_id = c.id and state <> 'deleted') as "apps!",
                      coalesce(u.email, '') as "email!", u.confirmed is not null as "confirmed!",
                      coalesce(u.operator, false) as "operator!", c.currency,
                      coalesce((select sum(amount_micros) from posted_day where customer_id = c.id
                                and day >= date_trunc('month', now(), 'UTC')), 0)::int8 as "posted!: Money"
               from customer c
               left join lateral (select users.* from membership m join users on users.id = m.user_id
                                  where m.customer_id = c.id order by m.created, users.id limit 1) u on true
               where c.id = $1"#,
            customer.0
        )
        .fetch_optional(db)
        .await?)
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Counts {
        pub all: i64,
        pub waiting: i64,
    }

    pub async fn counts(db: impl PgExecutor<'_>) -> Result<Counts> {
        Ok(query_as!(
            Counts,
            r#"select count(*) as "all!", count(*) filter (where approval = 'waiting') as "waiting!" from customer"#
        )
        .fetch_one(db)
        .await?)
    }
}
