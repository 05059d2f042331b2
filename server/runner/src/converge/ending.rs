//! The end of a whole server: its apps end, and their last readings are in PostgreSQL before anybody there
//! stops.
//!
//! What is told of the instances stays as it was: they are not stopped for good, and the next start of
//! this server finds in PostgreSQL that they should run.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::Time;
use domain::wire::Committed;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Converge;
use crate::instance::Server;
use crate::seat::{Seat, unit_of};

/// Above the stop timeout that an instance may have.
const APPS_END: Duration = Duration::from_secs(35);
const COMMITTED: Duration = Duration::from_secs(8);
const LINES_SENT: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);
const REPORT: Duration = Duration::from_secs(3);

impl Converge {
    pub(super) async fn end_all(&mut self) {
        // Each leaves its sandbox to this.
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        let mut ending = JoinSet::new();
        for seat in self.seats.values().filter(|seat| !seat.report().state.is_gone()) {
            ending.spawn(end(Arc::clone(&self.server), Arc::clone(seat)));
        }
        let mut until = None;
        loop {
            // Heard of all the time, so that nobody thinks that this server was lost.
            let had_ended = ending.is_empty();
            let reported = self.last_report().await;
            while ending.try_join_next().is_some() {}
            if ending.is_empty() {
                self.looks.last(&self.server, &self.seats);
                let until = *until.get_or_insert_with(|| Instant::now() + COMMITTED);
                let is_done = had_ended && reported && self.server.meters.pending().is_empty();
                if is_done || Instant::now() > until {
                    break;
                }
            }
            sleep(AGAIN).await;
        }
        let sent = timeout(LINES_SENT, async {
            while !self.server.lines.is_empty() {
                sleep(AGAIN).await;
            }
        });
        if sent.await.is_err() {
            tracing::info!("not all lines have arrived at logs; the rest waits on disk");
        }
    }

    async fn last_report(&mut self) -> bool {
        let sent = self.report();
        match self.coordinator.post::<Committed>("/v1/report", &sent.report, REPORT).await {
            Ok(committed) => {
                let (committed, now) = (committed.unwrap_or_default(), Time::from(SystemTime::now()));
                self.server.meters.committed(&committed, now);
                if committed.samples_taken {
                    self.looks.taken(sent.samples_until);
                }
                true
            }
            Err(e) => {
                tracing::debug!("the coordinator took no report: {e}");
                false
            }
        }
    }
}

/// As at a deploy: it is asked, has its time, and its last reading is on disk before its group goes.
async fn end(server: Arc<Server>, seat: Arc<Seat>) {
    let (spec, unit) = (&seat.spec, unit_of(seat.spec.id));
    if let Some(sandbox) = server.slice.adopt(&unit) {
        sandbox.stop();
        if timeout(APPS_END, sandbox.wait()).await.is_err() {
            sandbox.kill();
        }
    }
    let cleared = server.slice.clear(&unit, Some(spec.address)).await;
    match server.read_last(&seat).await {
        Ok(last) => seat.ended(last),
        Err(e) => {
            // The group stays until the disk takes its value.
            tracing::error!(instance.id = %spec.id, "could not keep a last reading: {e}");
            return;
        }
    }
    if let Err(e) = cleared.and_then(|()| server.slice.remove_unit(&unit)) {
        tracing::error!(instance.id = %spec.id, "could not end an instance: {e}");
    }
    server.lines.close(&unit);
}
