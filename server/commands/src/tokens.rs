//! Tokens of the JSON API: a token acts as its user, for one customer, and is shown once.

use std::net::IpAddr;

use domain::{Secret, Time, TokenId, TokenScope};
use rand::distr::{Alphanumeric, SampleString};
use sha2::{Digest, Sha256};

use crate::{Actor, CommandError, Commands, Door, timely};

/// By which a token is known for one, also by what looks for secrets in code.
const PREFIX: &str = "berth_";
/// Of letters and digits: 238 bits.
const LETTERS: usize = 40;
const TOKENS_MAX: i64 = 50;
const DAYS_MAX: i32 = 3650;

#[derive(Debug, Clone, PartialEq)]
pub struct TokenView {
    pub id: TokenId,
    pub name: String,
    pub scope: TokenScope,
    pub created: Time,
    /// Within a minute.
    pub last_used: Option<Time>,
    /// `None`: it lasts until it is revoked.
    pub expires: Option<Time>,
}

#[derive(Debug, Clone)]
pub struct NewToken {
    pub name: String,
    pub scope: TokenScope,
    pub lasts_days: Option<i32>,
}

/// Only here is the token itself.
#[derive(Debug, Clone)]
pub struct MadeToken {
    pub token: Secret<String>,
    pub view: TokenView,
}

/// Who asks by a token, and by which.
#[derive(Debug, Clone)]
pub struct ApiActor {
    pub actor: Actor,
    pub token: TokenView,
}

impl Commands {
    /// The actor's own, expired ones too.
    pub async fn tokens(&self, actor: &Actor) -> Result<Vec<TokenView>, CommandError> {
        timely(async {
            let tokens = store::token::list(self.db.pool(), actor.user, actor.customer).await?;
            Ok(tokens.into_iter().map(view).collect())
        })
        .await
    }

    pub async fn token_create(&self, actor: &Actor, new: &NewToken) -> Result<MadeToken, CommandError> {
        let name = new.name.trim();
        if name.is_empty() {
            return Err(CommandError::invalid("name", "A token has a name, such as what it is for."));
        }
        if name.chars().count() > 100 || name.chars().any(char::is_control) {
            return Err(CommandError::invalid("name", "Use at most 100 characters on one line."));
        }
        if new.lasts_days.is_some_and(|days| !(1..=DAYS_MAX).contains(&days)) {
            return Err(CommandError::invalid("lasts", format!("Choose 1 to {DAYS_MAX} days.")));
        }
        timely(async {
            let token = format!("{PREFIX}{}", Alphanumeric.sample_string(&mut rand::rng(), LETTERS));
            let mut tx = self.db.begin().await?;
            self.confirmed(&mut tx, actor).await?;
            let tokens = store::token::list(&mut **tx, actor.user, actor.customer).await?.len();
            if let Some(tokens) = i64::try_from(tokens).ok().filter(|tokens| *tokens >= TOKENS_MAX) {
                return Err(CommandError::TokensLimit { tokens });
            }
            let row = store::token::NewToken {
                user: actor.user,
                customer: actor.customer,
                name,
                hash: &Sha256::digest(&token),
                scope: new.scope,
                lasts_days: new.lasts_days,
            };
            let made = store::token::create(&mut tx, row).await?;
            // Its name is no subject: an app may be called the same.
            let after = serde_json::json!({ "name": name, "scope": new.scope, "days": new.lasts_days });
            self.record(&mut tx, actor, "token create", "", None, Some(after)).await?;
            tx.commit().await?;
            Ok(MadeToken { token: Secret::new(token), view: view(made) })
        })
        .await
    }

    /// Nobody is let in by it from now on.
    pub async fn token_revoke(&self, actor: &Actor, token: TokenId) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let name = store::token::revoke(&mut tx, actor.user, actor.customer, token).await?;
            let name = name.ok_or(CommandError::NotFound { what: "token" })?;
            let before = serde_json::json!({ "name": name });
            self.record(&mut tx, actor, "token revoke", "", Some(before), None).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Whose token this is; `None`: nobody's, whether or not it was one. What cannot be one is not looked up.
    pub async fn actor_by_token(&self, token: &str, origin: Option<IpAddr>) -> Result<Option<ApiActor>, CommandError> {
        let letters = token.strip_prefix(PREFIX).unwrap_or_default();
        if letters.len() != LETTERS || !letters.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        timely(async {
            let Some(holder) = store::token::holder(self.db.pool(), &Sha256::digest(token)).await? else {
                return Ok(None);
            };
            if holder.stale {
                store::token::used(self.db.pool(), holder.id).await?;
            }
            let actor = Actor { user: holder.user, customer: holder.customer, door: Door::Api, origin, key: None };
            let store::token::Holder { id, name, scope, created, last_used, expires, .. } = holder;
            Ok(Some(ApiActor { actor, token: TokenView { id, name, scope, created, last_used, expires } }))
        })
        .await
    }
}

fn view(token: store::token::Token) -> TokenView {
    let store::token::Token { id, name, scope, created, last_used, expires } = token;
    TokenView { id, name, scope, created, last_used, expires }
}
