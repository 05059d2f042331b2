//! Moves the deploy branch of every deploy that serves, whether its pusher is there or not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use commands::BranchMove;
use domain::DeployId;
use domain::wire::{GIT_REF_MOVED, GitAsk, GitVerb, Uids};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::JoinSet;

use crate::Door;
use crate::desk::Desk;

/// A look without a wake-up: also the pause before a failed move is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Below the 30 s for which a step stays with who asked for it.
const MOVE_TIMEOUT: Duration = Duration::from_secs(20);
const MOVES_AT_ONCE: usize = 4;
pub(crate) const MOVED_MEANWHILE: &str = "moved meanwhile, fetch and push again";

/// Until the receiver stops.
pub(crate) async fn run<D: Desk>(door: &Arc<Door<D>>) {
    let mut changes = door.desk.changes();
    let mut under_way: HashSet<DeployId> = HashSet::new();
    let mut moves: JoinSet<DeployId> = JoinSet::new();
    let mut away = false;
    loop {
        // Subscribe, then look.
        changes.mark_unchanged();
        match door.desk.branch_moves().await {
            Ok(open) => {
                away = false;
                for which in open {
                    if moves.len() < MOVES_AT_ONCE && under_way.insert(which.deploy) {
                        let door = Arc::clone(door);
                        moves.spawn(async move {
                            move_one(&door, &which).await;
                            which.deploy
                        });
                    }
                }
            }
            Err(error) if !away => {
                away = true;
                tracing::warn!(%error, "cannot see which branches are to be moved");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = door.stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { door.stop.cancelled().await; break },
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = moves.join_next() => match ended {
                Ok(deploy) => { under_way.remove(&deploy); }
                Err(cause) => {
                    tracing::error!(error = %cause, "moving a branch panicked");
                    under_way.clear();
                }
            },
        }
    }
    moves.shutdown().await;
}

async fn move_one<D: Desk>(door: &Door<D>, which: &BranchMove) {
    let outcome = match update_ref(door, which).await {
        Ok(0) => Ok(()),
        Ok(code) if code == GIT_REF_MOVED => Err(format!("{} {MOVED_MEANWHILE}", which.branch)),
        // Left open: the next look tries again.
        Ok(code) => return pause(door, which, &format!("git ended with {code}")).await,
        Err(reason) => return pause(door, which, &reason).await,
    };
    let (deploy, branch, moved) = (which.deploy, &which.branch, outcome.is_ok());
    match door.desk.branch_moved(which, outcome).await {
        // Else another attempt took over, and says how it went.
        Ok(false) => {}
        Ok(true) => {
            tracing::info!(deploy.id = %deploy, branch, moved, "{branch} was {}moved", if moved { "" } else { "not " })
        }
        Err(error) => pause(door, which, &error.to_string()).await,
    }
}

async fn pause<D: Desk>(door: &Door<D>, which: &BranchMove, reason: &str) {
    tracing::warn!(deploy.id = %which.deploy, branch = which.branch, reason, "could not move a branch; it is tried again");
    tokio::select! {
        () = door.stop.cancelled() => {}
        () = tokio::time::sleep(LOOK_EVERY) => {}
    }
}

async fn update_ref<D: Desk>(door: &Door<D>, which: &BranchMove) -> Result<i32, String> {
    let uids = Uids::of(door.config.apps_uid_base, which.app).ok_or("the app has no UID")?;
    let ask = GitAsk {
        app: which.app,
        uids,
        verb: GitVerb::UpdateRef {
            name: format!("refs/heads/{}", which.branch),
            new: which.commit.clone(),
            old: which.before.clone(),
        },
        protocol: None,
        hook_socket: None,
        time_ms: u64::try_from(MOVE_TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        make: false,
    };
    // Has its own time: a repository may have to be restored. An attempt that was overtaken meanwhile
    // is refused, and the next one finds the branch moved.
    let (mut run, ends) = crate::repository::start(door, ask).await.map_err(|e| e.to_string())?;
    let work = async {
        drop(ends.stdin);
        let (code, _, said) = tokio::join!(run.exited(), first_bytes(ends.stdout), first_bytes(ends.stderr));
        if !said.is_empty() {
            tracing::warn!(deploy.id = %which.deploy, "git said: {}", crate::words::one_line(&said));
        }
        code.map_err(|e| e.to_string())
    };
    tokio::time::timeout(MOVE_TIMEOUT + Duration::from_secs(5), work)
        .await
        .unwrap_or_else(|_| Err("it took too long".to_owned()))
}

/// Reads all, keeps the beginning.
async fn first_bytes(mut from: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let _ = (&mut from).take(4_096).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&kept).into_owned()
}
