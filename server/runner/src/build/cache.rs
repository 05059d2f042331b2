//! Build caches as files: who uses one now, which go.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use domain::AppId;
use plan::Room;
use plan::collect::{self, File, Gone, Use};

/// The caches that builds have open.
#[derive(Debug, Clone, Default)]
pub(super) struct Open(Arc<Mutex<HashSet<PathBuf>>>);

/// Open until this is dropped.
pub(super) struct Held {
    open: Open,
    path: PathBuf,
}

impl Open {
    pub(super) fn hold(&self, path: &Path) -> Held {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned());
        Held { open: self.clone(), path: path.to_owned() }
    }

    /// Deletes caches of `dir` by rule. None that is open; nobody opens one meanwhile.
    pub(super) fn collect(
        &self,
        dir: &Path,
        apps_gone: &[AppId],
        budget: u64,
        idle_max: Duration,
        room: Room,
        now: SystemTime,
    ) -> io::Result<()> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = Vec::new();
        for (app, path, bytes) in all(dir)? {
            // Written when its last build closed it; without, that one was cut off and nobody trusts it.
            let closed = fs::metadata(path.with_extension("closed")).and_then(|mark| mark.modified());
            let use_ = match &closed {
                _ if open.contains(&path) => Use::Now,
                Err(_) => Use::Never,
                Ok(_) if apps_gone.contains(&app) => Use::Never,
                Ok(_) => Use::Perhaps,
            };
            let idle = closed.ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
            files.push(File { what: path, bytes, idle, use_ });
        }
        for Gone { what, reason } in collect::files(&files, budget, idle_max, room) {
            let _ = fs::remove_file(what.with_extension("closed"));
            fs::remove_file(&what)?;
            tracing::info!(cache = %what.display(), "deleted a build cache: {reason}");
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

/// The caches of a directory, each with its app and what it takes on disk.
pub(super) fn all(dir: &Path) -> io::Result<Vec<(AppId, PathBuf, u64)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let app = name.split_once('-').and_then(|(app, _)| app.parse().ok());
        if let Some(app) = app.filter(|_| path.extension().is_some_and(|e| e == "img")) {
            all.push((AppId(app), path.clone(), entry.metadata()?.blocks() * 512));
        }
    }
    Ok(all)
}
