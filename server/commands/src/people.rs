//! Confirming an address, resetting and changing a password, and whether somebody may begin.

use std::net::IpAddr;
use std::time::Duration;

use domain::{Approval, Email, LinkKind, Secret, UserId};
use sha2::{Digest, Sha256};
use store::Tx;
use store::event::NewEvent;
use store::user::Addressee;
use tokio::time::Instant;

use crate::letters::{Letter, Written};
use crate::password::Passwords;
use crate::{Actor, CommandError, Commands, Door, timely};

/// What a site asks of those who sign up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    pub approval: ApprovalRule,
    pub confirmation: Confirmation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalRule {
    NotNeeded,
    ByOperator,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Confirmation {
    /// On one's own computer.
    NotNeeded,
    /// By the link of a letter.
    ByMail,
    /// As before, but letters only land in a folder of the operator's, whose approval counts as well.
    ByMailOrOperator,
}

impl Default for Rules {
    fn default() -> Self {
        Self { approval: ApprovalRule::NotNeeded, confirmation: Confirmation::NotNeeded }
    }
}

/// Answers to what a stranger asks come after this, whether or not the address is known.
const EVEN_AFTER: Duration = Duration::from_millis(250);

/// Answers no sooner than `EVEN_AFTER`: what was found is not seen in the time that it took.
pub(crate) async fn evenly<T>(work: impl Future<Output = T>) -> T {
    let until = Instant::now() + EVEN_AFTER;
    let done = work.await;
    tokio::time::sleep_until(until).await;
    done
}

impl Commands {
    /// With what the site asks of those who sign up.
    #[must_use]
    pub fn with_rules(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Whether who asks may begin something: their address is confirmed, their customer approved.
    pub(crate) async fn may_begin(&self, tx: &mut Tx, actor: &Actor) -> Result<(), CommandError> {
        let standing = self.confirmed(tx, actor).await?;
        match standing {
            Approval::Approved => Ok(()),
            Approval::Waiting => Err(CommandError::NotApproved),
            Approval::Refused => Err(CommandError::Refused),
        }
    }

    /// Whether the address of who asks is confirmed; and their customer's approval.
    pub(crate) async fn confirmed(&self, tx: &mut Tx, actor: &Actor) -> Result<Approval, CommandError> {
        let who = store::user::who(&mut ***tx, actor.user, actor.customer).await?;
        let who = who.ok_or(CommandError::NotFound { what: "user" })?;
        if who.confirmed { Ok(who.approval) } else { Err(CommandError::NotConfirmed) }
    }

    /// By the button of the page that a mailed link opens: the link is spent by this.
    pub async fn confirm(&self, token: &str, origin: Option<IpAddr>) -> Result<UserId, CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let user = store::user::redeem_mail_link(&mut tx, &Sha256::digest(token), LinkKind::Confirm).await?;
            let user = user.ok_or(CommandError::LinkSpent)?;
            store::user::confirm(&mut tx, user).await?;
            self.record_own(&mut tx, user, Door::Page, origin, "address confirm").await?;
            tx.commit().await?;
            Ok(user)
        })
        .await
    }

    /// Sends the confirmation once more.
    pub async fn confirm_again(&self, actor: &Actor) -> Result<(), CommandError> {
        timely(async {
            let mut tx = self.db.begin().await?;
            let member = self.me(&mut tx, actor).await?;
            if member.confirmed {
                return Err(CommandError::not_now("Your address is confirmed.", "There is nothing to do."));
            }
            if self.letter_asked(&mut tx, &member, Letter::Confirm).await? == Written::TooMany {
                return Err(CommandError::TooManyLetters);
            }
            self.record(&mut tx, actor, "confirmation send", "", None, None).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Writes to the address, if it has an account. Answers the same in the same time either way.
    pub async fn reset_ask(&self, email: &str, origin: Option<IpAddr>) -> Result<(), CommandError> {
        let email: Email = email.parse().map_err(|cause| CommandError::name("email", cause))?;
        evenly(timely(async {
            let mut tx = self.db.begin().await?;
            if let Some(known) = store::user::addressee(&mut **tx, &email).await?
                && self.letter_asked(&mut tx, &known, Letter::Reset).await? == Written::Yes
            {
                self.record_own(&mut tx, known.id, Door::Page, origin, "reset ask").await?;
            }
            Ok(tx.commit().await?)
        }))
        .await
    }

    /// Whether a reset link could be used now; it is not spent by asking.
    pub async fn reset_holds(&self, token: &str) -> Result<bool, CommandError> {
        timely(async {
            Ok(store::user::mail_link_holds(self.db.pool(), &Sha256::digest(token), LinkKind::Reset).await?)
        })
        .await
    }

    /// Sets a new password by a mailed link, which is spent; whoever was signed in is signed out. The letter
    /// came to the address, so it is confirmed by this.
    pub async fn reset(
        &self,
        token: &str,
        password: &Secret<String>,
        origin: Option<IpAddr>,
    ) -> Result<UserId, CommandError> {
        timely(async {
            Passwords::check(password)?;
            if !store::user::mail_link_holds(self.db.pool(), &Sha256::digest(token), LinkKind::Reset).await? {
                return Err(CommandError::LinkSpent);
            }
            let hash = self.passwords.hash(password).await?;
            let mut tx = self.db.begin().await?;
            let user = store::user::redeem_mail_link(&mut tx, &Sha256::digest(token), LinkKind::Reset).await?;
            let user = user.ok_or(CommandError::LinkSpent)?;
            store::user::confirm(&mut tx, user).await?;
            self.new_password(&mut tx, user, &hash).await?;
            self.record_own(&mut tx, user, Door::Page, origin, "password reset").await?;
            tx.commit().await?;
            Ok(user)
        })
        .await
    }

    /// Who has a password gives it; who never had one sets the first. Every session ends, this one too.
    pub async fn password_change(
        &self,
        actor: &Actor,
        old: &Secret<String>,
        new: &Secret<String>,
    ) -> Result<(), CommandError> {
        timely(async {
            let hash = store::user::password_hash(self.db.pool(), actor.user).await?;
            if hash.is_some() && !self.passwords.matches(old, hash.as_deref()).await? {
                return Err(CommandError::invalid("old", "That is not your password."));
            }
            Passwords::check(new)?;
            let hash = self.passwords.hash(new).await?;
            let mut tx = self.db.begin().await?;
            self.new_password(&mut tx, actor.user, &hash).await?;
            self.record(&mut tx, actor, "password change", "", None, None).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn new_password(&self, tx: &mut Tx, user: UserId, hash: &str) -> Result<(), CommandError> {
        store::user::set_password(tx, user, hash).await?;
        let known = store::user::get(&mut ***tx, user).await?.ok_or(CommandError::NotFound { what: "user" })?;
        self.write(tx, user, &known.email, Letter::PasswordChanged).await
    }

    async fn me(&self, tx: &mut Tx, actor: &Actor) -> Result<Addressee, CommandError> {
        let members = store::user::members(&mut ***tx, actor.customer).await?;
        members.into_iter().find(|m| m.id == actor.user).ok_or(CommandError::NotFound { what: "user" })
    }

    /// What somebody did who proved to be `user` in another way than by a session.
    pub(crate) async fn record_own(
        &self,
        tx: &mut Tx,
        user: UserId,
        door: Door,
        origin: Option<IpAddr>,
        verb: &str,
    ) -> Result<(), CommandError> {
        let customer = store::user::get(&mut ***tx, user).await?.map(|known| known.customer);
        let event = NewEvent { user: Some(user), customer, origin, ..self.event(door, verb, "") };
        Ok(store::event::record(tx, event).await?)
    }
}
