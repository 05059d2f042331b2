//! Leading: take the lease, then look, plan, apply, publish, until it is lost.

use std::sync::Arc;
use std::time::Duration;

use domain::ServerId;
use store::{StoreError, leader, truth};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Configs;
use crate::publish::{Published, Publisher};
use crate::truth::Truth;
use crate::{Shared, apply, clock, snapshot};

const LEASE: Duration = Duration::from_secs(10);
/// Before the database's end of the lease, its holder has stopped: clocks run at slightly different rates.
const MARGIN: Duration = Duration::from_millis(500);
const RENEW_EVERY: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// What depends on time only (drains, silent servers) is seen this late at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TAKE_AGAIN_AFTER: Duration = Duration::from_millis(500);

struct Lease {
    epoch: i64,
    until: Duration,
    renew_at: Duration,
}

impl Lease {
    /// Counted from when it was asked for.
    fn new(epoch: i64, asked: Duration) -> Self {
        Self { epoch, until: asked + LEASE - MARGIN, renew_at: asked + RENEW_EVERY }
    }

    fn left(&self) -> Duration {
        self.until.saturating_sub(clock::boottime())
    }
}

pub async fn run(shared: &Shared, stop: &CancellationToken) {
    let lease_ms = i32::try_from(LEASE.as_millis()).unwrap_or(i32::MAX);
    let mut away = false;
    while !stop.is_cancelled() {
        let asked = clock::boottime();
        let taken = timeout(CALL_TIMEOUT, leader::take(shared.db.pool(), &shared.config.server_name, lease_ms)).await;
        match taken {
            Ok(Ok(Some(epoch))) => {
                away = false;
                info!(epoch, "leading");
                lead(shared, Lease::new(epoch, asked), stop).await;
                shared.published.send_replace(Arc::new(Published::nothing()));
                if stop.is_cancelled() {
                    let _ = timeout(CALL_TIMEOUT, leader::give_back(shared.db.pool(), epoch)).await;
                    return;
                }
                info!(epoch, "not leading any more");
            }
            Ok(Ok(None)) => debug!("another leads"),
            Ok(Err(cause)) => {
                if !away {
                    warn!(error = %chain(&cause), "cannot lead; trying again");
                }
                away = true;
            }
            Err(_) => away = true,
        }
        tokio::select! {
            () = sleep(TAKE_AGAIN_AFTER) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Until the lease is lost, or `stop`.
async fn lead(shared: &Shared, mut lease: Lease, stop: &CancellationToken) {
    let lease_ms = i32::try_from(LEASE.as_millis()).unwrap_or(i32::MAX);
    shared.known().begin(clock::boottime());
    *shared.truth() = Truth::default();
    let mut publisher = Publisher::new(lease.epoch);
    let mut configs = Configs::default();
    let mut server = None;
    let mut failing = false;
    while !stop.is_cancelled() && !lease.left().is_zero() {
        let asked = clock::boottime();
        if asked >= lease.renew_at {
            match timeout(
                CALL_TIMEOUT.min(lease.left()),
                leader::renew(shared.db.pool(), lease.epoch, publisher.written(), lease_ms),
            )
            .await
            {
                Ok(Ok(true)) => lease = Lease::new(lease.epoch, asked),
                Ok(Ok(false)) => return,
                // Away: what runs goes on; the lease runs out by itself.
                Ok(Err(_)) | Err(_) => lease.renew_at = asked + RENEW_EVERY / 4,
            }
        }
        let looked = timeout(lease.left(), look(shared, &lease, &mut publisher, &mut configs, &mut server)).await;
        let pause = match looked {
            Ok(Ok(0)) => LOOK_EVERY,
            // What was done changes what there is to do.
            Ok(Ok(_)) => Duration::ZERO,
            Ok(Err(StoreError::NotLeading { .. })) | Err(_) => return,
            Ok(Err(cause)) => {
                if !failing {
                    warn!(error = %chain(&cause), "could not look or act; trying again");
                }
                failing = true;
                tokio::select! {
                    () = sleep(TAKE_AGAIN_AFTER) => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
        };
        failing = false;
        tokio::select! {
            () = sleep(pause.min(lease.renew_at.saturating_sub(clock::boottime()))) => {}
            () = shared.wake.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One look at everything: how many actions were applied.
async fn look(
    shared: &Shared,
    lease: &Lease,
    publisher: &mut Publisher,
    configs: &mut Configs,
    server: &mut Option<ServerId>,
) -> Result<usize, StoreError> {
    let config = &shared.config;
    let server = match *server {
        Some(known) => known,
        None => *server.insert(store::server::named(shared.db.pool(), &config.server_name).await?),
    };
    let is_ahead = is_ahead(shared, lease).await?;
    let rows = snapshot::read(&shared.db).await?;
    // Until the operator has looked.
    if is_ahead || rows.truth.is_older {
        publish(shared, Published::nothing_in(lease.epoch, server, lease.until));
        return Ok(0);
    }
    configs.look(&shared.db, &config.seal_key, &rows.configs()).await?;
    let mut snapshot = {
        let known = shared.known();
        snapshot::fleet(rows, &known, configs, clock::boottime(), config.subnet, config.apps_uid_base)
    };
    let (fleet, incarnation) = (&mut snapshot.fleet, snapshot.incarnation);
    if let Some((seen, instances)) = publisher.routes(incarnation, plan::route(fleet)) {
        // Before anybody can have taken it in; and what is decided now has to know of it.
        let mut known = shared.known();
        known.published(seen, instances);
        fleet.instances.iter_mut().for_each(|i| i.held = known.held(i.id, clock::boottime()));
    }
    let fleet = &*fleet;
    publisher.assignments(incarnation, fleet);
    if let Some(counter) = publisher.unwritten() {
        truth::hand_out(shared.db.pool(), lease.epoch, counter).await?;
        publisher.wrote(counter);
        shared.truth().handed_out(counter);
    }
    publish(shared, publisher.published(server, lease.until));
    let actions = plan::plan(fleet, snapshot.now);
    if actions.is_empty() {
        return Ok(0);
    }
    apply::apply(&shared.db, lease.epoch, fleet, &actions).await
}

/// Somebody holds what PostgreSQL does not know: it came back older. That is written down.
async fn is_ahead(shared: &Shared, lease: &Lease) -> Result<bool, StoreError> {
    if !shared.truth().is_begun(lease.epoch) {
        let mut tx = shared.db.begin().await?;
        let incarnation = truth::which(&mut **tx).await?.incarnation;
        let handed_out = truth::handed_out(&mut tx).await?;
        tx.commit().await?;
        *shared.truth() = Truth::new(incarnation, lease.epoch, handed_out);
    }
    let ahead = shared.truth().ahead().cloned();
    if let Some(ahead) = &ahead {
        truth::note_older(shared.db.pool(), ahead).await?;
    }
    Ok(ahead.is_some())
}

/// Wakes those who wait only for what is new to them.
fn publish(shared: &Shared, new: Published) {
    shared.published.send_if_modified(|old| {
        let same = |a: &Option<Arc<domain::wire::Routes>>, b: &Option<Arc<domain::wire::Routes>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        let same_assignments = old.assignments.len() == new.assignments.len()
            && old.assignments.iter().all(|(id, a)| new.assignments.get(id).is_some_and(|b| Arc::ptr_eq(a, b)));
        let news = !same(&old.routes, &new.routes) || !same_assignments;
        *old = Arc::new(new);
        news
    });
}

/// Hears of every change in PostgreSQL. After a gap it looks, since what was sent meanwhile is lost.
pub async fn listen(shared: &Shared, stop: &CancellationToken) {
    let hear = async {
        loop {
            if let Ok(mut listener) = shared.db.listen().await {
                shared.wake.notify_one();
                while listener.changed().await.is_ok() {
                    shared.wake.notify_one();
                }
            }
            sleep(TAKE_AGAIN_AFTER).await;
        }
    };
    tokio::select! {
        () = hear => {}
        () = stop.cancelled() => {}
    }
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
