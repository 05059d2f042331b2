//! What should be true on this server now, and making it so: level-triggered, from whole lists.
//!
//! Without a coordinator everything goes on as it is. A list that is older than one already seen,
//! or empty while something runs that nobody told to stop, is refused.

mod ending;
mod look;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::wire::{Ask, Assignments, BuildReport, BuildSpec, Committed, DiskReport, InstanceSpec, RunnerReport, Seen};
use domain::{InstanceId, Life, Time, Wanted};
use link::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::look::Looks;
use crate::disk::Needed;
use crate::instance::{Found, Instance, Server};
use crate::last::counter_of;
use crate::sandbox::write_secret;
use crate::seat::{Kept, Seat, id_of, lines_of, unit_of};

const WAIT_MS: u64 = 30_000;
const ASK_TIMEOUT: Duration = Duration::from_secs(45);
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);
/// A report at least this often; at once when something changed.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Changes that come together make one report.
const REPORT_GATHER: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(500);
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// The part of the runner that builds: it is told the list, and asked for its reports.
pub struct Builds {
    pub wanted: watch::Sender<Vec<BuildSpec>>,
    pub reports: watch::Receiver<Vec<BuildReport>>,
}

/// The part that keeps room on the disk: it is told what is needed, and asked for its report.
pub struct Stores {
    pub needed: watch::Sender<Option<Needed>>,
    pub reports: watch::Receiver<DiskReport>,
}

pub struct Converge {
    server: Arc<Server>,
    coordinator: Client,
    builds: Builds,
    seats: HashMap<InstanceId, Arc<Seat>>,
    tasks: JoinSet<()>,
    ids: HashMap<tokio::task::Id, InstanceId>,
    seen: Option<Seen>,
    seen_path: PathBuf,
    has_assignments: bool,
    /// Taken in, but for what waits until its address is free here.
    waiting: Option<Assignments>,
    stores: Stores,
    looks: Looks,
    stop: CancellationToken,
    /// All instances end with this runner.
    apps: CancellationToken,
}

