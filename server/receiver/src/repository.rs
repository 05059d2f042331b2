//! A git sandbox for an app, also when its repository is not on this server: then it is made again
//! from the object store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::wire::{GitAsk, GitBranch, GitVerb};
use domain::{AppId, Reason};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use crate::Door;
use crate::desk::Desk;
use crate::hook::{FRAME_BYTES_MAX, frame};
use crate::runner::{Ends, GitRun, RunnerError};

/// For all bundles of an app: as long as a build may take.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// One restoration of an app at a time.
#[derive(Default)]
pub(crate) struct Restoring(Mutex<HashMap<AppId, Arc<Mutex<()>>>>);

impl Restoring {
    async fn of(&self, app: AppId) -> Arc<Mutex<()>> {
        let mut all = self.0.lock().await;
        all.retain(|_, one| Arc::strong_count(one) > 1);
        Arc::clone(all.entry(app).or_default())
    }
}

pub(crate) async fn start<D: Desk>(door: &Door<D>, ask: GitAsk) -> Result<(GitRun, Ends), RunnerError> {
    match door.runner.start(ask.clone()).await {
        Err(RunnerError::Missing) => {}
        other => return other,
    }
    let restoring = door.restoring.of(ask.app).await;
    let _one = restoring.lock().await;
    // Meanwhile it may have been made.
    match door.runner.start(ask.clone()).await {
        Err(RunnerError::Missing) => {}
        other => return other,
    }
    let restored = tokio::time::timeout(RESTORE_TIMEOUT, restore(door, &ask)).await;
    match restored.unwrap_or_else(|_| Err(format!("it took longer than {} s", RESTORE_TIMEOUT.as_secs()))) {
        Ok(make) => door.runner.start(GitAsk { make, ..ask }).await,
        Err(cause) => {
            tracing::error!(app.id = %ask.app, cause, "could not restore a repository from the object store");
            let reason = Reason::new("the app's repository could not be restored from the object store");
            Err(RunnerError::Refused { reason: reason.hint("try again; if it stays so, ask the operator") })
        }
    }
}

/// Whether there was nothing to restore: then an empty one is to be made.
async fn restore<D: Desk>(door: &Door<D>, ask: &GitAsk) -> Result<bool, String> {
    let repository = door.desk.repository(ask.app).await.map_err(|error| error.to_string())?;
    if repository.bundles.is_empty() {
        return Ok(true);
    }
    let full = |mut branch: GitBranch| {
        branch.name = format!("refs/heads/{}", branch.name);
        branch
    };
    let branch = repository.branch.map(full);
    let branches = repository.branches.into_iter().map(full).collect();
    let asked = GitAsk {
        verb: GitVerb::Restore { branch, branches },
        protocol: None,
        hook_socket: None,
        time_ms: u64::try_from(RESTORE_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        ..ask.clone()
    };
    let (mut run, Ends { mut stdin, mut stdout, stderr }) =
        door.runner.start(asked).await.map_err(|error| error.to_string())?;
    let count = repository.bundles.len();
    let give = async move {
        for hash in &repository.bundles {
            let mut bundle = door.objects.get(hash).await.map_err(|error| error.to_string())?.stream;
            while let Some(bytes) = bundle.next().await {
                for piece in bytes.map_err(|error| error.to_string())?.chunks(FRAME_BYTES_MAX) {
                    stdin.write_all(&frame(b'b', piece)).await.map_err(|error| error.to_string())?;
                }
            }
            stdin.write_all(&frame(b'f', b"")).await.map_err(|error| error.to_string())?;
        }
        // Without it, nothing of it is taken.
        stdin.write_all(&frame(b'.', b"")).await.map_err(|error| error.to_string())
    };
    let said = async move {
        let mut said = Vec::new();
        let _ = stderr.take(4_096).read_to_end(&mut said).await;
        crate::words::one_line(&String::from_utf8_lossy(&said))
    };
    let ignored = async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await };
    let (given, code, said, _) = tokio::join!(give, run.exited(), said, ignored);
    match code.map_err(|error| error.to_string())? {
        0 => given?,
        code => return Err(format!("git ended with {code}: {said} ({given:?})")),
    }
    tracing::info!(app.id = %ask.app, bundles = count, "restored a repository from {count} bundles");
    Ok(false)
}
