//! Takes off disk what nobody can ask for any more: what of the past is kept, the images of the rest, and the logs
//! of deleted apps. `plan::collect` decides; whoever leads does it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::wire::LogSizes;
use domain::{AppId, DiskKind, ImageHash};
use link::{Client, LinkError};
use objects::{Listed, ObjectsError};
use plan::Room;
use plan::collect::{self, GRACE, Gone, Named, Object, Past, UNNAMED_GRACE};
use store::{StoreError, app, disk, leader};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{Shared, clock, lead};

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// All objects are listed this often, and at once when something was forgotten or the disk is tight.
const LIST_EVERY: Duration = Duration::from_secs(600);
const LIST_EVERY_TIGHT: Duration = Duration::from_secs(60);
/// Runners and balancers speak every five seconds.
const SETTLE: Duration = Duration::from_secs(15);
const MEASURE_EVERY: Duration = Duration::from_secs(20);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error("the database did not answer")]
    Store(#[from] StoreError),
    #[error("the database did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the object store did not answer")]
    Objects(#[from] ObjectsError),
    #[error("the logs of a deleted app could not be deleted")]
    Logs(#[from] LinkError),
}

/// Until `stop`.
pub async fn run(shared: &Shared, stop: &CancellationToken) {
    let (mut list_at, mut measure_at) = (Duration::ZERO, Duration::ZERO);
    let logs = Client::new(&shared.config.logs.0, shared.config.logs.1.clone());
    let (mut epoch_checked, mut began) = (0, (0, Duration::ZERO));
    let mut failing = false;
    loop {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let Some(epoch) = shared.deciding() else { continue };
        let now = clock::boottime();
        if began.0 != epoch {
            began = (epoch, now);
        }
        let mut done = Ok(());
        // What runs has the time to say that it is ahead of the database.
        if now.saturating_sub(began.1) >= SETTLE {
            done = look(shared, epoch, &mut epoch_checked, &mut list_at).await;
            let now = clock::boottime();
            if done.is_ok() && now >= measure_at {
                done = measure(shared, &logs).await;
                measure_at = now + MEASURE_EVERY.max((clock::boottime() - now) * 20);
            }
        }
        match done.and(forget_logs(shared, &logs).await) {
            Ok(()) => failing = false,
            // The leader's loop says so.
            Err(
                CollectError::Store(StoreError::Away { .. } | StoreError::NotLeading { .. }) | CollectError::Late(_),
            ) => {}
            Err(cause) => {
                if !failing {
                    warn!(error = %lead::chain(&cause), "could not collect; trying again");
                }
                failing = true;
            }
        }
    }
}

async fn look(
    shared: &Shared,
    epoch: i64,
    epoch_checked: &mut i64,
    list_at: &mut Duration,
) -> Result<(), CollectError> {
    let room = plan::room(&shared.objects.space().await?);
    let keep = collect::releases_kept(shared.config.releases_kept, room);
    let mut forgot = forget_past(shared, epoch, keep).await?;
    timeout(CALL_TIMEOUT, disk::all::note_truth(shared.db.pool())).await??;
    let Some(truth) = timeout(CALL_TIMEOUT, disk::truth(shared.db.pool())).await?? else { return Ok(()) };
    // A truth that came back older believes to have what was deleted since.
    if *epoch_checked != epoch && truth.incarnation > 1 {
        forgot |= forget_lost(shared, epoch).await?;
    }
    *epoch_checked = epoch;
    let truth_age = truth.now.since(truth.since);
    let disks = shared.known().disks();
    for (server, held) in disks {
        let ids: Vec<i64> = held.iter().map(|h| h.app.0).collect();
        let gone = disk::all::gone(shared.db.pool(), &ids, truth_age >= UNNAMED_GRACE);
        let gone = timeout(CALL_TIMEOUT, gone).await??;
        if shared.known().set_apps_gone(server, gone) {
            shared.wake.notify_one();
        }
    }
    let now = clock::boottime();
    if forgot || now >= *list_at {
        images(shared, epoch, truth_age).await?;
        shared.objects.sweep().await;
        *list_at = now + if room == Room::Plenty { LIST_EVERY } else { LIST_EVERY_TIGHT };
    }
    Ok(())
}

/// Of deleted apps, when no instance of theirs can say more: deleted is deleted in every later truth.
async fn forget_logs(shared: &Shared, logs: &Client) -> Result<(), CollectError> {
    let db = shared.db.pool();
    for app in timeout(CALL_TIMEOUT, app::all::with_logs_to_delete(db)).await?? {
        logs.delete(&format!("/v1/app/{app}"), CALL_TIMEOUT).await?;
        timeout(CALL_TIMEOUT, app::all::logs_deleted(db, app)).await??;
        info!(app.id = app.0, "deleted the logs of a deleted app");
    }
    Ok(())
}

/// Whether there was anything to forget.
async fn forget_past(shared: &Shared, epoch: i64, keep: usize) -> Result<bool, CollectError> {
    let keep_most = i64::try_from(keep).unwrap_or(i64::MAX - 1);
    let apps = timeout(CALL_TIMEOUT, disk::all::with_much_past(shared.db.pool(), keep_most)).await??;
    let mut forgot = false;
    for app in apps {
        forgot |= timeout(CALL_TIMEOUT, forget_of(shared, epoch, app, keep, |_| true)).await??;
    }
    Ok(forgot)
}

/// Deploys whose image (or, where there is none, source) is not in the object store.
async fn forget_lost(shared: &Shared, epoch: i64) -> Result<bool, CollectError> {
    let images: BTreeSet<ImageHash> = shared.objects.list().await?.into_iter().map(|o| o.hash).collect();
    let sources: BTreeSet<domain::SourceHash> = shared.objects.list().await?.into_iter().map(|o| o.hash).collect();
    let is_whole = |past: &disk::all::Past| match &past.image {
        Some(image) => images.contains(image),
        None => sources.contains(&past.source),
    };
    let mut tx = shared.db.snapshot().await?;
    let all = timeout(CALL_TIMEOUT, disk::all::past(&mut tx, None)).await??;
    drop(tx);
    let lost: BTreeSet<AppId> = all.iter().filter(|p| !p.runs && !is_whole(p)).map(|p| p.app_id).collect();
    let mut forgot = false;
    for app in lost {
        forgot |= timeout(CALL_TIMEOUT, forget_of(shared, epoch, app, usize::MAX, is_whole)).await??;
    }
    Ok(forgot)
}

/// In one transaction that holds the app: nobody asks for what is being forgotten.
async fn forget_of(
    shared: &Shared,
    epoch: i64,
    app: AppId,
    keep: usize,
    is_whole: impl Fn(&disk::all::Past) -> bool,
) -> Result<bool, StoreError> {
    let mut tx = shared.db.begin().await?;
    leader::check(&mut tx, epoch).await?;
    let deleted = disk::all::hold(&mut tx, app).await?;
    let rows = disk::all::past(&mut tx, Some(app)).await?;
    let past =
        |row: &disk::all::Past| Past { number: row.number, state: row.state, runs: row.runs, is_whole: is_whole(row) };
    let gone = collect::past(deleted, &rows.iter().map(past).collect::<Vec<_>>(), keep);
    if gone.is_empty() {
        return Ok(false);
    }
    let mut by_reason: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for Gone { what, reason } in &gone {
        by_reason.entry(reason).or_default().push(*what);
    }
    for (reason, mut numbers) in by_reason {
        numbers.sort_unstable();
        let words = numbers.iter().map(|n| format!("v{n}")).collect::<Vec<_>>().join(", ");
        leader::decided(&mut tx, epoch, Some(app), &format!("keep {words} no longer"), reason).await?;
        info!(app.id = app.0, "{words} of app {app} are not kept any more: {reason}");
    }
    disk::all::forget(&mut tx, app, &gone.iter().map(|g| g.what).collect::<Vec<_>>()).await?;
    tx.commit().await?;
    Ok(true)
}

/// What each app has on disk of what is stored here, or said by others to be there.
async fn measure(shared: &Shared, logs: &Client) -> Result<(), CollectError> {
    let db = shared.db.pool();
    timeout(CALL_TIMEOUT, disk::all::measure_images(db)).await??;
    let mut caches: BTreeMap<AppId, u64> = BTreeMap::new();
    for held in shared.known().disks().into_iter().flat_map(|(_, held)| held) {
        *caches.entry(held.app).or_default() += held.cache_bytes;
    }
    measured(shared, DiskKind::Cache, caches).await?;
    // Logs may be away: what was known of them stays.
    if let Ok(Some(sizes)) = logs.post::<LogSizes>("/v1/sizes", &(), CALL_TIMEOUT).await {
        measured(shared, DiskKind::Log, sizes.apps).await?;
    }
    timeout(CALL_TIMEOUT, disk::all::forget_usage(db)).await??;
    Ok(())
}

async fn measured(shared: &Shared, kind: DiskKind, sizes: BTreeMap<AppId, u64>) -> Result<(), CollectError> {
    let (apps, bytes): (Vec<i64>, Vec<i64>) =
        sizes.into_iter().map(|(app, bytes)| (app.0, i64::try_from(bytes).unwrap_or(i64::MAX))).unzip();
    timeout(CALL_TIMEOUT, disk::all::measure(shared.db.pool(), kind, &apps, &bytes)).await??;
    Ok(())
}

async fn images(shared: &Shared, epoch: i64, truth_age: Duration) -> Result<(), CollectError> {
    let listed: Vec<Listed<ImageHash>> = shared.objects.list().await?;
    let hashes: Vec<String> = listed.iter().map(|o| o.hash.to_string()).collect();
    let named = timeout(CALL_TIMEOUT, disk::all::images(shared.db.pool(), &hashes)).await??;
    let named = named.into_iter().map(|n| (n.hash, if n.kept { Named::Kept } else { Named::Forgotten })).collect();
    let listed: Vec<_> = listed.into_iter().map(|o| Object { hash: o.hash, bytes: o.bytes, age: o.age }).collect();
    for Gone { what, reason } in collect::objects(&listed, &named, truth_age) {
        // A leader of before could delete what its successor has just named.
        if shared.deciding().is_none_or(|now| now != epoch) {
            return Ok(());
        }
        if shared.objects.delete_older(&what, GRACE).await? {
            info!(image = %what, "deleted an image: {reason}");
        }
    }
    Ok(())
}
