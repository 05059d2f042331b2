//! Room on the disk of this server's data: told to the coordinator, and made by taking what can be fetched or
//! built again. `plan::collect` decides.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use domain::wire::{AppDisk, DiskReport, Space};
use domain::{AppId, ImageHash};
use nix::sys::statvfs::statvfs;
use plan::Room;
use plan::collect::CACHE_IDLE_MAX;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::build::Builder;
use crate::git::Git;
use crate::instance::Server;

/// What is being built writes some 100 MiB in this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const MEASURE_EVERY: Duration = Duration::from_secs(10);
const COLLECT_EVERY: Duration = Duration::from_secs(600);
/// Of the disk, for what is kept here only because it may be wanted once more.
const IMAGES_SHARE: u64 = 10;
const CACHES_SHARE: u64 = 5;

/// The disk that a directory lies on.
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    /// `None`: by its size.
    reserve_bytes: Option<u64>,
}

impl Disk {
    pub fn new(dir: &Path, reserve_bytes: Option<u64>) -> Self {
        Self { dir: dir.to_owned(), reserve_bytes }
    }

    pub fn space(&self) -> io::Result<Space> {
        let found = statvfs(&self.dir)?;
        let block = found.fragment_size();
        let bytes = found.blocks().saturating_mul(block);
        let reserve_bytes = self.reserve_bytes.unwrap_or_else(|| plan::reserve(bytes));
        Ok(Space { bytes, free_bytes: found.blocks_available().saturating_mul(block), reserve_bytes })
    }

    /// Why nothing more should be written here, if that is so.
    pub fn refuses(&self) -> Option<String> {
        plan::refuses(&self.space().ok()?)
    }
}

/// What the coordinator said of what is needed here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Needed {
    pub images: Vec<ImageHash>,
    /// Nothing of these is wanted any more.
    pub apps_gone: Vec<AppId>,
}

pub struct Keeper {
    pub disk: Disk,
    pub server: Arc<Server>,
    pub builder: Builder,
    pub git: Git,
    /// `None`: it said nothing yet, and nothing is taken.
    pub needed: watch::Receiver<Option<Needed>>,
    pub told: watch::Sender<DiskReport>,
}

impl Keeper {
    /// Until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut collected, mut measured): (Option<Instant>, Option<Instant>) = (None, None);
        let mut room = Room::Plenty;
        while !stop.is_cancelled() {
            let due = |last: Option<Instant>, every| last.is_none_or(|last| last.elapsed() >= every);
            match self.disk.space() {
                Ok(space) => {
                    let now = plan::room(&space);
                    let worse = now > room;
                    // Half of what must stay free is gone: what is being built is ended before the rest is.
                    self.builder.disk_is_full(space.free_bytes < space.reserve_bytes / 2);
                    if now != room || due(measured, MEASURE_EVERY) {
                        measured = Some(Instant::now());
                        let apps = self.measure();
                        self.told.send_replace(DiskReport { space, apps });
                    }
                    if now != room {
                        let (free, reserve) = (space.free_bytes >> 20, space.reserve_bytes >> 20);
                        tracing::warn!("{free} MiB of disk are free, {reserve} MiB must stay free: room is {now:?}");
                        self.server.changed.notify_one();
                        room = now;
                    }
                    let news = self.needed.has_changed().unwrap_or(false);
                    let every = if room == Room::Plenty { COLLECT_EVERY } else { COLLECT_EVERY / 10 };
                    if (worse || news || due(collected, every)) && self.collect(&space, room).await {
                        collected = Some(Instant::now());
                    }
                }
                Err(e) => tracing::error!("could not see how full the disk is: {e}"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    fn measure(&self) -> Vec<AppDisk> {
        let mut apps: BTreeMap<AppId, AppDisk> = BTreeMap::new();
        let entry = |app: AppId| AppDisk { app, cache_bytes: 0, has_repository: false };
        for (app, bytes) in self.builder.caches_of_apps() {
            apps.entry(app).or_insert_with(|| entry(app)).cache_bytes += bytes;
        }
        for app in self.git.repositories() {
            apps.entry(app).or_insert_with(|| entry(app)).has_repository = true;
        }
        apps.into_values().collect()
    }

    /// False: it is not known yet what is needed.
    async fn collect(&mut self, space: &Space, room: Room) -> bool {
        let Some(needed) = self.needed.borrow_and_update().clone() else { return false };
        let now = SystemTime::now();
        if let Err(e) = self.server.images.collect(&needed.images, space.bytes / IMAGES_SHARE, room, now).await {
            tracing::error!("could not collect images: {e}");
        }
        let budget = space.bytes / CACHES_SHARE;
        if let Err(e) = self.builder.collect_caches(&needed.apps_gone, budget, CACHE_IDLE_MAX, room, now) {
            tracing::error!("could not collect build caches: {e}");
        }
        for app in &needed.apps_gone {
            if let Err(e) = self.git.remove(*app).await {
                tracing::error!(app.id = %app, "could not remove the repository of an app that is gone: {e}");
            }
        }
        true
    }
}
