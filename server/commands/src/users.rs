//! Signing up, in and out; links; who a key is.

use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::{Approval, Email, Secret, UserId};
use sha2::{Digest, Sha256};
use store::event::NewEvent;

use crate::letters::Letter;
use crate::password::Passwords;
use crate::people::evenly;
use crate::{Actor, ApprovalRule, CommandError, Commands, Confirmation, Door, Rules, UserView, timely};

/// What a new user typed; each is checked here.
#[derive(Debug, Clone)]
pub struct SignUp {
    pub name: String,
    pub email: String,
    pub password: Secret<String>,
}

const LINK_MINUTES: i32 = 60;
const LINK_BYTES: usize = 32;

impl Commands {
    /// Makes a user with a customer of their own. An address that is known already changes nothing and
    /// answers the same, after the same work: a stranger does not learn who is a customer. So the door
    /// does not sign the new user in either, but asks for the password once more.
    pub async fn sign_up(&self, new: SignUp, origin: Option<IpAddr>) -> Result<(), CommandError> {
        timely(async {
            let name = checked_name(&new.name)?;
            let email: Email = new.email.parse().map_err(|cause| CommandError::name("email", cause))?;
            Passwords::check(&new.password)?;
            evenly(async {
                let hash = self.passwords.hash(&new.password).await?;
                let rules = self.rules;
                let made =
                    self.user_with_customer(&email, &name, Some(&hash), false, rules, Door::Page, origin).await?;
                if made.is_none() {
                    self.tell_known(&email).await?;
                }
                Ok(())
            })
            .await
        })
        .await
    }

