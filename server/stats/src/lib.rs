//! Carries readings and samples from the Redis stream into PostgreSQL, and rolls samples up for graphs.
//!
//! Knows: the stream, `store::reading` and `store::series`. An entry is acknowledged and deleted only after its reading is
//! committed; readings merge by maximum. So a consumer may die at any point: what it had is claimed by the
//! next one, and taking it in twice changes nothing.
//! Never: loses an entry because PostgreSQL or Redis is away, or tells anybody what is committed (that is
//! read from PostgreSQL).

mod consume;
mod series;

use std::time::Duration;

use domain::Secret;
use store::Db;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::consume::{Consumer, Trouble};
pub use self::series::roll_up_some;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// Of the role `berth_control`.
    pub database_url: Secret<String>,
    pub redis_url: Secret<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    #[error("the database's address cannot be used")]
    Database {
        #[source]
        cause: store::StoreError,
    },
    #[error("Redis' address cannot be used")]
    Redis {
        #[source]
        cause: redis::RedisError,
    },
}

const BACK_OFF_MIN: Duration = Duration::from_millis(100);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// Consumes until `stop`. PostgreSQL and Redis may be away: it tries again.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), StatsError> {
    let db = Db::open(&config.database_url, 3).map_err(|cause| StatsError::Database { cause })?;
    let client =
        redis::Client::open(config.redis_url.expose().as_str()).map_err(|cause| StatsError::Redis { cause })?;
    let name = format!("{:016x}", rand::random::<u64>());
    let work = async {
        let mut back_off = BACK_OFF_MIN;
        loop {
            let trouble = match Consumer::open(&db, &client, &name).await {
                Ok(mut consumer) => {
                    if back_off > BACK_OFF_MIN {
                        info!("readings are consumed again");
                    }
                    back_off = BACK_OFF_MIN;
                    consumer.run().await
                }
                Err(trouble) => trouble,
            };
            if back_off == BACK_OFF_MIN {
                warn!(error = %trouble, cause = trouble.cause(), "readings are not consumed; trying again");
            }
            tokio::time::sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    };
    let series = async {
        loop {
            let cause = series::run(&db).await;
            warn!(error = %cause, "samples are not rolled up; trying again");
            tokio::time::sleep(BACK_OFF_MAX).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = series => {}
        () = stop.cancelled() => {}
    }
    db.close().await;
    Ok(())
}

impl Trouble {
    fn cause(&self) -> String {
        std::error::Error::source(self).map(ToString::to_string).unwrap_or_default()
    }
}
