//! The logs process: the lines of all instances and deploys in one place.
//!
//! Knows: streams, lines, and which *role* calls. Never: users, a database, a key, or what a line
//! means. It answers for what it is given: a line that was acknowledged is there after a
//! `kill -9`, exactly once, and a reader is told of every line that it cannot have any more.
//!
//! ```text
//! DIR/17/app/00000000000000000001-1763386327123456.seg     the log of app 17, from cursor 1 on
//! DIR/17/deploy-3/…                                        the build of its third deploy
//! DIR/18.deleted                                           lines that still come for it are dropped
//! ```
//!
//! - A stream gives its lines the cursors 1, 2, 3 …; a reader goes on behind the last it has seen.
//! - A batch that is sent again after a lost answer changes nothing: each origin's positions only
//!   grow, and how far they are known stands in the segments themselves.
//! - Kept for `days_max` and up to `bytes_max_per_app`; what is older is dropped by whole segments,
//!   and a reader that comes to the place reads how many lines are missing.
//!
//! Start reading at `segment`, the format; then `stream`, which writes it, `read` and `page`, which read it,
//! `archive`, which holds all streams, and `api`.

mod api;
mod archive;
mod clean;
mod durable;
mod error;
mod page;
mod read;
mod segment;
mod stream;
#[cfg(test)]
mod tests;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::wire::Space;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::archive::{Archive, chain};
pub use self::error::LogsError;

/// How often age is looked at. (Size is at every write.)
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// How often it is looked whether the disk is nearly full.
const SPACE_EVERY: Duration = Duration::from_secs(5);
const FORGET_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// The logs' own directory, writable by no other process.
    pub dir: PathBuf,
    /// Who may call: `runner` sends lines; `web`, `receiver` and `control` read; `control` deletes.
    pub callers: Vec<link::Caller>,
    /// Of one app's log, its deploys included.
    pub bytes_max_per_app: u64,
    pub days_max: u32,
    /// When a new segment is begun; at most an eighth of `bytes_max_per_app` is used.
    pub segment_bytes: u64,
    /// What stays free of the disk; `None`: by its size. Below, of each app only the latest lines are kept.
    pub disk_reserve_bytes: Option<u64>,
}

/// Serves until `stop`.
pub async fn run(config: Config, listener: UnixListener, stop: CancellationToken) -> Result<(), LogsError> {
    let dir = config.dir.clone();
    let opened = tokio::fs::create_dir_all(&dir).await;
    opened.map_err(|cause| LogsError::Open { dir, cause })?;
    let archive = Arc::new(Archive::new(&config.dir, config.bytes_max_per_app, config.days_max, config.segment_bytes));
    let ending = stop.child_token();
    let mut tasks = JoinSet::new();
    let router = api::router(Arc::clone(&archive), ending.clone());
    let serving = link::serve(listener, router, config.callers, ending.clone());
    tasks.spawn(async move { serving.await.map_err(LogsError::Serve) });
    let on = Arc::clone(&archive);
    tasks.spawn(every(durable::SYNC_EVERY, ending.clone(), move || on.dirty.flush()));
    let (on, dir, reserve) = (Arc::clone(&archive), config.dir.clone(), config.disk_reserve_bytes);
    tasks.spawn(every(SPACE_EVERY, ending.clone(), move || match space(&dir, reserve) {
        Ok(space) => on.disk_has(plan::room(&space), SystemTime::now()),
        Err(cause) => tracing::error!(error = %cause, "could not see how full the disk is"),
    }));
    let on = Arc::clone(&archive);
    tasks.spawn(every(FORGET_EVERY, ending.clone(), move || on.forget(usize::MAX)));
    let on = Arc::clone(&archive);
    tasks.spawn(every(SWEEP_EVERY, ending.clone(), move || {
        if let Err(error) = on.sweep(SystemTime::now()) {
            tracing::error!(error = %chain(&error), "the sweep of the logs failed");
        }
    }));

    let mut outcome = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok(Ok(())) if !ending.is_cancelled() => Err(LogsError::Task(None)),
            Ok(ended) => ended,
            Err(panicked) => Err(LogsError::Task(Some(panicked))),
        };
        ending.cancel();
        // The first to end is the cause; the others end because of it.
        outcome = outcome.and(ended);
    }
    archive.dirty.flush();
    outcome
}

fn space(dir: &Path, reserve_bytes: Option<u64>) -> std::io::Result<Space> {
    let found = nix::sys::statvfs::statvfs(dir)?;
    let block = found.fragment_size();
    let bytes = found.blocks().saturating_mul(block);
    let free_bytes = found.blocks_available().saturating_mul(block);
    Ok(Space { bytes, free_bytes, reserve_bytes: reserve_bytes.unwrap_or_else(|| plan::reserve(bytes)) })
}

/// Does `work` at once and after every pause, until `stop`.
async fn every(
    pause: Duration,
    stop: CancellationToken,
    work: impl Fn() + Send + Sync + 'static,
) -> Result<(), LogsError> {
    let work = Arc::new(work);
    loop {
        let once = Arc::clone(&work);
        tokio::task::spawn_blocking(move || once()).await.map_err(|panicked| LogsError::Task(Some(panicked)))?;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
