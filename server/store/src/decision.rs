//! The coordinator's decisions, for the operator: across owners.

use domain::{AppName, CustomerId, Time};
use sqlx::{PgExecutor, query_as};

use crate::Result;

#[derive(Debug, Clone)]
pub struct Decision {
    pub id: i64,
    pub at: Time,
    pub app: Option<AppName>,
    pub customer: Option<CustomerId>,
    pub customer_name: Option<String>,
    pub what: String,
    pub reason: String,
}

/// The newest first, those before `before`.
pub async fn list(
    db: impl PgExecutor<'_>,
    app: Option<&str>,
    customer: Option<CustomerId>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Decision>> {
    Ok(query_as!(
        Decision,
        r#"select d.id, d.at, a.name as "app?: AppName", c.id as "customer?: CustomerId",
                  c.name as "customer_name?", d.what, d.reason
           from decision d left join app a on a.id = d.app_id left join customer c on c.id = a.customer_id
           where ($1::text is null or a.name = $1) and ($2::int8 is null or c.id = $2)
             and ($3::int8 is null or d.id < $3)
           order by d.id desc limit $4"#,
        app,
        customer.map(|id| id.0),
        before,
        limit
    )
    .fetch_all(db)
    .await?)
}
