//! The SSH door: takes pushes by git, hands out fetches, and offers the verbs of the pages as commands.
//!
//! Knows: keys' fingerprints, apps and deploys through `commands`, its own host key, and how to ask
//! this server's runner for a git sandbox. It carries bytes between a channel and a sandbox.
//! Never: runs git itself, reads a pushed object, opens a customer's repository, or decides what
//! becomes of a deploy: it asks for one and prints how it goes.
//!
//! Start reading at `ssh::serve` (who comes in), then `session::run` (one command), `verbs::table` (what can be
//! asked), `push::serve` (what the hook and a deploy say to each other) and `branch::run` (who moves a branch).

mod branch;
mod collect;
mod desk;
mod follow;
mod hook;
mod host_key;
mod line;
mod push;
mod repository;
mod request;
mod runner;
mod session;
mod ssh;
mod tidy;
mod verbs;
mod words;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

use domain::Secret;
use objects::Reserve;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::desk::Desk;
use self::runner::Runner;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The receiver's own folder, 0700; the host key is made here once.
    pub dir: PathBuf,
    /// The receiver's own folder for sockets that are bound into git sandboxes. Others must be able
    /// to pass (0711); a socket's path ends at 108 bytes. Emptied at start.
    pub hooks_dir: PathBuf,
    /// What stays free on its disk; `None`: by its size.
    pub disk_reserve_bytes: Option<u64>,
    /// The object store's folder; `sources` and `bundles` below it are the receiver's to write.
    pub objects_dir: PathBuf,
    pub runner_socket: PathBuf,
    pub runner_token: Secret<String>,
    /// Where the range of the apps' UIDs begins (`wire::Uids::of`).
    pub apps_uid_base: u32,
    pub commands: commands::Config,
    pub limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_address: usize,
    /// Commands at once on one connection.
    pub sessions_per_connection: usize,
    /// Git sandboxes at once, of all customers.
    pub git_sessions: usize,
    /// From the first byte to a known key.
    pub login_ms: u64,
    /// Nothing heard of a client, not even an answer to a keep-alive.
    pub idle_ms: u64,
    pub connection_ms: u64,
    pub key_tries: usize,
    /// What one push may send, and the bundle that is kept of it.
    pub push_bytes: u64,
    /// The tar of a committed tree.
    pub source_bytes: u64,
    /// How long a push waits for its deploy; the deploy goes on.
    pub deploy_wait_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: 64,
            sessions_per_connection: 8,
            git_sessions: 64,
            login_ms: 30_000,
            idle_ms: 120_000,
            connection_ms: 2 * 3_600_000,
            key_tries: 10,
            push_bytes: 1 << 30,
            source_bytes: 1 << 30,
            deploy_wait_ms: 3_600_000,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    #[error("could not read or make the host key {path}")]
    HostKey {
        path: PathBuf,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("could not empty {dir}, the folder for hooks' sockets")]
    HooksDir {
        dir: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("could not open the object store")]
    Objects {
        #[source]
        cause: objects::ObjectsError,
    },
    #[error("could not take over a listening socket")]
    Listen {
        #[source]
        cause: std::io::Error,
    },
    #[error("could not reach the platform's data")]
    Commands {
        #[source]
        cause: commands::CommandError,
    },
    #[error("{what} ended unasked")]
    Ended { what: &'static str },
}

/// What every connection shares.
pub(crate) struct Door<D> {
    pub config: Config,
    pub desk: D,
    pub commands: commands::Commands,
    pub runner: Runner,
    pub objects: objects::Objects,
    pub git_sessions: Arc<Semaphore>,
    pub restoring: repository::Restoring,
    /// Pushes that were taken in outlive their connection; they end with the receiver.
    pub pushes: TaskTracker,
    /// A successor takes new connections.
    pub finish: CancellationToken,
    pub stop: CancellationToken,
}

/// Serves SSH on `listeners` until `stop`; calls `ready` when it does. From `finish` on it takes no new
/// connection, and returns when all have ended. Another receiver may accept from the same listeners.
pub async fn run_until(
    config: Config,
    listeners: Vec<TcpListener>,
    ready: impl FnOnce(),
    finish: CancellationToken,
    stop: CancellationToken,
) -> Result<(), ReceiverError> {
    let desk = commands::Commands::connect(config.commands.clone())
        .await
        .map_err(|cause| ReceiverError::Commands { cause })?;
    run_with(desk.clone(), desk, config, listeners, ready, finish, stop).await
}

async fn run_with<D: Desk>(
    desk: D,
    commands: commands::Commands,
    config: Config,
    listeners: Vec<TcpListener>,
    ready: impl FnOnce(),
    finish: CancellationToken,
    stop: CancellationToken,
) -> Result<(), ReceiverError> {
    let key = host_key::load_or_make(&config.dir).await?;
    hook::empty(&config.hooks_dir).map_err(|cause| ReceiverError::HooksDir { dir: config.hooks_dir.clone(), cause })?;
    let objects = objects::Objects::open(&config.objects_dir).map_err(|cause| ReceiverError::Objects { cause })?;
    let objects = objects.leaves(config.disk_reserve_bytes.map_or(Reserve::Of(plan::reserve), Reserve::Bytes));
    let door = Arc::new(Door {
        runner: Runner::new(config.runner_socket.clone(), config.runner_token.clone()),
        git_sessions: Arc::new(Semaphore::new(config.limits.git_sessions)),
        restoring: repository::Restoring::default(),
        pushes: TaskTracker::new(),
        finish,
        stop: stop.clone(),
        desk,
        commands,
        objects,
        config,
    });
    ready();
    let unasked = |what| if stop.is_cancelled() { Ok(()) } else { Err(ReceiverError::Ended { what }) };
    let ended = tokio::select! {
        served = ssh::serve(&door, key, listeners) => served,
        () = collect::run(&door) => unasked("collecting"),
        () = tidy::run(&door) => unasked("tidying"),
        () = branch::run(&door) => unasked("moving branches"),
    };
    stop.cancel();
    door.pushes.close();
    // Each watches `stop`, and its deploy goes on without it.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), door.pushes.wait()).await;
    ended
}
