//! Compares what should run with what runs, carries deploys step by step, and serves the API by which
//! runners and balancers learn what should be true on them, and say what is.
//!
//! Knows: PostgreSQL through `store`, the decisions of `plan`, the object store, the Redis stream of readings.
//! Never: decides outside `plan`, acts without the lease, calls a runner or a balancer (they ask), or
//! stops anything because a part is away.
//!
//! Start reading at `lead::run`: lease, look, plan, apply, publish. `known` is what was heard and is
//! forgotten at a restart; `api` is the door.

mod api;
mod apply;
mod clock;
mod collect;
mod config;
mod known;
mod lead;
mod publish;
mod readings;
mod report;
mod snapshot;
mod truth;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::wire::Seen;
use domain::{Secret, ServerId};
use ipnet::Ipv4Net;
use objects::{Objects, Reserve};
use store::Db;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::known::Known;
use self::publish::Published;
use self::readings::Stream;
use self::truth::Truth;

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Config {
    /// Of the role `berth_control`, directly to the server: LISTEN is used.
    pub database_url: Secret<String>,
    pub redis_url: Secret<String>,
    pub objects_dir: PathBuf,
    /// The first UID of apps.
    pub apps_uid_base: u32,
    /// Instances' addresses; the first one after the network's own is the gateway.
    pub subnet: Ipv4Net,
    /// The name of this server in the fleet; a successor of the same name leads without waiting.
    pub server_name: String,
    /// At the logs process: a deleted app's lines are deleted there.
    pub logs: (PathBuf, Secret<String>),
    pub callers: Vec<link::Caller>,
    /// Of each app, besides the one that serves.
    pub releases_kept: usize,
    /// Opens config vars.
    pub seal_key: seal::PrivateKey,
    /// What stays free on the object store's disk; `None`: by its size.
    pub disk_reserve_bytes: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
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
    #[error("the object store cannot be opened")]
    Objects {
        #[source]
        cause: objects::ObjectsError,
    },
    #[error("the API ended")]
    Serve {
        #[source]
        cause: link::ServeError,
    },
    #[error("a part of the coordinator ended")]
    Part {
        #[source]
        cause: Option<tokio::task::JoinError>,
    },
}

/// What all parts share.
pub(crate) struct Shared {
    pub config: Config,
    pub db: Db,
    pub objects: Objects,
    pub readings: Stream,
    known: Mutex<Known>,
    truth: Mutex<Truth>,
    /// What runners and balancers should take in; nothing while this one does not lead.
    pub published: watch::Sender<Arc<Published>>,
    /// Look again.
    pub wake: Notify,
    /// Questions that are held are answered at once.
    pub stop: CancellationToken,
}

impl Shared {
    /// What was heard. Never held across an await.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was handed out. Never held across an await.
    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody says what it holds: if it is more than was ever handed out, PostgreSQL came back older.
    pub fn hears_of(&self, seen: Option<&Seen>) {
        let Some(seen) = seen else { return };
        if self.truth().hears_of(seen) {
            tracing::error!(
                incarnation = seen.incarnation,
                epoch = seen.revision.epoch,
                counter = seen.revision.counter,
                "PostgreSQL is older than what runs: nothing is decided until `berth restore accept`"
            );
            self.wake.notify_one();
        }
    }

    /// The epoch in which this one leads and may delete what PostgreSQL does not need.
    pub fn deciding(&self) -> Option<i64> {
        let epoch = self.published.borrow().decides.then(|| self.leading())?;
        epoch.map(|(epoch, _)| epoch).filter(|_| self.truth().ahead().is_none())
    }

    /// The epoch in which this one leads, and its server.
    pub fn leading(&self) -> Option<(i64, ServerId)> {
        let published = self.published.borrow();
        (clock::boottime() < published.until).then_some((published.epoch, published.server))
    }
}

/// Leads whenever it can, and serves the API, until `stop`. PostgreSQL and Redis may be away.
pub async fn run(
    config: Config,
    listener: std::os::unix::net::UnixListener,
    stop: CancellationToken,
) -> Result<(), CoordinatorError> {
    let db = Db::open(&config.database_url, 8).map_err(|cause| CoordinatorError::Database { cause })?;
    let readings = Stream::open(&config.redis_url).map_err(|cause| CoordinatorError::Redis { cause })?;
    let objects = Objects::open(&config.objects_dir).map_err(|cause| CoordinatorError::Objects { cause })?;
    let objects = objects.leaves(config.disk_reserve_bytes.map_or(Reserve::Of(plan::reserve), Reserve::Bytes));
    let callers = config.callers.clone();
    let shared = Arc::new(Shared {
        config,
        db,
        objects,
        readings,
        known: Mutex::new(Known::new(clock::boottime())),
        truth: Mutex::default(),
        published: watch::Sender::new(Arc::new(Published::nothing())),
        wake: Notify::new(),
        stop: stop.clone(),
    });
    // The API goes first: what it was told must not be lost between the two.
    let ending = stop.child_token();
    let mut parts: JoinSet<Result<(), CoordinatorError>> = JoinSet::new();
    let router = api::router(shared.clone());
    parts.spawn({
        let ending = ending.clone();
        async move {
            link::serve(listener, router, callers, ending).await.map_err(|cause| CoordinatorError::Serve { cause })
        }
    });
    parts.spawn({
        let (shared, ending) = (shared.clone(), ending.clone());
        async move {
            lead::run(&shared, &ending).await;
            Ok(())
        }
    });
    parts.spawn({
        let (shared, ending) = (shared.clone(), ending.clone());
        async move {
            lead::listen(&shared, &ending).await;
            Ok(())
        }
    });
    parts.spawn({
        let (shared, ending) = (shared.clone(), ending.clone());
        async move {
            collect::run(&shared, &ending).await;
            Ok(())
        }
    });
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(cause) => Err(CoordinatorError::Part { cause: Some(cause) }),
        };
        if result.is_ok() {
            result = match outcome {
                Ok(()) if !stop.is_cancelled() && !ending.is_cancelled() => Err(CoordinatorError::Part { cause: None }),
                other => other,
            };
        }
        ending.cancel();
    }
    shared.db.close().await;
    result
}
