//! What is known of an instance beside its own task: in its seat by all of this runner, on disk by the next one.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use domain::wire::{InstanceReport, InstanceSpec, LastRead, LogStream};
use domain::{InstanceId, InstanceState, Life, Reason, Wanted};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::lines::Meta;
use crate::sandbox::{Slice, write_secret};

/// What the next runner must know of an instance. On tmpfs, root 0600, with the environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    pub spec: InstanceSpec,
    pub restarts: u32,
    pub was_healthy: bool,
    /// Counters that began with it are another life's than those of the same instance before.
    #[serde(default)]
    pub generation: Option<i64>,
}

impl Kept {
    fn path(slice: &Slice, id: InstanceId) -> PathBuf {
        slice.instances_dir().join(id.to_string())
    }

    pub fn write(&self, slice: &Slice) -> io::Result<()> {
        write_secret(&Self::path(slice, self.spec.id), &serde_json::to_string(self).map_err(io::Error::other)?)
    }

    pub fn forget(&self, slice: &Slice) -> io::Result<()> {
        match std::fs::remove_file(Self::path(slice, self.spec.id)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Of every instance that a former runner had begun and not ended.
    pub fn all(slice: &Slice) -> io::Result<Vec<Self>> {
        let files = std::fs::read_dir(slice.instances_dir())?;
        Ok(files.flatten().filter_map(|f| serde_json::from_slice(&std::fs::read(f.path()).ok()?).ok()).collect())
    }

    pub fn of(slice: &Slice, id: InstanceId) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(slice, id)).ok()?).ok()
    }
}

/// Where an instance's lines belong.
pub fn lines_of(spec: &InstanceSpec) -> Meta {
    let origin = format!("instance/{}", spec.id);
    match spec.once {
        // It is a part of the deploy that made the release.
        Some(_) => {
            Meta { stream: LogStream::Deploy(spec.app, spec.release.0), origin, source: spec.process.to_string() }
        }
        None => Meta { stream: LogStream::App(spec.app), origin, source: format!("{}.{}", spec.process, spec.index) },
    }
}

pub fn unit_of(id: InstanceId) -> String {
    format!("i{id}")
}

/// The instance whose unit this is.
pub fn id_of(unit: &str) -> Option<InstanceId> {
    unit.strip_prefix('i')?.parse().ok()
}

/// What others see of an instance.
pub struct Seat {
    pub spec: InstanceSpec,
    pub life: Life,
    pub wanted: watch::Sender<Wanted>,
    /// Before, what counters there are of the instance are another life's.
    begun: AtomicBool,
    report: Mutex<InstanceReport>,
}

impl Seat {
    pub fn new(spec: InstanceSpec, life: Life, kept: &Kept, begun: bool) -> Self {
        let report = InstanceReport {
            id: spec.id,
            // An adopted one serves as before until a check says otherwise.
            state: if kept.was_healthy { InstanceState::Healthy } else { InstanceState::Starting },
            reason: None,
            restarts: kept.restarts,
            again_ms: 0,
            last: None,
        };
        let wanted = watch::Sender::new(spec.wanted);
        Self { spec, life, wanted, begun: begun.into(), report: Mutex::new(report) }
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Relaxed)
    }

    pub fn begin(&self) {
        self.begun.store(true, Relaxed);
    }

    /// What the next report says of it; whether that is news.
    pub fn tell(&self, state: InstanceState, reason: Option<Reason>, restarts: u32, again_ms: u64) -> bool {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let new = InstanceReport { id: self.spec.id, state, reason, restarts, again_ms, last: report.last.clone() };
        let is_news = *report != new;
        *report = new;
        is_news
    }

    /// What its counters said at its end.
    pub fn ended(&self, last: Option<LastRead>) {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).last = last;
    }

    pub fn report(&self) -> InstanceReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
