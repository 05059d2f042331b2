//! Makes the ledger from readings.
//!
//! Knows: readings, the price plan, postings; whether its process leads. Each full hour (UTC), a little after its end, it
//! writes down what derived meters said and posts what was used; what comes later of an hour is posted when it comes.
//! Never: decides what a unit costs (`plan::rate`), changes a posting, or posts an hour that is not over.
//! Start reading at `post::Poster::look`; `verify` holds the ledger against what it was made from.

mod clock;
mod post;
mod show;
mod verify;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use domain::{Secret, Time};
use serde::{Deserialize, Serialize};
use store::{Db, StoreError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::clock::{Clock, Doubt};
pub use self::post::{Poster, Progress};
pub use self::show::{Account, Line, ShowError, show};
pub use self::verify::{Check, Counter, Report, verify};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Of the role `berth_control`.
    pub database_url: Secret<String>,
    /// As the coordinator of the same process leads by it.
    pub server_name: String,
}

#[derive(Debug, thiserror::Error)]
pub enum BillingError {
    #[error("the database's address cannot be used")]
    Database {
        #[source]
        cause: StoreError,
    },
    #[error("{doing}")]
    Store {
        doing: &'static str,
        #[source]
        cause: StoreError,
    },
    #[error("the database does not answer")]
    Late,
    #[error("nothing is posted: {doubt}")]
    Clock { doubt: Doubt },
}

pub(crate) fn doing(doing: &'static str) -> impl FnOnce(StoreError) -> BillingError {
    move |cause| BillingError::Store { doing, cause }
}

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// For all that there is to do: after a long pause, many hours. What was done by then is done.
const LOOK_TIMEOUT: Duration = Duration::from_secs(600);
const LEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Posts whenever this process leads, until `stop`. PostgreSQL may be away.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), BillingError> {
    let db = Db::open(&config.database_url, 2).map_err(|cause| BillingError::Database { cause })?;
    let work = async {
        let (mut clock, mut failing, mut unposted) = (Clock::default(), false, BTreeMap::new());
        loop {
            match look(&db, &config.server_name, &mut clock).await {
                Ok(done) => {
                    if std::mem::take(&mut failing) {
                        info!("the ledger is written again");
                    }
                    if let Some(Progress { hours, postings, late, unposted: now }) = done {
                        if (hours, postings, late) != (0, 0, 0) {
                            info!(hours, postings, late, "posted {hours} hours: {postings} postings");
                        }
                        // Once, though each look finds it again.
                        for (customer, cause) in now.iter().filter(|(of, cause)| unposted.get(*of) != Some(*cause)) {
                            error!(customer.id = %customer, "customer {customer} is not posted, and is tried again: {cause}");
                        }
                        unposted = now;
                    }
                }
                // Somebody else posted, or leads by now: the next look sees it.
                Err(BillingError::Store { cause: StoreError::NotLeading { .. }, .. }) => {}
                Err(doubt @ BillingError::Clock { .. }) if !failing => {
                    error!("{doubt}");
                    failing = true;
                }
                Err(cause) if !failing => {
                    warn!(error = %chain(&cause), "the ledger is not written; trying again");
                    failing = true;
                }
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
    db.close().await;
    Ok(())
}

/// `None`: another leads.
async fn look(db: &Db, server: &str, clock: &mut Clock) -> Result<Option<Progress>, BillingError> {
    let leads = timeout(LEAD_TIMEOUT, store::ledger::leads(db.pool(), server)).await.map_err(|_| BillingError::Late)?;
    let Some(epoch) = leads.map_err(doing("could not ask who leads"))? else { return Ok(None) };
    let progress = timeout(LEAD_TIMEOUT, store::ledger::progress(db.pool())).await.map_err(|_| BillingError::Late)?;
    let progress = progress.map_err(doing("could not ask how far the ledger is"))?;
    let here = Time::from(SystemTime::now());
    clock.look(progress, here, clock::boottime()).map_err(|doubt| BillingError::Clock { doubt })?;
    let done = timeout(LOOK_TIMEOUT, Poster::new(db, epoch).look()).await.map_err(|_| BillingError::Late)?;
    done.map(Some)
}

/// An error and its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
