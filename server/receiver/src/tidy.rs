//! Tidies repositories, one at a time and never while somebody is at work on one: what force pushes left goes,
//! many bundles become one, and what is left is measured.

use std::sync::Arc;
use std::time::Duration;

use commands::Untidy;
use domain::wire::{GitAsk, GitVerb, Uids};
use domain::{AppId, BundleHash};
use plan::Room;
use plan::collect::{Bundles, bundle};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::Door;
use crate::desk::Desk;
use crate::runner::{Ends, GitRun, RunnerError};
use crate::words::one_line;

const LOOK_EVERY: Duration = Duration::from_secs(15);
/// Of one repository; a very large one is tried again in vain, and said to be so.
const TIDY_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const AT_A_LOOK: i64 = 10;

/// Until the receiver stops.
pub(crate) async fn run<D: Desk>(door: &Arc<Door<D>>) {
    loop {
        tokio::select! {
            () = door.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // It takes room before it gives any.
        let space = door.objects.space().await;
        if space.is_ok_and(|space| plan::room(&space) == Room::Short) {
            continue;
        }
        // Away: the pushes say so.
        let Ok(untidy) = door.desk.untidy(AT_A_LOOK).await else { continue };
        for one in untidy {
            let app = one.row.app_id;
            tokio::select! {
                () = door.stop.cancelled() => return,
                done = tokio::time::timeout(TIDY_TIMEOUT, tidy(door, &one)) => match done {
                    Ok(Ok(())) => {}
                    Ok(Err(why)) => tracing::info!(app.id = %app, why, "a repository was not tidied; it is tried again"),
                    Err(_) => tracing::warn!(app.id = %app, "a repository was not tidied within {TIDY_TIMEOUT:?}"),
                },
            }
        }
    }
}

async fn tidy<D: Desk>(door: &Door<D>, one: &Untidy) -> Result<(), String> {
    let app = one.row.app_id;
    let words = |error: &dyn std::error::Error| error.to_string();
    let bytes = match start(door, app, GitVerb::Maintain { keep: one.keep.clone() }).await {
        // Not on this server: there is nothing to tidy, and it takes no room.
        Err(RunnerError::Missing) => return door.desk.tidied(app, 0).await.map_err(|e| words(&e)),
        Err(error) => return Err(words(&error)),
        Ok((mut run, Ends { stdin, stdout, stderr })) => {
            drop(stdin);
            let (code, size, said) = tokio::join!(run.exited(), beginning(stdout), beginning(stderr));
            well(code, &said)?;
            size.trim().parse::<u64>().map_err(|_| format!("git said `{size}`"))?
        }
    };
    let row = &one.row;
    let kept = Bundles {
        count: usize::try_from(row.bundles).unwrap_or(0),
        has_whole: row.has_whole,
        bytes: u64::try_from(row.bundle_bytes).unwrap_or(0),
        repository_bytes: bytes,
        has_history: row.has_history,
    };
    if let Some(reason) = bundle(&kept) {
        match whole(door, one).await? {
            true => {
                tracing::info!(app.id = %app, "what the object store has of a repository is one bundle now: {reason}")
            }
            false => tracing::info!(app.id = %app, "something was pushed while its bundles became one"),
        }
    }
    door.desk.tidied(app, bytes).await.map_err(|e| words(&e))
}

/// Stores all of the repository as one bundle; whether it is what counts now.
async fn whole<D: Desk>(door: &Door<D>, one: &Untidy) -> Result<bool, String> {
    let app = one.row.app_id;
    let verb = GitVerb::Bundle { commits: one.keep.clone() };
    let (mut run, Ends { stdin, stdout, stderr }) = start(door, app, verb).await.map_err(|e| e.to_string())?;
    drop(stdin);
    let store = door.objects.put::<BundleHash, _>(ReaderStream::new(stdout), None, u64::MAX);
    let (code, stored, said) = tokio::join!(run.exited(), store, beginning(stderr));
    // What git did not end well is nobody's object: nothing names it.
    well(code, &said)?;
    let stored = stored.map_err(|e| e.to_string())?;
    door.desk.bundled(one, &stored.hash).await.map_err(|e| e.to_string())
}

async fn start<D: Desk>(door: &Door<D>, app: AppId, verb: GitVerb) -> Result<(GitRun, Ends), RunnerError> {
    let uids = Uids::of(door.config.apps_uid_base, app).ok_or(RunnerError::Missing)?;
    let time_ms = u64::try_from(TIDY_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    door.runner.start(GitAsk { app, uids, verb, protocol: None, hook_socket: None, time_ms, make: false }).await
}

fn well(code: Result<i32, RunnerError>, said: &str) -> Result<(), String> {
    match code.map_err(|e| e.to_string())? {
        0 => Ok(()),
        code => Err(format!("git ended with {code}: {}", one_line(said))),
    }
}

/// Reads all, keeps the beginning.
async fn beginning(from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    let mut from = from.take(4_096);
    let _ = from.read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}
