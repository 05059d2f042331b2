//! A PostgreSQL that Berth was given: what it must be, whose it is, and the roles in it.

use std::str::FromStr;
use std::time::Duration;

use domain::Secret;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use crate::migrate::{MIGRATIONS, RolePassword};

/// The oldest that the statements were tried on.
const VERSION_LEAST: i32 = 140_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HEARD_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    #[error("its address cannot be used: {cause}")]
    Address { cause: sqlx::Error },
    #[error("it does not answer within {CONNECT_TIMEOUT:?}")]
    Late,
    #[error("no connection: {cause}")]
    Connect { cause: sqlx::Error },
    #[error("it is PostgreSQL {found}, and 14 is the oldest that will do")]
    Old { found: String },
    #[error("this is a connection through a pooler, not to PostgreSQL itself: {why}")]
    Pooler { why: &'static str },
    #[error("its user may not do what Berth needs; as a superuser run: {sql}")]
    Rights { sql: String },
    #[error("it belongs to another installation of Berth, {home}")]
    Taken { home: String },
    #[error(
        "the role {role} in it belongs to another installation of Berth, {home}: one server of PostgreSQL bears one"
    )]
    RoleTaken { role: String, home: String },
    #[error("the role {role} could not be given its password: {cause}; as a superuser run: {sql}")]
    Role { role: String, sql: String, cause: sqlx::Error },
    #[error("it refused: {cause}")]
    Refused {
        #[from]
        cause: sqlx::Error,
    },
    #[error("it could not be migrated: {cause}")]
    Migrate { cause: Box<sqlx::migrate::MigrateError> },
}

type Result<T> = std::result::Result<T, OutsideError>;

fn options(url: &Secret<String>) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|cause| OutsideError::Address { cause })?;
    Ok(options.disable_statement_logging())
}

/// The same database, for one of Berth's roles. An address that cannot be understood stays as it is: whoever
/// connects says so.
pub fn url_as(url: &Secret<String>, role: &str, password: &Secret<String>) -> Secret<String> {
    match options(url) {
        Ok(options) => Secret::new(options.username(role).password(password.expose()).to_url_lossy().to_string()),
        Err(_) => url.clone(),
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let connected = timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await;
    connected.map_err(|_| OutsideError::Late)?.map_err(|cause| OutsideError::Connect { cause })
}

/// Whether it will do for the installation `home` (empty: of none yet); changes nothing. Says what was found.
pub async fn look(url: &Secret<String>, home: &str) -> Result<String> {
    let options = options(url)?;
    let mut owner = connect(&options).await?;
    let found = fits(&options, &mut owner, home).await?;
    let _ = owner.close().await;
    Ok(found)
}

async fn fits(options: &PgConnectOptions, owner: &mut PgConnection, home: &str) -> Result<String> {
    let version: String = sqlx::query_scalar("show server_version").fetch_one(&mut *owner).await?;
    let number: String = sqlx::query_scalar("show server_version_num").fetch_one(&mut *owner).await?;
    if number.parse::<i32>().unwrap_or(0) < VERSION_LEAST {
        return Err(OutsideError::Old { found: version });
    }
    direct(options, owner).await?;
    rights(owner).await?;
    if let Some(other) = home_of(owner).await?.filter(|other| home != other) {
        return Err(OutsideError::Taken { home: other });
    }
    let tls: bool =
        sqlx::query_scalar("select coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false)")
            .fetch_one(&mut *owner)
            .await?;
    let word = version.split_whitespace().next().unwrap_or_default().to_owned();
    Ok(format!("given: PostgreSQL {word}, {}, LISTEN is heard", if tls { "over TLS" } else { "without TLS" }))
}

/// A session is a session: what it listens to is heard, and each statement meets the same process.
async fn direct(options: &PgConnectOptions, owner: &mut PgConnection) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").persistent(false).fetch_one(&mut *owner).await?;
        seen.push(pid);
    }
    if seen.iter().any(|pid| Some(pid) != seen.first()) {
        return Err(OutsideError::Pooler { why: "two statements of one session met two processes" });
    }
    let channel: String =
        sqlx::query_scalar("select 'berth_' || md5(random()::text)").persistent(false).fetch_one(&mut *owner).await?;
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
    let heard = async {
        let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options.clone())).await?;
        listener.listen(&channel).await?;
        sqlx::query("select pg_notify($1, '')").bind(&channel).persistent(false).execute(&mut *owner).await?;
        listener.recv().await
    };
    match timeout(CONNECT_TIMEOUT + HEARD_TIMEOUT, heard).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(cause)) => Err(cause.into()),
        Err(_) => Err(OutsideError::Pooler { why: "what was sent by NOTIFY is not heard by LISTEN" }),
    }
}

