//! The roles, and the tables: by the owner's role, at each start.

use std::str::FromStr;

use domain::Secret;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::Result;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// A database role of one of our processes and its password of this start.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RolePassword {
    /// `berth_web`, `berth_receiver`, `berth_control`.
    pub role: String,
    pub password: Secret<String>,
}

/// Makes the roles that are missing, gives each its new password, and migrates. Once more is the same.
pub async fn migrate(owner_url: &Secret<String>, roles: &[RolePassword]) -> Result<()> {
    let options = PgConnectOptions::from_str(owner_url.expose())?.disable_statement_logging();
    let mut owner = PgConnection::connect_with(&options).await?;
    for RolePassword { role, password } in roles {
        let there: bool = sqlx::query_scalar!("select exists (select from pg_roles where rolname = $1)", role)
            .fetch_one(&mut owner)
            .await?
            .unwrap_or(false);
        let verb = if there { "alter" } else { "create" };
        // DDL takes no parameters: both words are quoted by PostgreSQL itself.
        let statement = sqlx::query_scalar!(
            "select format('%s role %I login nosuperuser nocreatedb nocreaterole noinherit password %L', $1::text, $2::text, $3::text)",
            verb,
            role,
            password.expose(),
        )
        .fetch_one(&mut owner)
        .await?
        .unwrap_or_default();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut owner).await?;
    }
    MIGRATIONS.run(&mut owner).await?;
    owner.close().await?;
    Ok(())
}
