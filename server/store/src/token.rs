//! Tokens of the JSON API. A token itself is never here, only its SHA-256.

use domain::{CustomerId, Time, TokenId, TokenScope, UserId};
use sqlx::PgExecutor;
use sqlx::{query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct Token {
    pub id: TokenId,
    pub name: String,
    pub scope: TokenScope,
    pub created: Time,
    pub last_used: Option<Time>,
    pub expires: Option<Time>,
}

/// Those of `user` for `customer`, expired ones too.
pub async fn list(db: impl PgExecutor<'_>, user: UserId, customer: CustomerId) -> Result<Vec<Token>> {
    Ok(query_as!(
        Token,
        "select id, name, scope, created, last_used, expires from api_token
         where user_id = $1 and customer_id = $2 order by created, id",
        user.0,
        customer.0
    )
    .fetch_all(db)
    .await?)
}

#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    pub user: UserId,
    pub customer: CustomerId,
    pub name: &'a str,
    pub hash: &'a [u8],
    pub scope: TokenScope,
    /// `None`: it lasts until it is revoked.
    pub lasts_days: Option<i32>,
}

pub async fn create(tx: &mut Tx, new: NewToken<'_>) -> Result<Token> {
    Ok(query_as!(
        Token,
        "insert into api_token (user_id, customer_id, name, token_hash, scope, expires)
         values ($1, $2, $3, $4, $5, now() + make_interval(days => $6::int4))
         returning id, name, scope, created, last_used, expires",
        new.user.0,
        new.customer.0,
        new.name,
        new.hash,
        new.scope.as_str(),
        new.lasts_days
    )
    .fetch_one(&mut ***tx)
    .await?)
}

/// Its name, if it was there and this user's.
pub async fn revoke(tx: &mut Tx, user: UserId, customer: CustomerId, token: TokenId) -> Result<Option<String>> {
    Ok(query_scalar!(
        "delete from api_token where id = $1 and user_id = $2 and customer_id = $3 returning name",
        token.0,
        user.0,
        customer.0
    )
    .fetch_optional(&mut ***tx)
    .await?)
}

#[derive(Debug, Clone)]
pub struct Holder {
    pub user: UserId,
    pub customer: CustomerId,
    pub id: TokenId,
    pub name: String,
    pub scope: TokenScope,
    pub created: Time,
    pub last_used: Option<Time>,
    pub expires: Option<Time>,
    /// Its last use was written down a minute ago or longer.
    pub stale: bool,
}

/// Whose token it is, for whoever authenticates; one that has expired is nobody's.
pub async fn holder(db: impl PgExecutor<'_>, hash: &[u8]) -> Result<Option<Holder>> {
    Ok(query_as!(
        Holder,
        r#"select user_id as user, customer_id as customer, id, name, scope, created, last_used, expires,
                  coalesce(last_used < now() - interval '1 minute', true) as "stale!"
           from api_token where token_hash = $1 and (expires is null or expires > now())"#,
        hash
    )
    .fetch_optional(db)
    .await?)
}

pub async fn used(db: impl PgExecutor<'_>, token: TokenId) -> Result<()> {
    query!("update api_token set last_used = now() where id = $1", token.0).execute(db).await?;
    Ok(())
}
