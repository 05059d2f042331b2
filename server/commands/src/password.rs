//! Passwords: argon2id, a few at a time (each takes 19 MiB and some 50 ms), never on the async threads.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use domain::Secret;
use tokio::sync::Semaphore;

use crate::CommandError;

const CHARS_MIN: usize = 12;
/// So that hashing a very long one is no attack.
const BYTES_MAX: usize = 1024;
const AT_ONCE: usize = 2;
const WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// Of a password that nobody has: verified against when there is no user, so that the answer takes as long.
    nobody: Arc<str>,
}

impl Passwords {
    pub fn new() -> Self {
        // The parameters of `Argon2::default()`, with a salt and a digest of zeros.
        let nobody =
            "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), nobody: nobody.into() }
    }

    pub fn check(password: &Secret<String>) -> Result<(), CommandError> {
        let given = password.expose();
        if given.chars().count() < CHARS_MIN {
            return Err(CommandError::invalid("password", format!("Use at least {CHARS_MIN} characters.")));
        }
        if given.len() > BYTES_MAX {
            return Err(CommandError::invalid("password", format!("Use at most {BYTES_MAX} bytes.")));
        }
        Ok(())
    }

    pub async fn hash(&self, password: &Secret<String>) -> Result<String, CommandError> {
        let password = password.clone();
        self.in_turn(move || Argon2::default().hash_password(password.expose().as_bytes()).map(|hash| hash.to_string()))
            .await?
            .map_err(|cause| CommandError::internal(cause.to_string()))
    }

    /// Takes as long without a hash as with one.
    pub async fn matches(&self, password: &Secret<String>, hash: Option<&str>) -> Result<bool, CommandError> {
        if password.expose().len() > BYTES_MAX {
            return Ok(false);
        }
        let (password, known) = (password.clone(), hash.is_some());
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let same = self
            .in_turn(move || {
                let hash = PasswordHash::new(&hash).ok()?;
                Some(Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok())
            })
            .await?
            .ok_or_else(|| CommandError::internal("a stored password hash cannot be read"))?;
        Ok(same && known)
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CommandError> {
        let turn = tokio::time::timeout(WAIT, self.turns.clone().acquire_owned()).await;
        let turn = turn.map_err(|_| CommandError::Crowded)?.map_err(CommandError::internal)?;
        // The turn is taken until the work is done, also when who asked is gone.
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(CommandError::internal)
    }
}
