//! One consumer of the group.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use domain::wire::{READING_FIELD, READINGS_STREAM, SAMPLE_FIELD};
use domain::{Reading, Sample, Time};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{AsyncConnectionConfig, RedisError, cmd};
use store::{Db, StoreError};
use tracing::{error, info, warn};

pub(crate) const GROUP: &str = "stats";
const BATCH: usize = 1000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long Redis holds a question when nothing is there.
const BLOCK: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);
/// An entry that a consumer has held for so long is somebody else's to take over.
const CLAIM_AFTER: Duration = Duration::from_secs(5);
const CLAIM_EVERY: Duration = Duration::from_secs(2);
const WARN_EVERY: Duration = Duration::from_secs(600);
/// A consumer that holds nothing and was silent for so long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("Redis is away")]
    Redis {
        #[from]
        cause: RedisError,
    },
    #[error("readings could not be committed")]
    Store {
        #[from]
        cause: StoreError,
    },
    #[error("PostgreSQL does not answer")]
    Late,
}

pub(crate) struct Consumer<'a> {
    db: &'a Db,
    redis: MultiplexedConnection,
    name: &'a str,
    claimed: Option<Instant>,
    /// When it was last said that samples are of a wrong time.
    warned: Option<Instant>,
}

impl<'a> Consumer<'a> {
    pub async fn open(db: &'a Db, client: &redis::Client, name: &'a str) -> Result<Self, Trouble> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let redis = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { db, redis, name, claimed: None, warned: None })
    }

    /// Ends in trouble only.
    pub async fn run(&mut self) -> Trouble {
        match self.consume().await {
            Err(trouble) => trouble,
            Ok(never) => match never {},
        }
    }

    async fn consume(&mut self) -> Result<Infallible, Trouble> {
        self.make_group().await?;
        // What this consumer was given before it lost its connection.
        while self.batch("0").await? > 0 {}
        loop {
            if self.claimed.is_none_or(|at| at.elapsed() >= CLAIM_EVERY) {
                self.take_over().await?;
                self.claimed = Some(Instant::now());
            }
            self.batch(">").await?;
        }
    }

    async fn make_group(&mut self) -> Result<(), Trouble> {
        let made: Result<(), RedisError> = cmd("XGROUP")
            .arg("CREATE")
            .arg(READINGS_STREAM)
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .query_async(&mut self.redis)
            .await;
        match made {
            Err(cause) if cause.code() != Some("BUSYGROUP") => Err(cause.into()),
            _ => Ok(()),
        }
    }

    /// Takes in the next entries (`>`), or those that are this consumer's already (`0`): how many.
    async fn batch(&mut self, from: &str) -> Result<usize, Trouble> {
        let reply: Option<StreamReadReply> = cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(self.name)
            .arg("COUNT")
            .arg(BATCH)
            .arg("BLOCK")
            .arg(BLOCK.as_millis() as u64)
            .arg("STREAMS")
            .arg(READINGS_STREAM)
            .arg(from)
            .query_async(&mut self.redis)
            .await?;
        let entries: Vec<StreamId> =
            reply.map(|r| r.keys).unwrap_or_default().into_iter().flat_map(|k| k.ids).collect();
        self.commit(&entries).await?;
        Ok(entries.len())
    }

    /// What others were given and did not finish, whoever they were.
    async fn take_over(&mut self) -> Result<(), Trouble> {
        let mut from = "0-0".to_owned();
        loop {
            let reply: StreamAutoClaimReply = cmd("XAUTOCLAIM")
                .arg(READINGS_STREAM)
                .arg(GROUP)
                .arg(self.name)
                .arg(CLAIM_AFTER.as_millis() as u64)
                .arg(&from)
                .arg("COUNT")
                .arg(BATCH)
                .query_async(&mut self.redis)
                .await?;
            if !reply.claimed.is_empty() {
                info!(entries = reply.claimed.len(), "taking over readings from a consumer that did not finish");
            }
            self.commit(&reply.claimed).await?;
            from = reply.next_stream_id;
            if from == "0-0" {
                break;
            }
        }
        self.forget_the_dead().await
    }

    /// First PostgreSQL, then Redis: what dies between the two is taken in again, and changes nothing.
    async fn commit(&mut self, entries: &[StreamId]) -> Result<(), Trouble> {
        if entries.is_empty() {
            return Ok(());
        }
        let batch = Batch::of(entries);
        match tokio::time::timeout(COMMIT_TIMEOUT, self.take_in(&batch)).await {
            Ok(taken) => taken?,
            Err(_) => return Err(Trouble::Late),
        }
        let ids: Vec<&str> = entries.iter().map(|e| e.id.as_str()).collect();
        redis::pipe()
            .cmd("XACK")
            .arg(READINGS_STREAM)
            .arg(GROUP)
            .arg(&ids)
            .ignore()
            .cmd("XDEL")
            .arg(READINGS_STREAM)
            .arg(&ids)
            .ignore()
            .query_async::<()>(&mut self.redis)
            .await?;
        Ok(())
    }

    async fn take_in(&mut self, batch: &Batch) -> Result<(), Trouble> {
        let db = self.db.pool();
        if !batch.readings.is_empty() {
            store::reading::merge(db, &batch.readings).await?;
        }
        if !batch.samples.is_empty() {
            let store::series::Added { dropped } =
                store::series::add(db, &batch.samples, Time::from(SystemTime::now())).await?;
            if dropped > 0 && self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                self.warned = Some(Instant::now());
                warn!(dropped, "samples are of a time that is over, or to come: a server's clock may be wrong");
            }
        }
        Ok(())
    }

    async fn forget_the_dead(&mut self) -> Result<(), Trouble> {
        let consumers: redis::streams::StreamInfoConsumersReply =
            cmd("XINFO").arg("CONSUMERS").arg(READINGS_STREAM).arg(GROUP).query_async(&mut self.redis).await?;
        let silent = |c: &&redis::streams::StreamInfoConsumer| {
            c.pending == 0 && c.idle as u128 >= FORGET_AFTER.as_millis() && c.name != self.name
        };
        for dead in consumers.consumers.iter().filter(silent) {
            let _: usize = cmd("XGROUP")
                .arg("DELCONSUMER")
                .arg(READINGS_STREAM)
                .arg(GROUP)
                .arg(&dead.name)
                .query_async(&mut self.redis)
                .await?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    /// The highest value of each key.
    readings: Vec<Reading>,
    samples: Vec<Sample>,
}

impl Batch {
    /// What is neither a reading nor a sample was not written by us: it is said, and passed over.
    fn of(entries: &[StreamId]) -> Self {
        let mut samples = Vec::new();
        let mut highest = BTreeMap::<_, Reading>::new();
        for entry in entries {
            let text = |field| entry.get::<String>(field);
            if let Some(sample) = text(SAMPLE_FIELD).and_then(|json| serde_json::from_str(&json).ok()) {
                samples.push(sample);
                continue;
            }
            let reading = text(READING_FIELD).and_then(|json| serde_json::from_str::<Reading>(&json).ok());
            let Some(reading) = reading else {
                error!(entry = entry.id, "an entry of the stream is neither a reading nor a sample; it is dropped");
                continue;
            };
            let key = (reading.life.clone(), reading.app, reading.meter, reading.hour);
            match highest.get(&key) {
                Some(Reading { value, .. }) if *value >= reading.value => {}
                _ => {
                    highest.insert(key, reading);
                }
            }
        }
        // In one order everywhere: two consumers that take in the same rows must not wait for each other.
        Self { readings: highest.into_values().collect(), samples }
    }
}
