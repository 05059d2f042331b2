//! What runners and balancers should take in, and under which revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::wire::{Assignments, Revision, RouteApp, Routes, Seen};
use domain::{InstanceId, ServerId};
use plan::{Assigned, Fleet};

/// One leader's words; never taken from another epoch.
#[derive(Debug, Clone)]
pub struct Published {
    pub epoch: i64,
    /// The server that this coordinator is on.
    pub server: ServerId,
    /// On CLOCK_BOOTTIME: the lease's end as its holder counts it.
    pub until: Duration,
    /// What PostgreSQL says is what counts: it did not come back older.
    pub decides: bool,
    pub routes: Option<Arc<Routes>>,
    pub assignments: BTreeMap<ServerId, Arc<Assignments>>,
}

impl Published {
    pub fn nothing() -> Self {
        Self::nothing_in(0, ServerId(0), Duration::ZERO)
    }

    /// It leads, and has nothing to say.
    pub fn nothing_in(epoch: i64, server: ServerId, until: Duration) -> Self {
        Self { epoch, server, until, decides: false, routes: None, assignments: BTreeMap::new() }
    }
}

/// Counts revisions within an epoch: a document gets a new one when its content changed, and only then.
pub struct Publisher {
    epoch: i64,
    counter: i64,
    /// As far as PostgreSQL knows of what is handed out.
    written: i64,
    routes: Option<Arc<Routes>>,
    assignments: BTreeMap<ServerId, Arc<Assignments>>,
}

impl Publisher {
    pub fn new(epoch: i64) -> Self {
        Self { epoch, counter: 0, written: 0, routes: None, assignments: BTreeMap::new() }
    }

    fn next(&mut self, incarnation: i64) -> Seen {
        self.counter += 1;
        Seen { incarnation, revision: Revision { epoch: self.epoch, counter: self.counter } }
    }

    /// The last counter, if it has to be written down before anybody may take in what it names.
    pub fn unwritten(&self) -> Option<i64> {
        (self.counter > self.written).then_some(self.counter)
    }

    pub fn wrote(&mut self, counter: i64) {
        self.written = counter;
    }

    pub fn written(&self) -> i64 {
        self.written
    }

    /// A new table, if the fleet's differs from the last one.
    pub fn routes(&mut self, incarnation: i64, apps: Vec<RouteApp>) -> Option<(Seen, BTreeSet<InstanceId>)> {
        if self.routes.as_ref().is_some_and(|known| known.apps == apps && known.seen.incarnation == incarnation) {
            return None;
        }
        let instances = apps.iter().flat_map(|app| app.instances.iter().map(|i| i.id)).collect();
        let seen = self.next(incarnation);
        self.routes = Some(Arc::new(Routes { seen: seen.clone(), apps }));
        Some((seen, instances))
    }

    pub fn assignments(&mut self, incarnation: i64, fleet: &Fleet) {
        for server in &fleet.servers {
            let Assigned { instances, builds, images_kept, apps_gone } = plan::assign(fleet, server.id);
            let same = self.assignments.get(&server.id).is_some_and(|known| {
                known.instances == instances
                    && known.builds == builds
                    && known.images_kept == images_kept
                    && known.apps_gone == apps_gone
                    && known.seen.incarnation == incarnation
            });
            if !same {
                let seen = self.next(incarnation);
                let whole = Assignments { server: server.id, seen, instances, builds, images_kept, apps_gone };
                self.assignments.insert(server.id, Arc::new(whole));
            }
        }
    }

    pub fn published(&self, server: ServerId, until: Duration) -> Published {
        Published {
            epoch: self.epoch,
            server,
            until,
            decides: true,
            routes: self.routes.clone(),
            assignments: self.assignments.clone(),
        }
    }
}