impl Converge {
    pub fn new(
        server: Arc<Server>,
        coordinator: Client,
        builds: Builds,
        stores: Stores,
        seen_path: PathBuf,
        [stop, apps]: [CancellationToken; 2],
    ) -> Self {
        let looks = Looks::new(server.meters.boot_id());
        let seen = std::fs::read(&seen_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self {
            server,
            coordinator,
            builds,
            seats: HashMap::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
            seen,
            seen_path,
            has_assignments: false,
            waiting: None,
            stores,
            looks,
            stop,
            apps,
        }
    }

    /// Takes over what a former runner left: what runs goes on, what has ended meanwhile is seen to
    /// as any end is.
    pub async fn adopt(&mut self) {
        let mut lives: Vec<Life> = vec![];
        let all = Kept::all(&self.server.slice).unwrap_or_default();
        let mut addresses = vec![];
        for kept in &all {
            let Ok(life) = self.server.meters.life(kept.spec.id, kept.generation) else { continue };
            addresses.push((unit_of(kept.spec.id), kept.spec.address, self.server.counted(&life)));
            lives.push(life);
        }
        self.server.meters.resume(&lives);
        if let Err(e) = self.server.slice.keep_addresses(addresses).await {
            tracing::error!("what a former runner left of the network is still there: {e}");
        }
        let images: Vec<_> = all.iter().map(|kept| kept.spec.image.clone()).collect();
        if let Err(e) = self.server.images.unmount_except(&images).await {
            tracing::error!("an image that a former runner mounted is still mounted: {e}");
        }
        for kept in all {
            self.take_over(kept);
        }
        for unit in self.server.slice.units() {
            // Builds and git sandboxes are tied to their runner, and it is gone.
            if id_of(&unit).is_none() {
                self.end_unknown(&unit).await;
            }
        }
    }

    fn take_over(&mut self, kept: Kept) {
        let spec = kept.spec.clone();
        let unit = unit_of(spec.id);
        let found = match self.server.slice.adopt(&unit) {
            Some(sandbox) => Found::Running(sandbox),
            // Cut off while it was being started, or between two starts.
            None if self.server.slice.exit(&unit).is_none()
                && !self.server.slice.unit_dir(&unit).join("pid").exists() =>
            {
                Found::Nothing
            }
            None => Found::Ended,
        };
        tracing::info!(instance.id = %spec.id, app.name = %spec.app_name, runs = matches!(found, Found::Running(_)),
            "took over {}.{}.{}", spec.app_name, spec.process, spec.index);
        self.begin(spec, Some(kept), found);
    }

    fn begin(&mut self, spec: InstanceSpec, kept: Option<Kept>, found: Found) {
        let id = spec.id;
        let begun = kept.is_some();
        let kept = kept.unwrap_or_else(|| {
            let generation = Some(Time::from(SystemTime::now()).unix_micros() / 1_000_000);
            Kept { spec: spec.clone(), restarts: 0, was_healthy: false, generation }
        });
        let life = match self.server.meters.life(id, kept.generation) {
            Ok(life) => life,
            Err(e) => {
                tracing::error!(instance.id = %id, "it has no life to count in: {e}");
                return;
            }
        };
        // Before anything is sent of what former runs left: this one is still written to.
        if let Err(e) = self.server.lines.open(&unit_of(id), &lines_of(&spec)) {
            tracing::error!(instance.id = %id, "its lines cannot be kept: {e}");
        }
        let seat = Arc::new(Seat::new(spec, life, &kept, begun));
        self.seats.insert(id, Arc::clone(&seat));
        let instance = Instance::new(Arc::clone(&self.server), seat, kept, self.stop.child_token());
        let task = self.tasks.spawn(instance.live(found));
        self.ids.insert(task.id(), id);
        self.server.changed.notify_one();
    }

    /// An instance's task is over: as it should, or by a fault of ours, and then it is taken up anew.
    fn joined(&mut self, joined: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let task = match &joined {
            Ok((task, ())) => *task,
            Err(e) => e.id(),
        };
        let Some(id) = self.ids.remove(&task) else { return };
        let Err(e) = joined else { return };
        tracing::error!(instance.id = %id, "the task of an instance failed: {e}");
        let Some(seat) = self.seats.remove(&id) else { return };
        let wanted = *seat.wanted.borrow();
        match Kept::of(&self.server.slice, id) {
            Some(kept) => self.take_over(kept),
            None => self.begin(seat.spec.clone(), None, Found::Nothing),
        }
        if let Some(seat) = self.seats.get(&id) {
            seat.wanted.send_replace(wanted);
        }
    }

    /// Until `stop`: asks, makes it so, reports, reads meters.
    pub async fn run(mut self) {
        let (assigned, mut assignments) = watch::channel::<Option<Assignments>>(None);
        let (asked, seen) = watch::channel(self.seen.clone());
        let asking = ask(self.coordinator.clone(), seen, assigned, self.stop.clone());
        tokio::pin!(asking);
        let mut meters = tokio::time::interval(LOOK_EVERY);
        meters.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut report_at = tokio::time::Instant::now();
        let mut reporting: JoinSet<(Sent, Result<Option<Committed>, link::LinkError>)> = JoinSet::new();
        let mut builds_changed = self.builds.reports.clone();
        let server = Arc::clone(&self.server);
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.apps.cancelled() => return self.end_all().await,
                () = &mut asking => break,
                Ok(()) = assignments.changed() => {
                    let told = assignments.borrow_and_update().clone();
                    if let Some(told) = told
                        && self.take_in(told).await == Taken::Yes
                    {
                        asked.send_replace(self.seen.clone());
                    }
                }
                () = server.changed.notified() => report_at = tokio::time::Instant::now() + REPORT_GATHER,
                Ok(()) = builds_changed.changed() => report_at = tokio::time::Instant::now() + REPORT_GATHER,
                _ = meters.tick() => {
                    self.looks.look(&self.server, &self.seats).await;
                    if let Some(told) = self.waiting.take() {
                        self.take_in(told).await;
                    }
                }
                Some(joined) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.joined(joined),
                Some(sent) = reporting.join_next(), if !reporting.is_empty() => {
                    match sent {
                        Ok((sent, Ok(committed))) => self.reported(&sent, &committed.unwrap_or_default()),
                        Ok((_, Err(e))) => {
                            tracing::debug!("the coordinator took no report: {e}");
                            report_at = tokio::time::Instant::now() + RETRY;
                        }
                        Err(_) => {}
                    }
                }
                () = tokio::time::sleep_until(report_at), if reporting.is_empty() => {
                    report_at = tokio::time::Instant::now() + REPORT_EVERY;
                    let (client, sent) = (self.coordinator.clone(), self.report());
                    reporting.spawn(async move {
                        let answer = client.post("/v1/report", &sent.report, REPORT_TIMEOUT).await;
                        (sent, answer)
                    });
                }
            }
        }
        // Instances see the same token and leave their sandboxes running.
        while self.tasks.join_next().await.is_some() {}
    }

    async fn take_in(&mut self, told: Assignments) -> Taken {
        if let Some(seen) = &self.seen
            && (told.seen.incarnation, told.seen.revision) < (seen.incarnation, seen.revision)
        {
            tracing::error!(told = ?told.seen, ?seen, "refused assignments older than those already seen; \
                everything goes on as it is");
            return Taken::No;
        }
        let untold = self.seats.values().any(|s| *s.wanted.borrow() != Wanted::Stop && !s.report().state.is_gone());
        // The operator accepted what a new incarnation says.
        let is_accepted = self.seen.as_ref().is_some_and(|seen| seen.incarnation < told.seen.incarnation);
        if told.instances.is_empty() && untold && !is_accepted {
            tracing::error!(
                "refused an empty list of assignments while instances run that nobody told to stop; \
                everything goes on as it is"
            );
            return Taken::No;
        }
        let differs = |s: &&InstanceSpec| {
            self.seats.get(&s.id).is_some_and(|seat| (seat.spec.app, seat.spec.address) != (s.app, s.address))
        };
        if let Some(other) = told.instances.iter().find(differs) {
            tracing::error!(instance.id = %other.id, "refused assignments that name another app's instance as one \
                that runs here; everything goes on as it is");
            return Taken::No;
        }
        let wanted: HashMap<InstanceId, &InstanceSpec> = told.instances.iter().map(|s| (s.id, s)).collect();
        for (id, seat) in &self.seats {
            let now = wanted.get(id).map_or(Wanted::Stop, |s| s.wanted);
            seat.wanted.send_if_modified(|was| std::mem::replace(was, now) != now);
        }
        self.waiting = None;
        for spec in wanted.values() {
            if self.seats.contains_key(&spec.id) {
                continue;
            }
            // One address, one sandbox: the link and what is permitted on it go with whoever ends.
            let has_it = |seat: &&Arc<Seat>| seat.spec.address == spec.address && !seat.report().state.is_gone();
            if self.seats.values().any(|seat| has_it(&seat)) {
                self.waiting = Some(told.clone());
                continue;
            }
            self.begin((*spec).clone(), None, Found::Nothing);
        }
        if !self.has_assignments {
            self.has_assignments = true;
            self.sweep().await;
            self.server.assigned.send_replace(true);
        }
        let needed = Needed { images: told.images_kept, apps_gone: told.apps_gone };
        self.stores.needed.send_if_modified(|was| was.replace(needed.clone()).as_ref() != Some(&needed));
        self.builds.wanted.send_if_modified(|was| {
            let is_new = *was != told.builds;
            *was = told.builds;
            is_new
        });
        if self.seen.as_ref() != Some(&told.seen) {
            self.seen = Some(told.seen);
            let text = serde_json::to_string(&self.seen).unwrap_or_default();
            if let Err(e) = write_secret(&self.seen_path, &text) {
                tracing::error!("could not keep which assignments were seen: {e}");
            }
        }
        self.server.changed.notify_one();
        Taken::Yes
    }

    /// Ends the instances that neither an assignment nor an adopted shim explains.
    async fn sweep(&self) {
        crate::once::sweep(&self.server.once, |id| self.seats.contains_key(&id));
        for unit in self.server.slice.units() {
            if id_of(&unit).is_some_and(|id| !self.seats.contains_key(&id)) {
                self.end_unknown(&unit).await;
            }
        }
        let owned: HashSet<String> = self.seats.values().map(|seat| counter_of(&seat.life)).collect();
        if let Err(e) = self.server.salvage_counters(|name| owned.contains(name)).await {
            tracing::error!("counters of what has ended are still there: {e}");
        }
    }

    async fn end_unknown(&self, unit: &str) {
        tracing::info!(sandbox = %unit, "ends what nothing explains");
        let cleared = self.server.slice.clear(unit, None).await;
        if let Err(e) = self.server.salvage(unit).await {
            tracing::error!(sandbox = %unit, "could not keep a last reading: {e}");
            return;
        }
        if let Err(e) = cleared.and_then(|()| self.server.slice.remove_unit(unit)) {
            tracing::error!(sandbox = %unit, "could not end what nothing explains: {e}");
        }
    }

    fn report(&self) -> Sent {
        let (samples, samples_until) = self.looks.samples();
        let report = RunnerReport {
            boot_id: self.server.meters.boot_id().to_owned(),
            cores: cores(),
            memory_bytes: self.server.slice.memory_bytes(),
            memory_used_bytes: self.server.slice.memory_used_bytes(),
            seen: self.seen.clone(),
            instances: self.seats.values().map(|s| s.report()).collect(),
            builds: self.builds.reports.borrow().clone(),
            readings: self.server.meters.pending(),
            samples,
            addresses: self.seats.values().map(|s| (s.spec.id, s.spec.address)).collect(),
            disk: Some(self.stores.reports.borrow().clone()).filter(|disk| disk.space.bytes > 0),
        };
        Sent { report, samples_until }
    }

    /// What was told of the gone is forgotten once no assignment names it.
    fn reported(&mut self, sent: &Sent, committed: &Committed) {
        self.server.meters.committed(committed, Time::from(SystemTime::now()));
        if committed.samples_taken {
            self.looks.taken(sent.samples_until);
        }
        for told in sent.report.instances.iter().filter(|i| i.state.is_gone()) {
            let is_over = self
                .seats
                .get(&told.id)
                .is_some_and(|seat| *seat.wanted.borrow() == Wanted::Stop && seat.report().state == told.state);
            if is_over {
                self.seats.remove(&told.id);
                crate::once::forget(&self.server.once, told.id);
            }
        }
    }
}