    /// Their owner is told that somebody tried to sign up with their address.
    async fn tell_known(&self, email: &Email) -> Result<(), CommandError> {
        let mut tx = self.db.begin().await?;
        if let Some(known) = store::user::addressee(&mut **tx, email).await? {
            self.letter_asked(&mut tx, &known, Letter::Known).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Whose address and password these are.
    pub async fn sign_in(&self, email: &str, password: &Secret<String>) -> Result<UserId, CommandError> {
        timely(async {
            let known = match email.parse::<Email>() {
                Ok(email) => store::user::credentials(self.db.pool(), &email).await?,
                Err(_) => None,
            };
            let hash = known.as_ref().and_then(|known| known.password_hash.as_deref());
            let matches = self.passwords.matches(password, hash).await?;
            known.filter(|_| matches).map(|known| known.id).ok_or(CommandError::WrongPassword)
        })
        .await
    }

    /// Whose one-time link it is; it is spent by this.
    pub async fn redeem_link(&self, token: &str) -> Result<UserId, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let user =
                store::user::redeem_link(&mut tx, &Sha256::digest(token)).await?.ok_or(CommandError::LinkSpent)?;
            let event = NewEvent { user: Some(user), ..self.event(Door::Page, "link redeem", "") };
            store::event::record(&mut tx, event).await?;
            tx.commit().await?;
            Ok(user)
        })
        .await
    }

    pub async fn user(&self, user: UserId) -> Result<UserView, CommandError> {
        timely(async {
            let user = store::user::get(self.db.pool(), user).await?.ok_or(CommandError::NotFound { what: "user" })?;
            Ok(UserView {
                id: user.id,
                customer: user.customer,
                customer_name: user.customer_name,
                email: user.email.parse().map_err(CommandError::internal)?,
                name: user.name,
                operator: user.operator,
                sessions_since: user.sessions_since,
                confirmed: user.confirmed,
                approval: user.approval,
                truth_is_older: user.truth_is_older,
                has_password: user.has_password,
                spent: None,
            })
        })
        .await
    }

    /// Voids all sessions of the user, this one too.
    pub async fn sign_out_everywhere(&self, actor: &Actor) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            store::user::sign_out_everywhere(&mut tx, actor.user).await?;
            self.record(&mut tx, actor, "sign out everywhere", "", None, None).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Erases the user, who types their address so that nobody does it by mistake. Their apps have to be gone,
    /// or somebody else has to be there for them.
    pub async fn user_delete(&self, actor: &Actor, typed: &str) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let leaving = store::user::leaving(&mut tx, actor.user, actor.customer).await?;
            let email = store::user::get(&mut **tx, actor.user).await?.map(|user| user.email).unwrap_or_default();
            if !typed.trim().eq_ignore_ascii_case(&email) {
                return Err(CommandError::invalid("email", format!("Type {email} to delete this account.")));
            }
            if leaving.last_operator {
                let hint = "Make another operator first, on the server: berth user create --operator";
                return Err(CommandError::not_now("Nobody else runs this Berth.", hint));
            }
            if leaving.others == 0 && !leaving.apps.is_empty() {
                let message = format!("Your apps have to go first: {}.", leaving.apps.join(", "));
                return Err(CommandError::not_now(message, "Delete each on its own page, then come back."));
            }
            self.record(&mut tx, actor, "user delete", "", None, None).await?;
            store::user::erase(&mut tx, actor.user, actor.customer).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Whether somebody has this key; nothing is proved by offering one, so nothing is noted.
    pub async fn key_is_known(&self, fingerprint: &str) -> Result<bool, CommandError> {
        timely(async { Ok(store::key::owner(self.db.pool(), fingerprint).await?.is_some()) }).await
    }

    /// Whose key this is, by its fingerprint (`SHA256:…`), after its signature was checked.
    pub async fn actor_by_key(&self, fingerprint: &str, origin: Option<IpAddr>) -> Result<Option<Actor>, CommandError> {
        timely(async {
            let Some(owner) = store::key::owner(self.db.pool(), fingerprint).await? else { return Ok(None) };
            store::key::used(self.db.pool(), owner.key).await?;
            Ok(Some(Actor {
                user: owner.user,
                customer: owner.customer,
                door: Door::Ssh,
                origin,
                key: Some(owner.key),
            }))
        })
        .await
    }

    /// By root's shell: a user without a password, and the link by which they sign in first.
    pub async fn user_create(&self, email: &Email, name: &str, operator: bool) -> Result<String, CommandError> {
        timely(async {
            let name = checked_name(name)?;
            let user =
                self.user_with_customer(email, &name, None, operator, Rules::default(), Door::Shell, None).await?;
            self.link(user.ok_or(CommandError::EmailKnown)?).await
        })
        .await
    }

    /// By root's shell: a link by which the user signs in once.
    pub async fn user_link(&self, email: &Email) -> Result<String, CommandError> {
        timely(async {
            let user = store::user::by_email(self.db.pool(), email).await?;
            self.link(user.ok_or(CommandError::NotFound { what: "user" })?).await
        })
        .await
    }

    async fn link(&self, user: UserId) -> Result<String, CommandError> {
        let token = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; LINK_BYTES]>());
        let mut tx = self.db.begin().await?;
        store::user::create_link(&mut tx, &Sha256::digest(&token), user, LINK_MINUTES).await?;
        let event = NewEvent { user: Some(user), ..self.event(Door::Shell, "link create", "") };
        store::event::record(&mut tx, event).await?;
        tx.commit().await?;
        Ok(format!("{}/signin/link/{token}", self.urls.site))
    }

    /// `None`: the address is known already, and nothing was made.
    #[allow(clippy::too_many_arguments)]
    async fn user_with_customer(
        &self,
        email: &Email,
        name: &str,
        hash: Option<&str>,
        operator: bool,
        rules: Rules,
        door: Door,
        origin: Option<IpAddr>,
    ) -> Result<Option<UserId>, CommandError> {
        let confirmed = rules.confirmation == Confirmation::NotNeeded;
        let approval = match rules.approval {
            ApprovalRule::NotNeeded => Approval::Approved,
            ApprovalRule::ByOperator => Approval::Waiting,
        };
        let mut tx = self.db.begin().await?;
        let made = store::user::create(&mut tx, email, name, hash, operator, confirmed).await?;
        let Some(user) = made else { return Ok(None) };
        let customer = store::user::create_customer(&mut tx, name, approval).await?;
        store::user::join(&mut tx, user, customer).await?;
        if !confirmed {
            self.write(&mut tx, user, email.as_str(), Letter::Confirm).await?;
        }
        if approval == Approval::Waiting {
            for operator in store::user::operators(&mut **tx).await? {
                self.letter_asked(&mut tx, &operator, Letter::Waits).await?;
            }
        }
        let event = NewEvent {
            user: Some(user),
            customer: Some(customer),
            origin,
            after: Some(serde_json::json!({ "operator": operator, "confirmed": confirmed, "approval": approval })),
            ..self.event(door, "user create", "")
        };
        store::event::record(&mut tx, event).await?;
        tx.commit().await?;
        Ok(Some(user))
    }
}

fn checked_name(given: &str) -> Result<String, CommandError> {
    let name = given.trim();
    if name.is_empty() {
        return Err(CommandError::invalid("name", "A name is needed."));
    }
    if name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(CommandError::invalid("name", "Use at most 100 characters on one line."));
    }
    Ok(name.to_owned())
}
