//! Who signs in, the customers they belong to, and their one-time links.

use domain::{Approval, CustomerId, Email, LinkKind, Time, UserId};
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
    /// The address was shown to be theirs.
    pub confirmed: bool,
    pub approval: Approval,
    /// The database came back older than what runs.
    pub truth_is_older: bool,
}

/// A user with the first customer they joined.
pub async fn get(db: impl PgExecutor<'_>, user: UserId) -> Result<Option<User>> {
    Ok(query_as!(
        User,
        r#"select u.id, u.email, u.name, u.operator, u.sessions_since, u.password_hash is not null as "has_password!",
                  c.id as customer, c.name as customer_name, u.confirmed is not null as "confirmed!",
                  c.approval,
                  (select older_since is not null from installation) as "truth_is_older!"
           from users u join membership m on m.user_id = u.id join customer c on c.id = m.customer_id
           where u.id = $1 order by m.created, c.id limit 1"#,
        user.0
    )
    .fetch_optional(db)
    .await?)
}

/// As `get`, for who may not know whether there is a password.
#[derive(Debug, Clone)]
pub struct Who {
    pub email: String,
    pub name: String,
    pub customer_name: String,
    pub confirmed: bool,
    pub approval: Approval,
}

pub async fn who(db: impl PgExecutor<'_>, user: UserId, customer: CustomerId) -> Result<Option<Who>> {
    Ok(query_as!(
        Who,
        r#"select u.email, u.name, c.name as customer_name, u.confirmed is not null as "confirmed!", c.approval
           from users u join membership m on m.user_id = u.id join customer c on c.id = m.customer_id
           where u.id = $1 and c.id = $2"#,
        user.0,
        customer.0
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
    confirmed: bool,
) -> Result<Option<UserId>> {
    Ok(query_scalar!(
        "insert into users (email, name, password_hash, operator, confirmed)
         values ($1, $2, $3, $4, case when $5 then now() end)
         on conflict (lower(email)) do nothing returning id",
        email.as_str(),
        name,
        password_hash,
        operator,
        confirmed
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

pub async fn create_customer(tx: &mut Tx, name: &str, approval: Approval) -> Result<CustomerId> {
    Ok(query_scalar!("insert into customer (name, approval) values ($1, $2) returning id", name, approval.as_str())
        .fetch_one(&mut ***tx)
        .await?)
}

/// The address was shown to be theirs. False: it was known to be.
pub async fn confirm(tx: &mut Tx, user: UserId) -> Result<bool> {
    let done = query!("update users set confirmed = now() where id = $1 and confirmed is null", user.0)
        .execute(&mut ***tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Signs them out everywhere.
pub async fn set_password(tx: &mut Tx, user: UserId, password_hash: &str) -> Result<()> {
    query!(
        "update users set password_hash = $2, sessions_since = clock_timestamp() where id = $1",
        user.0,
        password_hash
    )
    .execute(&mut ***tx)
    .await?;
    Ok(())
}

pub async fn password_hash(db: impl PgExecutor<'_>, user: UserId) -> Result<Option<String>> {
    Ok(query_scalar!("select password_hash from users where id = $1", user.0).fetch_optional(db).await?.flatten())
}

/// Whose mailed link it is, once; all others of its kind that they have are spent with it.
pub async fn redeem_mail_link(tx: &mut Tx, token_hash: &[u8], kind: LinkKind) -> Result<Option<UserId>> {
    let user = query_scalar!(
        "update mail_link set used = now()
         where token_hash = $1 and kind = $2 and used is null and expires > now() returning user_id",
        token_hash,
        kind.as_str()
    )
    .fetch_optional(&mut ***tx)
    .await?;
    if let Some(user) = user {
        query!(
            "update mail_link set used = now() where user_id = $1 and kind = $2 and used is null",
            user.0,
            kind.as_str()
        )
        .execute(&mut ***tx)
        .await?;
    }
    Ok(user)
}

/// Whether a mailed link could be used now.
pub async fn mail_link_holds(db: impl PgExecutor<'_>, token_hash: &[u8], kind: LinkKind) -> Result<bool> {
    Ok(query_scalar!(
        r#"select exists (select from mail_link where token_hash = $1 and kind = $2 and used is null
                          and expires > now()) as "holds!""#,
        token_hash,
        kind.as_str()
    )
    .fetch_one(db)
    .await?)
}

#[derive(Debug, Clone)]
pub struct Addressee {
    pub id: UserId,
    pub email: String,
    pub confirmed: bool,
}

pub async fn addressee(db: impl PgExecutor<'_>, email: &Email) -> Result<Option<Addressee>> {
    Ok(query_as!(
        Addressee,
        r#"select id, email, confirmed is not null as "confirmed!" from users where lower(email) = lower($1)"#,
        email.as_str()
    )
    .fetch_optional(db)
    .await?)
}

/// Who belongs to a customer, whoever asks.
pub async fn members(db: impl PgExecutor<'_>, customer: CustomerId) -> Result<Vec<Addressee>> {
    Ok(query_as!(
        Addressee,
        r#"select u.id, u.email, u.confirmed is not null as "confirmed!"
           from membership m join users u on u.id = m.user_id where m.customer_id = $1 order by m.created, u.id"#,
        customer.0
    )
    .fetch_all(db)
    .await?)
}

/// Who runs this Berth and can be written to: the first one, `operator@localhost`, cannot.
pub async fn operators(db: impl PgExecutor<'_>) -> Result<Vec<Addressee>> {
    Ok(query_as!(
        Addressee,
        r#"select id, email, confirmed is not null as "confirmed!" from users
           where operator and email not like '%@localhost' order by id limit 20"#
    )
    .fetch_all(db)
    .await?)
}

pub async fn is_operator(db: impl PgExecutor<'_>, user: UserId) -> Result<bool> {
    Ok(query_scalar!("select operator from users where id = $1", user.0).fetch_optional(db).await?.unwrap_or(false))
}

pub async fn join(tx: &mut Tx, user: UserId, customer: CustomerId) -> Result<()> {
    query!("insert into membership (user_id, customer_id) values ($1, $2)", user.0, customer.0)
        .execute(&mut ***tx)
        .await?;
    Ok(())
}

/// What stands in the way of erasing somebody.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// Of their customer, besides them.
    pub others: i64,
    /// The apps of their customer, at most 20, by name.
    pub apps: Vec<String>,
    /// Nobody else runs this Berth.
    pub last_operator: bool,
}

/// Until the transaction ends, their customer gets no new app ([`crate::app::room`]).
pub async fn leaving(tx: &mut Tx, user: UserId, customer: CustomerId) -> Result<Leaving> {
    crate::app::room(tx, customer).await?;
    Ok(query_as!(
        Leaving,
        r#"select (select count(*) from membership where customer_id = $2 and user_id <> $1) as "others!",
                  array(select name from app where customer_id = $2 and state <> 'deleted'
                        order by name limit 20) as "apps!",
                  (select u.operator and not exists (select from users o where o.operator and o.id <> u.id)
                   from users u where u.id = $1) as "last_operator!""#,
        user.0,
        customer.0
    )
    .fetch_one(&mut ***tx)
    .await?)
}

/// Erases them; their customer loses its name when nobody is left in it.
pub async fn erase(tx: &mut Tx, user: UserId, customer: CustomerId) -> Result<()> {
    query!("delete from users where id = $1", user.0).execute(&mut ***tx).await?;
    query!(
        "update customer set name = 'deleted'
         where id = $1 and not exists (select from membership where customer_id = $1)",
        customer.0
    )
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
