//! What can go wrong with PostgreSQL, by what a caller can do about it.

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Try again later: nothing was decided.
    #[error("PostgreSQL is away")]
    Away {
        #[source]
        cause: sqlx::Error,
    },
    /// Nothing was written; the constraint says why.
    #[error("{constraint:?} forbids it")]
    Forbidden {
        constraint: Constraint,
        #[source]
        cause: sqlx::Error,
    },
    /// Somebody else leads, or nobody: nothing was written.
    #[error("the lease of epoch {epoch} is not held any more")]
    NotLeading { epoch: i64 },
    #[error("PostgreSQL refused a statement")]
    Statement {
        #[source]
        cause: sqlx::Error,
    },
    #[error("could not migrate the database")]
    Migrate {
        #[source]
        cause: Box<sqlx::migrate::MigrateError>,
    },
}

/// The named constraints that a command may run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    EmailOnce,
    KeyFingerprintOnce,
    AppNameOnce,
    HostnameOnce,
    InstanceAddressOnce,
    TokenNameOnce,
    /// The database came back older than what runs.
    TruthIsOlder,
}

impl Constraint {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "users_email_once" => Self::EmailOnce,
            "ssh_key_fingerprint_once" => Self::KeyFingerprintOnce,
            "app_name_once" => Self::AppNameOnce,
            "hostname_pkey" => Self::HostnameOnce,
            "instance_address_once" => Self::InstanceAddressOnce,
            "api_token_name_once" => Self::TokenNameOnce,
            "truth_is_older" => Self::TruthIsOlder,
            _ => return None,
        })
    }
}

impl StoreError {
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    pub fn forbidden_by(&self) -> Option<Constraint> {
        match self {
            Self::Forbidden { constraint, .. } => Some(*constraint),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(cause: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &cause {
            E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Self::Away { cause }
            }
            E::Database(refused) => {
                let code = refused.code().unwrap_or_default();
                // Connection exceptions, shutting down or starting, out of resources, a statement or lock
                // timeout, a serialization failure or a deadlock.
                let away = ["08", "57", "53", "40"].iter().any(|class| code.starts_with(class)) || code == "55P03";
                if away {
                    return Self::Away { cause };
                }
                match refused.constraint().and_then(Constraint::named) {
                    Some(constraint) => Self::Forbidden { constraint, cause },
                    None => Self::Statement { cause },
                }
            }
            _ => Self::Statement { cause },
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(cause: sqlx::migrate::MigrateError) -> Self {
        Self::Migrate { cause: Box::new(cause) }
    }
}
