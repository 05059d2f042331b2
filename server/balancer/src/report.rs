//! Tells the coordinator which routes are in use, which instances that left still have requests
//! open, what was counted, and samples; hears what may be forgotten.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use domain::Time;
use domain::wire::{BalancerReport, Committed, OpenRequests};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Shared;
use crate::meters::{Formers, Meters, READINGS_MAX};
use crate::routes::{State, chain};
use crate::sample::Samples;

/// At least this often, so that a silent balancer is a dead one.
const EVERY: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(10);
/// The last report, after `stop`; what it does not bring is in the file.
const LAST: Duration = Duration::from_secs(2);

/// After `stop`: how long the last counts may take until they are in PostgreSQL, asked so often.
const COMMITTED: Duration = Duration::from_secs(5);
const COMMITTED_AGAIN: Duration = Duration::from_millis(50);

pub async fn report(
    shared: &Shared,
    client: &link::Client,
    state: &State,
    meters: &Arc<Mutex<Meters>>,
    formers: &mut Formers,
    samples: &Samples,
    done: &CancellationToken,
) {
    let mut failing = false;
    let mut end = None;
    loop {
        let begun = Instant::now();
        let last = done.is_cancelled();
        let mut body = body(shared, state, meters, formers).await;
        let until;
        (body.samples, until) = samples.next();
        let sent = client.post::<Committed>("/v1/counts", &body, if last { LAST } else { ANSWER }).await;
        match sent {
            Ok(committed) => {
                if failing {
                    info!("the coordinator takes reports again");
                }
                failing = false;
                state.reported(body.seen);
                let committed = committed.unwrap_or_default();
                if committed.samples_taken {
                    samples.taken(until);
                }
                lock(meters).committed(&committed);
                formers.committed(&committed);
            }
            Err(cause) => {
                if !failing {
                    warn!(cause = %chain(&cause), "the coordinator takes no report: counts are kept until it does");
                }
                failing = true;
            }
        }
        if last {
            // Whoever stops everything stops PostgreSQL next: what was counted should be in it by then.
            let owes = lock(meters).owes() || formers.owe();
            if failing || !owes || begun > *end.get_or_insert(begun + COMMITTED) {
                return;
            }
            sleep(COMMITTED_AGAIN).await;
            continue;
        }
        // A coordinator that is away is not asked faster because something changed.
        let soonest = begun + if failing { EVERY } else { Duration::from_millis(20) };
        tokio::select! {
            () = sleep_until(begun + EVERY) => {}
            () = async { shared.report.notified().await; sleep_until(soonest).await } => {}
            () = done.cancelled() => {}
        }
    }
}

fn lock(meters: &Mutex<Meters>) -> std::sync::MutexGuard<'_, Meters> {
    meters.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn body(shared: &Shared, state: &State, meters: &Arc<Mutex<Meters>>, formers: &mut Formers) -> BalancerReport {
    let seen = state.acknowledged();
    let open = state.leaving().iter().map(|i| OpenRequests { id: i.id, requests: i.open() }).collect();
    // After what is open: whatever has ended by then is counted.
    let now = Time::from(SystemTime::now());
    let (life, path, file, mut readings) = {
        let mut meters = lock(meters);
        (meters.life().clone(), meters.path().to_owned(), meters.file(), meters.readings(now))
    };
    let switches = shared.table.load().switches(&life);
    formers.look(&path);
    readings.extend(formers.readings(now, READINGS_MAX.saturating_sub(readings.len())));
    if !readings.is_empty() {
        // On disk before it is told to anybody, or a power cut would make the count run back.
        let mut files: Vec<_> = std::iter::once(file).chain(formers.files()).collect();
        let write = move || files.drain(..).try_for_each(|file| file?.sync_data());
        let written = tokio::task::spawn_blocking(write).await;
        if let Ok(Err(cause)) = written {
            warn!(%cause, "the counters could not be written out");
        }
    }
    BalancerReport { seen, open, readings, samples: vec![], switches, life: Some(life), gone: formers.lives() }
}
