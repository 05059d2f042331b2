//! Sends the letters of the outbox: by SMTP, or into a folder where there is none.
//!
//! Knows: the outbox, the site's own URL, the operator's mail server.
//! Never: decides who is written to or what, or keeps a link: each try makes a fresh one, and only its hash
//! stays. A letter may arrive twice (the answer to the first try was lost), with the same Message-ID.
//! Start reading at `sender::step`.

mod letter;
mod out;
mod sender;

use std::path::PathBuf;
use std::time::Duration;

use domain::Secret;
use serde::{Deserialize, Serialize};
use store::Db;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Of the role `berth_control`.
    pub database_url: Secret<String>,
    /// `http://localhost:8080`: what links in letters begin with.
    pub site: String,
    /// `Berth <berth@example.com>`
    pub from: String,
    pub out: Out,
    pub patience: Patience,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Out {
    /// `smtp[s]://user:password@host:port`
    Smtp(Secret<String>),
    /// Each letter is a file `.eml` there.
    Folder(PathBuf),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Patience {
    /// For one letter.
    pub try_timeout: Duration,
    /// From the first try to the second; doubles from try to try.
    pub wait_min: Duration,
    pub wait_max: Duration,
    /// After so long a letter is given up.
    pub give_up: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            try_timeout: Duration::from_secs(60),
            wait_min: Duration::from_secs(30),
            wait_max: Duration::from_secs(4 * 3600),
            give_up: Duration::from_secs(3 * 24 * 3600),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error("the database's address cannot be used")]
    Database {
        #[source]
        cause: store::StoreError,
    },
    #[error("the address of the mail server is not right: {why}")]
    Smtp { why: String },
    #[error("'{from}' is no address to send from")]
    From { from: String },
}

/// Whether letters can be sent by these settings, before anything is started.
pub fn check(smtp: Option<&Secret<String>>, from: &str) -> Result<(), MailError> {
    from.parse::<lettre::message::Mailbox>().map_err(|_| MailError::From { from: from.to_owned() })?;
    smtp.map_or(Ok(()), |url| out::Smtp::new(url, Patience::default().try_timeout).map(drop))
}

/// Sends until `stop`. PostgreSQL and the mail server may be away: it tries again.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), MailError> {
    let db = Db::open(&config.database_url, 2).map_err(|cause| MailError::Database { cause })?;
    let sender = sender::Sender::new(db.clone(), config)?;
    tokio::select! {
        () = sender.run() => {}
        () = stop.cancelled() => {}
    }
    db.close().await;
    Ok(())
}
