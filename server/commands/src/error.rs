//! What a person is told when a command does not happen: what, why, what to do.

use std::time::Duration;

use domain::{AppName, NameError, ProcessName};
use store::{Constraint, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something typed was wrong; `field()` says which.
    Invalid,
    /// Not there, or not yours.
    NotFound,
    /// Clashes with what is (a taken name, a known key).
    Conflict,
    /// Who asks must sign in first, or gave a wrong password.
    Unauthenticated,
    /// Who asks may not, for now: not confirmed, not approved.
    Forbidden,
    /// As much as a customer or a user may have: waiting changes nothing.
    Limit,
    /// Too often: it may be tried again when `wait()` is over.
    TooMany,
    /// PostgreSQL, Redis or logs is away: try again.
    Away,
    /// A defect of ours; the log has the rest.
    Internal,
}

impl Kind {
    /// As programs read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Limit => "limit",
            Self::TooMany => "too_many",
            Self::Away => "away",
            Self::Internal => "internal",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{message}")]
    Invalid { field: &'static str, message: String, hint: Option<String> },
    /// About one process type, or none of them.
    #[error("{message}")]
    Scale { process: Option<ProcessName>, message: String },
    #[error("There is no such {what}.")]
    NotFound { what: &'static str },
    #[error("There is no app '{name}'.")]
    NoApp { name: AppName },
    #[error("The name '{name}' is taken.")]
    NameTaken { name: AppName },
    #[error("{message}")]
    NotNow { message: String, hint: &'static str },
    #[error("This key is known to Berth already.")]
    KeyKnown,
    #[error("You have a token of that name.")]
    TokenKnown,
    #[error("You have {tokens} tokens, as many as anybody may have.")]
    TokensLimit { tokens: i64 },
    #[error("There is a user with that address already.")]
    EmailKnown,
    #[error("The address or the password is not right.")]
    WrongPassword,
    #[error("This link was used before, or is too old.")]
    LinkSpent,
    #[error("You have {apps} {}, as many as your limit allows.", if *apps == 1 { "app" } else { "apps" })]
    AppsLimit { apps: i64 },
    #[error("Confirm your e-mail address first.")]
    NotConfirmed,
    #[error("Your account waits for the operator's approval.")]
    NotApproved,
    #[error("The operator did not approve your account.")]
    Refused,
    #[error("The link was sent three times within the hour.")]
    TooManyLetters,
    #[error("Too many people are signing in just now.")]
    Crowded,
    #[error("Berth's database is older than what runs, and nothing is changed until the operator has looked.")]
    Older,
    #[error("{what} does not answer just now.")]
    Away {
        what: &'static str,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("Something went wrong on our side.")]
    Internal {
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CommandError {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid { .. } | Self::Scale { .. } => Kind::Invalid,
            Self::NotFound { .. } | Self::NoApp { .. } => Kind::NotFound,
            Self::Older => Kind::Away,
            Self::NameTaken { .. } | Self::NotNow { .. } | Self::KeyKnown | Self::TokenKnown | Self::EmailKnown => {
                Kind::Conflict
            }
            Self::WrongPassword | Self::LinkSpent => Kind::Unauthenticated,
            Self::NotConfirmed | Self::NotApproved | Self::Refused => Kind::Forbidden,
            Self::AppsLimit { .. } | Self::TokensLimit { .. } => Kind::Limit,
            Self::TooManyLetters | Self::Crowded => Kind::TooMany,
            Self::Away { .. } => Kind::Away,
            Self::Internal { .. } => Kind::Internal,
        }
    }

    /// After how long it may be tried again, of what was asked too often.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::TooManyLetters => Some(Duration::from_secs(3600)),
            Self::Crowded => Some(Duration::from_secs(60)),
            _ => None,
        }
    }

    /// What happened, as a sentence.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Invalid { hint, .. } => return hint.clone(),
            Self::NotNow { hint, .. } => hint,
            Self::NotFound { .. } | Self::Internal { .. } | Self::Scale { .. } => return None,
            Self::NoApp { .. } => "See your apps by `apps`, or make it on the site.",
            Self::NameTaken { .. } => "Choose another name.",
            Self::KeyKnown => "A key belongs to one user. Make another by: ssh-keygen -t ed25519",
            Self::TokenKnown => "Choose another name, or revoke that one first.",
            Self::TokensLimit { .. } => "Revoke one that is not used any more.",
            Self::EmailKnown => "Make a link for that user instead.",
            Self::WrongPassword => "Try again.",
            Self::LinkSpent => "Ask for another one.",
            Self::NotConfirmed => "Open the link in the mail that we sent. Your account page sends it again.",
            Self::NotApproved => "We write to you when that is done. There is nothing that you have to do.",
            Self::Refused => "Ask whoever runs this installation.",
            Self::TooManyLetters => "Look among unwanted mail too. In an hour you can ask for another one.",
            Self::AppsLimit { .. } => "Delete one, or ask the operator for more.",
            Self::Older => "Your apps run as they are. Try again later, or ask the operator.",
            Self::Crowded | Self::Away { .. } => "Try again in a minute. Running apps are not affected.",
        };
        Some(hint.to_owned())
    }

    /// Which of the typed fields was wrong, by its name in the form.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::NameTaken { .. } | Self::AppsLimit { .. } | Self::TokenKnown | Self::TokensLimit { .. } => {
                Some("name")
            }
            Self::KeyKnown => Some("public"),
            Self::EmailKnown => Some("email"),
            Self::WrongPassword => Some("password"),
            _ => None,
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field, message: message.into(), hint: None }
    }

    pub(crate) fn not_now(message: impl Into<String>, hint: &'static str) -> Self {
        Self::NotNow { message: message.into(), hint }
    }

    pub(crate) fn scale(process: &ProcessName, message: String) -> Self {
        Self::Scale { process: Some(process.clone()), message }
    }

    pub(crate) fn name(field: &'static str, cause: NameError) -> Self {
        Self::invalid(field, cause.to_string())
    }

    pub(crate) fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal { cause: cause.into() }
    }
}

impl From<StoreError> for CommandError {
    fn from(cause: StoreError) -> Self {
        match cause.forbidden_by() {
            Some(Constraint::KeyFingerprintOnce) => Self::KeyKnown,
            Some(Constraint::TokenNameOnce) => Self::TokenKnown,
            Some(Constraint::EmailOnce) => Self::EmailKnown,
            Some(Constraint::TruthIsOlder) => Self::Older,
            _ if cause.is_away() => Self::Away { what: "The database", cause: cause.into() },
            _ => Self::internal(cause),
        }
    }
}

impl From<link::LinkError> for CommandError {
    fn from(cause: link::LinkError) -> Self {
        match cause {
            link::LinkError::Json { .. } => Self::internal(cause),
            _ => Self::Away { what: "The log", cause: cause.into() },
        }
    }
}
