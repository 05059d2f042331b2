//! What can go wrong, told apart where a person or a caller does something else about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("could not open the object store in {dir}")]
    Open {
        dir: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{object} is not in the object store")]
    Missing { object: String },
    #[error("{doing} {object}: the disk of the object store is full")]
    DiskFull {
        doing: &'static str,
        object: String,
        #[source]
        cause: object_store::Error,
    },
    #[error(
        "the disk of the object store has {} MiB free, and {} MiB must stay free: nothing more is stored in {kind}",
        free_bytes >> 20,
        reserve_bytes >> 20
    )]
    Short { kind: &'static str, free_bytes: u64, reserve_bytes: u64 },
    #[error("what was to be stored in {kind} is larger than {bytes_max} bytes")]
    TooBig { kind: &'static str, bytes_max: u64 },
    #[error("what was to be stored in {kind} as {expected} is {found}")]
    WrongHash { kind: &'static str, expected: String, found: String },
    #[error("what was to be stored in {kind} broke off after {bytes} bytes")]
    Source {
        kind: &'static str,
        bytes: u64,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("what was to be stored in {kind} stood still for {after:?} after {bytes} bytes")]
    Stalled { kind: &'static str, after: Duration, bytes: u64 },
    #[error("{doing} {object} took longer than {after:?}")]
    Timeout { doing: &'static str, object: String, after: Duration },
    #[error("{doing} {object} in the object store failed")]
    Store {
        doing: &'static str,
        object: String,
        #[source]
        cause: object_store::Error,
    },
}

impl ObjectsError {
    pub(crate) fn of(doing: &'static str, object: String, cause: object_store::Error) -> Self {
        match cause {
            object_store::Error::NotFound { .. } => Self::Missing { object },
            cause if is_disk_full(&cause) => Self::DiskFull { doing, object, cause },
            cause => Self::Store { doing, object, cause },
        }
    }

    /// What the reader can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DiskFull { .. } | Self::Short { .. } => {
                Some("free space in the data directory, or move it to a larger disk; then try again")
            }
            Self::TooBig { .. } => Some("leave out what the app does not need to run"),
            Self::Stalled { .. } | Self::Timeout { .. } => Some("try again; if it stays so, look at the server's disk"),
            _ => None,
        }
    }
}

fn is_disk_full(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        }
        cause = error.source();
    }
    false
}
