//! Takes off disk the sources and bundles that nobody needs any more, and says how large the others are: this
//! process alone stores them.
//! `plan::collect` decides.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use commands::Naming;
use domain::{BundleHash, SourceHash};
use objects::{Kind, Listed, ObjectsError};
use plan::collect::{self, GRACE, Object};
use tokio::time::{Instant, sleep_until};

use crate::Door;
use crate::desk::{Desk, DeskError};

/// A change may be that something is forgotten: looked at this long after the look before, at the earliest.
const LOOK_AFTER: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error("the database did not say what is needed: {0}")]
    Desk(DeskError),
    #[error("the object store did not answer: {0}")]
    Objects(#[from] ObjectsError),
}

/// Until the receiver stops.
pub(crate) async fn run<D: Desk>(door: &Arc<Door<D>>) {
    let mut changes = door.desk.changes();
    let mut failing = false;
    loop {
        let began = Instant::now();
        changes.mark_unchanged();
        match look(door).await {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "could not collect; it is tried again");
                }
            }
        }
        // A look over very many takes its time; it is no more than a small part of it.
        let after = LOOK_AFTER.max(began.elapsed() * 20);
        tokio::select! {
            () = door.stop.cancelled() => return,
            () = sleep_until(began + after) => {}
        }
        tokio::select! {
            () = door.stop.cancelled() => return,
            () = sleep_until(began + LOOK_EVERY.max(after)) => {}
            changed = changes.changed() => if changed.is_err() { door.stop.cancelled().await; return },
        }
    }
}

async fn look<D: Desk>(door: &Door<D>) -> Result<(), CollectError> {
    let listed = door.objects.list::<SourceHash>().await?;
    door.desk.sources_measured(&sizes(&listed)).await.map_err(CollectError::Desk)?;
    let naming = door.desk.sources_named(&hashes(&listed)).await.map_err(CollectError::Desk)?;
    delete(door, listed, naming).await?;
    let listed = door.objects.list::<BundleHash>().await?;
    door.desk.bundles_measured(&sizes(&listed)).await.map_err(CollectError::Desk)?;
    let naming = door.desk.bundles_named(&hashes(&listed)).await.map_err(CollectError::Desk)?;
    delete(door, listed, naming).await?;
    door.objects.sweep().await;
    Ok(())
}

fn hashes<H: Display>(listed: &[Listed<H>]) -> Vec<String> {
    listed.iter().map(|object| object.hash.to_string()).collect()
}

fn sizes<H: Display>(listed: &[Listed<H>]) -> Vec<(String, u64)> {
    listed.iter().map(|object| (object.hash.to_string(), object.bytes)).collect()
}

async fn delete<D: Desk, H: Kind + Ord>(
    door: &Door<D>,
    listed: Vec<Listed<H>>,
    naming: Naming<H>,
) -> Result<(), CollectError> {
    let listed: Vec<_> = listed.into_iter().map(|o| Object { hash: o.hash, bytes: o.bytes, age: o.age }).collect();
    for gone in collect::objects(&listed, &naming.named, naming.truth_age) {
        if door.objects.delete_older(&gone.what, GRACE).await? {
            tracing::info!(object = %gone.what, "deleted one of {}: {}", H::NAME, gone.reason);
        }
    }
    Ok(())
}
