//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

/// Why the logs process ended.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    #[error("could not open the logs' directory {dir}")]
    Open {
        dir: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the logs' API ended")]
    Serve(#[source] link::ServeError),
    #[error("a task of the logs process ended unasked")]
    Task(#[source] Option<tokio::task::JoinError>),
}

/// What could not be done to which file.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path} failed")]
pub(crate) struct StoreError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

impl StoreError {
    pub(crate) fn new(doing: &'static str, path: &Path, cause: io::Error) -> Self {
        Self { doing, path: path.to_owned(), cause }
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
