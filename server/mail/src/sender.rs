//! The one loop: claims what is due, tries it, writes down what became of it.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::{LinkKind, Secret};
use lettre::message::Mailbox;
use sha2::{Digest, Sha256};
use store::mail::all::{self, Due};
use store::{Db, StoreError};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::letter::message;
use crate::out::{Sent, Smtp, Way};
use crate::{Config, MailError, Out, Patience};

/// Longer than a try takes.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// Without a wake-up it looks again after this.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const FORGET_EVERY: Duration = Duration::from_secs(3600);
const AWAY_WAIT: Duration = Duration::from_secs(2);
const TOKEN_BYTES: usize = 32;

/// How long a mailed link works.
fn lasts(kind: LinkKind) -> Duration {
    match kind {
        LinkKind::Confirm => Duration::from_secs(24 * 3600),
        LinkKind::Reset => Duration::from_secs(3600),
    }
}

pub struct Sender {
    db: Db,
    site: String,
    from: Mailbox,
    way: Way,
    patience: Patience,
    holder: String,
}

impl Sender {
    pub fn new(db: Db, config: Config) -> Result<Self, MailError> {
        let from = config.from.parse().map_err(|_| MailError::From { from: config.from.clone() })?;
        let way = match config.out {
            Out::Smtp(url) => Way::Smtp(Smtp::new(&url, config.patience.try_timeout)?),
            Out::Folder(dir) => Way::Folder(dir),
        };
        let holder = format!("{:016x}", rand::random::<u64>());
        Ok(Self { db, site: config.site, from, way, patience: config.patience, holder })
    }

    pub async fn run(&self) {
        loop {
            if let Err(cause) = self.work().await {
                warn!(error = %cause, "letters wait for the database");
            }
            sleep(AWAY_WAIT).await;
        }
    }

    /// Until PostgreSQL is away.
    async fn work(&self) -> Result<(), StoreError> {
        // Listen, then look: else what comes between the two waits for a minute.
        let mut listener = self.db.listen().await?;
        let mut forgot: Option<Instant> = None;
        loop {
            while self.step().await? {}
            if forgot.is_none_or(|at| at.elapsed() > FORGET_EVERY) {
                all::forget(self.db.pool()).await?;
                forgot = Some(Instant::now());
            }
            let next = all::next_in(self.db.pool()).await?.map(|s| Duration::from_secs_f64(s.clamp(0.01, 60.0)));
            if let Ok(heard) = timeout(next.unwrap_or(LOOK_EVERY), listener.changed()).await {
                heard?;
            }
        }
    }

    /// Tries one letter. False: none is due.
    async fn step(&self) -> Result<bool, StoreError> {
        let lease = self.patience.try_timeout + LEASE_MARGIN;
        let Some(due) = all::claim(self.db.pool(), &self.holder, lease).await? else { return Ok(false) };
        let link = match due.link.zip(due.user_id) {
            Some((kind, user)) => {
                let token = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>());
                all::create_link(self.db.pool(), &Sha256::digest(&token), user, kind, lasts(kind)).await?;
                Some(Secret::new(format!("{}/{}/{token}", self.site, kind.as_str())))
            }
            None => None,
        };
        let sent = match message(&due, &self.from, &self.site, link.as_ref()) {
            Ok(message) => self.way.send(&file_name(&due), message, self.patience.try_timeout).await,
            Err(why) => Sent::Never(why),
        };
        self.write_down(&due, sent).await?;
        Ok(true)
    }

    async fn write_down(&self, due: &Due, sent: Sent) -> Result<(), StoreError> {
        let (id, tries) = (due.id, due.tries);
        match sent {
            Sent::Done => {
                info!(mail.id = %id, mail.kind = due.kind, "letter {id} ({}) is sent", due.kind);
                all::sent(self.db.pool(), id, tries).await
            }
            Sent::Never(why) => {
                warn!(mail.id = %id, error = why, "letter {id} ({}) cannot be sent", due.kind);
                all::failed(self.db.pool(), id, tries, &why).await
            }
            Sent::NotNow(why) if due.tried_for_seconds >= self.patience.give_up.as_secs_f64() => {
                warn!(mail.id = %id, error = why, "letter {id} ({}) is given up after {tries} tries", due.kind);
                all::failed(self.db.pool(), id, tries, &why).await
            }
            Sent::NotNow(why) => {
                let wait = wait(&self.patience, tries);
                warn!(mail.id = %id, error = why, "letter {id} ({}) was not sent; again in {wait:?}", due.kind);
                all::later(self.db.pool(), id, tries, &why, wait).await
            }
        }
    }
}

/// Doubles from try to try.
fn wait(patience: &Patience, tries: i32) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(0).min(20);
    patience.wait_min.saturating_mul(1 << doublings).min(patience.wait_max)
}

fn file_name(due: &Due) -> String {
    let kind: String = due.kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{:08}-{kind}.eml", due.id.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_further_and_further_apart_for_days() {
        let patience = Patience::default();
        let minutes: Vec<_> = [1, 2, 3, 8, 20, i32::MAX].map(|n| wait(&patience, n).as_secs() / 60).into();
        assert_eq!(minutes, [0, 1, 2, 64, 240, 240]);
    }
}
