//! Who signs in, the customers they belong to, and their one-time links.

use domain::{CustomerId, Email, Time, UserId};
use sqlx::PgExecutor;
use sqlx::{query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub operator: bool,
    pub sessions_since: Time,
    pub has_password: bool,
    pub customer: CustomerId,
    pub customer_name: String,
}

/// A user with the first customer they joined.
pub async fn get(db: impl PgExecutor<'_>, user: UserId) -> Result<Option<User>> {
    Ok(query_as!(
        User,
        r#"select u.id, u.email, u.name, u.operator, u.sessions_since, u.password_hash is not null as "has_password!",
                  c.id as customer, c.name as customer_name
           from users u join membership m on m.user_id = u.id join customer c on c.id = m.customer_id
           where u.id = $1 order by m.created, c.id limit 1"#,
        user.0
    )
    .fetch_optional(db)
    .await?)
}

#[derive(Debug, Clone)]
pub struct Credentials {
    pub id: UserId,
    pub password_hash: Option<String>,
}

pub async fn credentials(db: impl PgExecutor<'_>, email: &Email) -> Result<Option<Credentials>> {
    Ok(query_as!(Credentials, "select id, password_hash from users where lower(email) = lower($1)", email.as_str())
        .fetch_optional(db)
        .await?)
}

/// By address only, for who may not read a password's hash.
pub async fn by_email(db: impl PgExecutor<'_>, email: &Email) -> Result<Option<UserId>> {
    Ok(query_scalar!("select id from users where lower(email) = lower($1)", email.as_str()).fetch_optional(db).await?)
}

/// `None`: the address is known already.
pub async fn create(
    tx: &mut Tx,
    email: &Email,
    name: &str,
    password_hash: Option<&str>,
    operator: bool,
) -> Result<Option<UserId>> {
    Ok(query_scalar!(
        "insert into users (email, name, password_hash, operator) values ($1, $2, $3, $4)
         on conflict (lower(email)) do nothing returning id",
        email.as_str(),
        name,
        password_hash,
        operator
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

pub async fn create_customer(tx: &mut Tx, name: &str) -> Result<CustomerId> {
    Ok(query_scalar!("insert into customer (name) values ($1) returning id", name).fetch_one(&mut ***tx).await?)
}

pub async fn join(tx: &mut Tx, user: UserId, customer: CustomerId) -> Result<()> {
    query!("insert into membership (user_id, customer_id) values ($1, $2)", user.0, customer.0)
        .execute(&mut ***tx)
        .await?;
    Ok(())
}

/// Voids every session that began before now.
pub async fn sign_out_everywhere(tx: &mut Tx, user: UserId) -> Result<()> {
    query!("update users set sessions_since = now() where id = $1", user.0).execute(&mut ***tx).await?;
    Ok(())
}

pub async fn create_link(tx: &mut Tx, token_hash: &[u8], user: UserId, lasts_minutes: i32) -> Result<()> {
    query!(
        "insert into sign_in_link (token_hash, user_id, expires) values ($1, $2, now() + make_interval(mins => $3))",
        token_hash,
        user.0,
        lasts_minutes
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

/// Whose link it is, once: used and expired ones are nobody's.
pub async fn redeem_link(tx: &mut Tx, token_hash: &[u8]) -> Result<Option<UserId>> {
    Ok(query_scalar!(
        "update sign_in_link set used = now()
         where token_hash = $1 and used is null and expires > now() returning user_id",
        token_hash
    )
    .fetch_optional(&mut ***tx)
    .await?)
}
