//! What was written and is not known to be on the disk.
//!
//! A line is acknowledged when it is written, not when it is synced: it is then the kernel's, and
//! survives every end of this process. A power cut may take the last seconds of lines. That is a
//! choice: a sync before each answer would make the slowest disk the speed of all apps' output (a
//! sync is milliseconds, a busy server has hundreds of batches a second), and log lines are no
//! money. So a background task syncs what was written every five seconds.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(crate) const SYNC_EVERY: Duration = Duration::from_secs(5);

/// From so many files on, one sync of the whole file system is cheaper than one a file.
const FILES_MAX: usize = 64;

/// Files written since the last flush, and whether their folder has to be synced too.
pub(crate) struct Dirty {
    root: PathBuf,
    files: Mutex<HashMap<PathBuf, bool>>,
}

impl Dirty {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), files: Mutex::default() }
    }

    pub(crate) fn written(&self, path: PathBuf) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).entry(path).or_insert(false);
    }

    pub(crate) fn created(&self, path: PathBuf) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(path, true);
    }

    /// Blocks until all that was written is on the disk. A failure is told and not retried: what
    /// the kernel could not write it has already dropped.
    pub(crate) fn flush(&self) {
        let files = std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner));
        if files.len() > FILES_MAX {
            let synced = File::open(&self.root).and_then(|root| nix::unistd::syncfs(root).map_err(io::Error::from));
            if let Err(cause) = synced {
                tracing::error!(error = %cause, "could not sync the file system of the logs");
            }
            return;
        }
        for (path, created) in files {
            let mut folders = path.ancestors().skip(1).take(if created { 3 } else { 0 });
            let synced = File::open(&path)
                .and_then(|file| file.sync_data())
                .and_then(|()| folders.try_for_each(|folder| File::open(folder)?.sync_all()));
            match synced {
                // Dropped by retention meanwhile.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => tracing::error!(path = %path.display(), error = %cause, "could not sync a log segment"),
                Ok(()) => {}
            }
        }
    }
}
