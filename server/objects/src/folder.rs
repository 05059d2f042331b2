//! The backend "a folder".

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use object_store::local::LocalFileSystem;

use crate::ObjectsError;

/// Older than any write may take: what another process is writing now is left alone.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Writes are brought to the disk with their folder entries: an object that was acknowledged is
/// there after a power cut.
pub(crate) fn open(dir: &Path) -> Result<LocalFileSystem, ObjectsError> {
    let failed = |cause| ObjectsError::Open { dir: dir.to_owned(), cause: io::Error::other(cause) };
    Ok(LocalFileSystem::new_with_prefix(dir).map_err(failed)?.with_fsync(true))
}

pub(crate) async fn sweep(dir: &Path, kinds: &'static [&'static str]) {
    let root = dir.to_owned();
    let swept = tokio::task::spawn_blocking(move || {
        for kind in kinds {
            sweep_one(&root.join(kind).join("incoming"), SystemTime::now());
        }
    });
    if let Err(cause) = swept.await {
        tracing::warn!(error = %cause, "looking for left-overs broke off");
    }
}

/// Removes left-overs. Never in the way of a start: the folder of a kind that this process only
/// reads cannot be swept by it, and need not be there.
fn sweep_one(incoming: &Path, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(incoming) else { return };
    for entry in entries.flatten() {
        let age =
            entry.metadata().and_then(|meta| meta.modified()).map(|at| now.duration_since(at).unwrap_or_default());
        if age.is_ok_and(|age| age > LEFT_OVER_AFTER) {
            match std::fs::remove_file(entry.path()) {
                Ok(()) => tracing::info!(path = %entry.path().display(), "removed what was left of a write cut off"),
                Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {}
                Err(cause) => {
                    tracing::warn!(path = %entry.path().display(), error = %cause, "could not remove a left-over")
                }
            }
        }
    }
}
