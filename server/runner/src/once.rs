//! What runs once: a deploy's process `release`. It ends by itself, at its time limit, or when nobody wants it
//! any more; and it is never begun a second time, whatever becomes of this runner or its server.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::wire::Once;
use domain::{InstanceId, InstanceState, Reason};

use crate::instance::{Instance, Run};
use crate::sandbox::{Exit, Sandbox};
use crate::seat::{id_of, unit_of};

/// Notes on disk that it is begun: who finds the note does not begin it.
pub fn claim(dir: &Path, id: InstanceId) -> io::Result<()> {
    File::create_new(path(dir, id))?.sync_all()?;
    File::open(dir)?.sync_all()
}

pub fn was_begun(dir: &Path, id: InstanceId) -> bool {
    path(dir, id).exists()
}

/// The coordinator knows how it ended, and names it no more.
pub fn forget(dir: &Path, id: InstanceId) {
    match fs::remove_file(path(dir, id)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(instance.id = %id, "could not forget that it ran: {e}");
        }
        _ => {}
    }
}

/// Forgets all that is not named.
pub fn sweep(dir: &Path, named: impl Fn(InstanceId) -> bool) {
    let Ok(files) = fs::read_dir(dir) else { return };
    for id in files.flatten().filter_map(|f| id_of(f.file_name().to_str()?)).filter(|id| !named(*id)) {
        forget(dir, id);
    }
}

fn path(dir: &Path, id: InstanceId) -> PathBuf {
    dir.join(unit_of(id))
}

/// How its one run ended.
enum End {
    Exit(Exit),
    Late,
    Stopped,
}

impl Instance {
    pub(crate) async fn live_once(mut self, once: Once, adopted: Option<Sandbox>, seen: Option<Exit>) {
        let name = self.kept.spec.process.clone();
        let limit = Duration::from_millis(once.time_ms);
        let sandbox = match (adopted, seen) {
            (Some(sandbox), _) => sandbox,
            (None, Some(exit)) => return self.end_once(End::Exit(exit), limit).await,
            (None, None) if was_begun(&self.server.once, self.kept.spec.id) => {
                let why = format!("the server was lost while `{name}` ran: nobody knows how far it came");
                let hint = "look at what it has changed, then deploy again; it is not run twice by itself";
                return self.end(InstanceState::Failed, Some(Reason::new(why).hint(hint))).await;
            }
            (None, None) if self.is_stopping() => return self.end(InstanceState::Stopped, None).await,
            (None, None) => match self.turn().await {
                Ok(Run::Begun(sandbox)) => sandbox,
                Ok(Run::Left) => return,
                Ok(_) => return self.end(InstanceState::Stopped, None).await,
                Err(_) if self.stop.is_cancelled() => return,
                Err(e) => {
                    let reason = self.cannot_start(&e);
                    return self.end(InstanceState::Failed, Some(reason)).await;
                }
            },
        };
        let left = limit.saturating_sub(ran_for(&self.server.once, self.kept.spec.id));
        let wait = sandbox.wait();
        tokio::pin!(wait);
        let end = tokio::select! {
            exit = &mut wait => End::Exit(exit),
            // The sandbox goes on; the next runner takes it over.
            () = self.stop.cancelled() => return,
            () = self.stopping() => {
                sandbox.stop();
                wait.await;
                End::Stopped
            }
            () = tokio::time::sleep(left) => {
                sandbox.stop();
                wait.await;
                End::Late
            }
        };
        self.end_once(end, limit).await;
    }

    async fn end_once(self, end: End, limit: Duration) {
        let name = self.kept.spec.process.clone();
        let (state, reason) = match end {
            End::Stopped => (InstanceState::Stopped, None),
            End::Exit(Exit { code: Some(0), .. }) => (InstanceState::Done, None),
            End::Exit(exit) => {
                let Reason { message, hint } = self.explain(&exit);
                // It has no number: there is one.
                let message = message.replacen(&format!("{name}.{}", self.kept.spec.index), &format!("`{name}`"), 1);
                (InstanceState::Failed, Some(Reason { message, hint }))
            }
            End::Late => {
                let why = format!("`{name}` did not end within {} s", limit.as_secs());
                let hint = format!("make it shorter, or raise `{name}.timeout` in berth.toml");
                (InstanceState::Failed, Some(Reason::new(why).hint(hint)))
            }
        };
        self.clear().await;
        self.end(state, reason).await;
    }
}

/// Since it was begun, also under an earlier runner.
fn ran_for(dir: &Path, id: InstanceId) -> Duration {
    let begun = fs::metadata(path(dir, id)).and_then(|m| m.modified());
    begun.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_given_once_and_goes_when_nobody_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let id = InstanceId(7);
        claim(dir.path(), id).unwrap();
        assert!(claim(dir.path(), id).is_err());
        sweep(dir.path(), |named| named == id);
        assert!(was_begun(dir.path(), id));
        sweep(dir.path(), |_| false);
        assert!(!was_begun(dir.path(), id));
    }
}
