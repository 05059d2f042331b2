//! What Berth writes to people: plain words, no word of a stranger, links to the configured site only.

use domain::{LinkKind, UserId};
use store::Tx;
use store::mail::{LINK_HERE, NewMail};
use store::user::Addressee;

use crate::{CommandError, Commands};

/// A letter, named as the operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letter {
    Confirm,
    Reset,
    /// Somebody tried to sign up with an address that has an account.
    Known,
    PasswordChanged,
    Approved,
    Refused,
    /// To operators: somebody waits.
    Waits,
}

/// Of each of those that a stranger can cause, to one person in an hour.
const AN_HOUR: i64 = 3;

impl Letter {
    fn kind(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Reset => "reset",
            Self::Known => "known address",
            Self::PasswordChanged => "password changed",
            Self::Approved => "approved",
            Self::Refused => "refused",
            Self::Waits => "approval asked",
        }
    }

    fn link(self) -> Option<LinkKind> {
        match self {
            Self::Confirm => Some(LinkKind::Confirm),
            Self::Reset => Some(LinkKind::Reset),
            _ => None,
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Self::Confirm => "Confirm your e-mail address",
            Self::Reset => "Set a new password",
            Self::Known => "You have an account already",
            Self::PasswordChanged => "Your password was changed",
            Self::Approved => "Your account is approved",
            Self::Refused => "Your account was not approved",
            Self::Waits => "Somebody waits for your approval",
        }
    }

    fn text(self, site: &str) -> String {
        let body = match self {
            Self::Confirm => format!(
                "An account at {site} was made with this address.\n\
                 Open this link to confirm that it is yours:\n\n{LINK_HERE}\n\n\
                 It works once, for 24 hours. If it was not you, do nothing: without this link\n\
                 the account can do nothing either."
            ),
            Self::Reset => format!(
                "Somebody, probably you, asked for a new password for your account at {site}.\n\
                 Open this link to set one:\n\n{LINK_HERE}\n\n\
                 It works once, for an hour. If it was not you, do nothing: your password stays as it is."
            ),
            Self::Known => format!(
                "Somebody, probably you, tried to make an account at {site} with this address.\n\
                 It has one already, so nothing was changed.\n\n\
                 Sign in: {site}/signin\n\
                 Forgot the password? {site}/reset\n\n\
                 If it was not you, do nothing."
            ),
            Self::PasswordChanged => format!(
                "The password of your account at {site} was changed just now, and every browser was signed out.\n\n\
                 If it was not you, set another one at once: {site}/reset"
            ),
            Self::Approved => {
                format!("The operator of {site} approved your account. You can make your first app:\n\n{site}/apps/new")
            }
            Self::Refused => {
                format!("The operator of {site} did not approve your account. To ask why, write to whoever runs it.")
            }
            Self::Waits => format!(
                "Somebody made an account at {site} and waits for your approval:\n\n\
                 {site}/operator/customers?state=waiting"
            ),
        };
        format!("{body}\n\n-- \nBerth, {site}\n")
    }
}

/// Whether a letter was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// As many as an hour may have were written.
    TooMany,
}

impl Commands {
    /// A letter of the transaction: it is sent when, and only when, that is committed.
    pub(crate) async fn letter(&self, tx: &mut Tx, to: &Addressee, letter: Letter) -> Result<(), CommandError> {
        self.write(tx, to.id, &to.email, letter).await
    }

    /// One that a stranger can cause.
    pub(crate) async fn letter_asked(
        &self,
        tx: &mut Tx,
        to: &Addressee,
        letter: Letter,
    ) -> Result<Written, CommandError> {
        if store::mail::lately(tx, to.id, letter.kind()).await? >= AN_HOUR {
            return Ok(Written::TooMany);
        }
        self.letter(tx, to, letter).await?;
        Ok(Written::Yes)
    }

    pub(crate) async fn write(
        &self,
        tx: &mut Tx,
        user: UserId,
        address: &str,
        letter: Letter,
    ) -> Result<(), CommandError> {
        let text = letter.text(&self.urls.site);
        let mail = NewMail {
            user: Some(user),
            address,
            kind: letter.kind(),
            subject: letter.subject(),
            text: &text,
            link: letter.link(),
        };
        Ok(store::mail::write(tx, mail).await?)
    }
}
