//! SSH keys.

use domain::{CustomerId, KeyId, Time, UserId};
use sqlx::PgExecutor;
use sqlx::{query, query_as, query_scalar};

use crate::{Result, Tx};

#[derive(Debug, Clone)]
pub struct Key {
    pub id: KeyId,
    pub name: String,
    pub kind: String,
    pub fingerprint: String,
    pub created: Time,
    pub last_used: Option<Time>,
}

pub async fn list(db: impl PgExecutor<'_>, user: UserId) -> Result<Vec<Key>> {
    Ok(query_as!(
        Key,
        "select id, name, kind, fingerprint, created, last_used from ssh_key where user_id = $1 order by created, id",
        user.0
    )
    .fetch_all(db)
    .await?)
}

pub async fn add(tx: &mut Tx, user: UserId, name: &str, kind: &str, fingerprint: &str, public: &str) -> Result<Key> {
    Ok(query_as!(
        Key,
        "insert into ssh_key (user_id, name, kind, fingerprint, public) values ($1, $2, $3, $4, $5)
         returning id, name, kind, fingerprint, created, last_used",
        user.0,
        name,
        kind,
        fingerprint,
        public
    )
    .fetch_one(&mut ***tx)
    .await?)
}

/// Its fingerprint, if it was there and this user's.
pub async fn remove(tx: &mut Tx, user: UserId, key: KeyId) -> Result<Option<String>> {
    Ok(query_scalar!("delete from ssh_key where id = $1 and user_id = $2 returning fingerprint", key.0, user.0)
        .fetch_optional(&mut ***tx)
        .await?)
}

#[derive(Debug, Clone)]
pub struct KeyOwner {
    pub key: KeyId,
    pub user: UserId,
    pub customer: CustomerId,
}

/// Whose key it is, for whoever authenticates.
pub async fn owner(db: impl PgExecutor<'_>, fingerprint: &str) -> Result<Option<KeyOwner>> {
    Ok(query_as!(
        KeyOwner,
        "select k.id as key, k.user_id as user, m.customer_id as customer
         from ssh_key k join membership m on m.user_id = k.user_id
         where k.fingerprint = $1 order by m.created, m.customer_id limit 1",
        fingerprint
    )
    .fetch_optional(db)
    .await?)
}

pub async fn used(db: impl PgExecutor<'_>, key: KeyId) -> Result<()> {
    query!("update ssh_key set last_used = now() where id = $1", key.0).execute(db).await?;
    Ok(())
}