/// A report, and up to which its samples go.
struct Sent {
    report: RunnerReport,
    samples_until: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
}

/// Asks for assignments without end; the answer comes when something changed.
async fn ask(
    client: Client,
    mut seen: watch::Receiver<Option<Seen>>,
    assigned: watch::Sender<Option<Assignments>>,
    stop: CancellationToken,
) {
    // The first answer is wanted whole and at once: this process has no list yet.
    let mut first = true;
    let mut is_away = false;
    loop {
        let held = seen.borrow().clone();
        let body = Ask { seen: held.clone().filter(|_| !first), held, wait_ms: WAIT_MS };
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = client.post::<Assignments>("/v1/assignments", &body, ASK_TIMEOUT) => answer,
        };
        let pause = match answer {
            Ok(told) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("the coordinator answers again");
                }
                if let Some(told) = told {
                    first = false;
                    let _ = assigned.send(Some(told));
                    // A refused list would otherwise come back at once.
                    tokio::select! {
                        () = stop.cancelled() => return,
                        taken = seen.changed() => if taken.is_err() { return },
                        () = tokio::time::sleep(REFUSED_PAUSE) => {}
                    }
                }
                continue;
            }
            Err(e) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!("the coordinator is away, everything goes on as it is: {e}");
                }
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_names_its_instance() {
        assert_eq!(id_of(&unit_of(InstanceId(17))), Some(InstanceId(17)));
        assert_eq!(id_of("b17"), None);
    }
}