async fn rights(owner: &mut PgConnection) -> Result<()> {
    let may_roles: bool =
        sqlx::query_scalar("select rolsuper or rolcreaterole from pg_roles where rolname = current_user")
            .fetch_one(&mut *owner)
            .await?;
    let may_create: bool = sqlx::query_scalar(
        "select has_database_privilege(current_database(), 'create') and has_schema_privilege('public', 'create')",
    )
    .fetch_one(&mut *owner)
    .await?;
    let mut sql = Vec::new();
    if !may_roles {
        sql.push("format('alter role %I createrole;', current_user)");
    }
    if !may_create {
        sql.push(
            "format('grant create on database %I to %I; grant usage, create on schema public to %2$I;', current_database(), current_user)",
        );
    }
    if sql.is_empty() {
        return Ok(());
    }
    // Names are quoted by PostgreSQL itself.
    let sql = sqlx::query_scalar(AssertSqlSafe(format!("select concat_ws(' ', {})", sql.join(", "))))
        .fetch_one(owner)
        .await?;
    Err(OutsideError::Rights { sql })
}

/// Whose it is, where it says so.
async fn home_of(owner: &mut PgConnection) -> Result<Option<String>> {
    let says: bool = sqlx::query_scalar(
        "select exists (select from information_schema.columns where table_schema = 'public' and table_name = 'installation' and column_name = 'home')",
    )
    .fetch_one(&mut *owner)
    .await?;
    if !says {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("select home from installation").fetch_optional(owner).await?.flatten())
}

/// Looks, makes the roles, migrates, and says that it is `home`'s. Once more is the same.
pub async fn migrate(url: &Secret<String>, roles: &[RolePassword], home: &str) -> Result<()> {
    let options = options(url)?;
    let mut owner = connect(&options).await?;
    fits(&options, &mut owner, home).await?;
    for role in roles {
        put(&mut owner, role, home).await?;
    }
    let migrated = MIGRATIONS.run(&mut owner).await;
    migrated.map_err(|cause| OutsideError::Migrate { cause: Box::new(cause) })?;
    sqlx::query("update installation set home = $1").bind(home).execute(&mut owner).await?;
    let _ = owner.close().await;
    Ok(())
}

async fn put(owner: &mut PgConnection, RolePassword { role, password }: &RolePassword, home: &str) -> Result<()> {
    let mark = format!("berth {home}");
    let known: Option<Option<String>> =
        sqlx::query_scalar("select shobj_description(oid, 'pg_authid') from pg_roles where rolname = $1")
            .bind(role)
            .fetch_optional(&mut *owner)
            .await?;
    let verb = match &known {
        None => "create",
        Some(None) => "alter",
        Some(Some(other)) if *other == mark => "alter",
        Some(Some(other)) => {
            let home = other.strip_prefix("berth ").unwrap_or(other).to_owned();
            return Err(OutsideError::RoleTaken { role: role.clone(), home });
        }
    };
    // DDL takes no parameters: all words are quoted by PostgreSQL itself.
    let statement: String = sqlx::query_scalar(
        "select format('%s role %I login noinherit password %L; comment on role %I is %L', $1::text, $2::text, $3::text, $2::text, $4::text)",
    )
    .bind(verb)
    .bind(role)
    .bind(password.expose())
    .bind(&mark)
    .fetch_one(&mut *owner)
    .await?;
    match sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *owner).await {
        Ok(_) => Ok(()),
        Err(cause) => {
            let sql = sqlx::query_scalar("select format('grant %I to %I with admin option;', $1::text, current_user)")
                .bind(role)
                .fetch_one(owner)
                .await?;
            Err(OutsideError::Role { role: role.clone(), sql, cause })
        }
    }
}
