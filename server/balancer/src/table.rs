//! From a hostname to an app and its instances: one immutable table. A change makes a new one
//! beside it, keeps what did not change, and puts it in place with one atomic store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use domain::wire::{Counts, RouteApp, RouteInstance, RouteState, Routes, SwitchCount, Target};
use domain::{AppId, AppName, DeployId, InstanceId, Life};
use tokio::sync::Notify;

use crate::choose::{Load, Standing, choose};
use crate::meters::{Meters, Slot};
use crate::sample::Seen;

/// One life of an address, as long as it is routed to or has requests open.
pub struct Instance {
    pub id: InstanceId,
    pub address: std::net::SocketAddr,
    /// When it came into the table; this and the next two: of `Shared::now_ms`.
    came_ms: AtomicU64,
    down_until: AtomicU64,
    failing_until: AtomicU64,
    open: AtomicU32,
    left: AtomicBool,
    refused: AtomicU32,
    /// The share of `ALL` of its last answers that were errors or none.
    fails: AtomicU32,
    /// A `Habit`.
    habit: AtomicU8,
}

/// What an app does with a connection after an answer, as far as it was seen. One that closes without
/// a word may do so when the next request is just there, unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    Unknown,
    Keeps,
    Closes,
}

const FAILING_MS: u64 = 1_000;
const ALL: u32 = 1024;
/// Each answer weighs so much against those before.
const WEIGHT: u32 = 4;
const DOWN_MS: u64 = 1_000;
const DOWN_MS_MAX: u64 = 8_000;

impl Instance {
    fn new(route: &RouteInstance, now_ms: u64) -> Self {
        let Target::Direct { address } = route.target;
        Self {
            id: route.id,
            address,
            came_ms: now_ms.into(),
            down_until: 0.into(),
            failing_until: 0.into(),
            open: 0.into(),
            left: false.into(),
            refused: 0.into(),
            fails: 0.into(),
            habit: (Habit::Unknown as u8).into(),
        }
    }

    /// It is in the table again: as one that has just come, with what it still has open.
    fn come_back(&self, now_ms: u64) {
        if self.left.load(SeqCst) {
            self.came_ms.store(now_ms, Relaxed);
            self.connected();
            self.fails.store(0, Relaxed);
            self.left.store(false, SeqCst);
        }
    }

    pub fn open(&self) -> u32 {
        self.open.load(SeqCst)
    }

    pub fn has_left(&self) -> bool {
        self.left.load(SeqCst)
    }

    pub fn leave(&self) {
        self.left.store(true, SeqCst);
    }

    pub fn habit(&self) -> Habit {
        [Habit::Unknown, Habit::Keeps, Habit::Closes][usize::from(self.habit.load(Relaxed)) % 3]
    }

    pub fn seen(&self, habit: Habit) {
        if self.habit() != habit {
            self.habit.store(habit as u8, Relaxed);
        }
    }

    /// Waits until it is in no table any more.
    pub async fn left(&self, shared: &crate::Shared) {
        let mut tables = shared.tables.subscribe();
        while !self.has_left() && tables.changed().await.is_ok() {}
    }

    /// It refused a connection: nobody is sent there for a while. Returns whether that is news.
    pub fn refused(&self, now_ms: u64) -> bool {
        let before = self.refused.fetch_add(1, Relaxed);
        let pause = (DOWN_MS << before.min(3)).min(DOWN_MS_MAX);
        self.down_until.store(now_ms.saturating_add(pause), Relaxed);
        before == 0
    }

    pub fn connected(&self) {
        if self.refused.load(Relaxed) != 0 {
            self.refused.store(0, Relaxed);
            self.down_until.store(0, Relaxed);
        }
    }

    /// It gave no answer, or one of 5xx. A client can bring an app to that; so it is only when most
    /// answers fail that an instance is avoided, and then for a moment, and where there is another.
    pub fn failed(&self, now_ms: u64) {
        let before = self.fails.load(Relaxed);
        let fails = before + (ALL - before.min(ALL)) / WEIGHT;
        self.fails.store(fails, Relaxed);
        if fails > ALL / 2 {
            self.failing_until.store(now_ms.saturating_add(FAILING_MS), Relaxed);
        }
    }

    pub fn answered(&self) {
        let before = self.fails.load(Relaxed);
        if before != 0 {
            self.fails.store(before - before.div_ceil(WEIGHT), Relaxed);
        }
    }

    fn load(&self, now_ms: u64, not: Option<InstanceId>) -> Load {
        let standing = if self.has_left() || not == Some(self.id) {
            Standing::Out
        } else if self.is_down(now_ms) {
            Standing::Down
        } else {
            Standing::Up
        };
        Load {
            standing,
            open: self.open.load(Relaxed),
            age_ms: now_ms.saturating_sub(self.came_ms.load(Relaxed)),
            failing: self.failing_until.load(Relaxed) > now_ms,
        }
    }

    fn is_down(&self, now_ms: u64) -> bool {
        self.down_until.load(Relaxed) > now_ms
    }
}

/// A request that an instance has open; counted from the choice to the last byte.
pub struct Open {
    instance: Arc<Instance>,
    /// Told when the last one of an instance that left is done.
    told: Arc<crate::Shared>,
}

impl Open {
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.instance.open.fetch_sub(1, SeqCst) == 1 && self.instance.has_left() {
            Notify::notify_one(&self.told.report);
        }
    }
}

pub struct App {
    pub id: AppId,
    pub name: AppName,
    pub state: RouteState,
    pub instances: Vec<Arc<Instance>>,
    /// One more is on its way.
    starting: bool,
    pub meter: Slot,
    /// For graphs.
    pub seen: Arc<Seen>,
    budget: Arc<Budget>,
    /// Requests that wait for an instance.
    pub waiting: Arc<AtomicU32>,
    /// Deploys under way, and what was counted when each was first heard of.
    switches: Vec<(DeployId, Counts)>,
}

/// What a request that found no instance may hope for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// One can be tried now.
    Now,
    Later,
    Never,
}

impl App {
    /// An instance for a request, counted as open there from now on.
    pub fn choose(&self, shared: &Arc<crate::Shared>, not: Option<InstanceId>) -> Option<Open> {
        let (now, all) = (shared.now_ms(), &self.instances);
        let load = |i: usize| all[i].load(now, not);
        let chosen = match all.len() {
            0 => return None,
            1 if load(0).standing == Standing::Out => return None,
            1 => 0,
            n => choose(n, load, shared.config.timeouts.slow_start_ms, rand::random())?,
        };
        let instance = Arc::clone(&all[chosen]);
        instance.open.fetch_add(1, SeqCst);
        Some(Open { instance, told: Arc::clone(shared) })
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn outlook(&self, now_ms: u64) -> Outlook {
        let mut here = self.instances.iter().filter(|i| !i.has_left()).peekable();
        match (self.state, here.peek().is_some()) {
            (RouteState::Live, true) if here.any(|i| !i.is_down(now_ms)) => Outlook::Now,
            // What refused may have crashed a moment ago: nobody has told yet that it starts again.
            (RouteState::Live, true) => Outlook::Later,
            (RouteState::Live, false) if self.starting => Outlook::Later,
            _ => Outlook::Never,
        }
    }
}

/// Retries are a fifth of the requests at most: an app that fails is not asked twice as often.
pub struct Budget(AtomicI32);

const REQUEST_EARNS: i32 = 1;
const RETRY_COSTS: i32 = 5;
/// A fifth of as many requests can be tried again at once, when an instance dies with what it has.
const BUDGET_MAX: i32 = 5_000;
const BUDGET_AT_FIRST: i32 = 50;

impl Budget {
    fn new() -> Self {
        Self(BUDGET_AT_FIRST.into())
    }

    pub fn earn(&self) {
        if self.0.load(Relaxed) < BUDGET_MAX {
            self.0.fetch_add(REQUEST_EARNS, Relaxed);
        }
    }

    pub fn spend(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| (left >= RETRY_COSTS).then_some(left - RETRY_COSTS)).is_ok()
    }
}

#[derive(Default)]
pub struct Table {
    hosts: HashMap<Box<str>, Arc<App>>,
    apps: HashMap<AppId, Arc<App>>,
    /// Apps with deploys under way.
    switching: Vec<Arc<App>>,
}

impl Table {
    /// The app of a host as a client wrote it: any case, no port.
    pub fn host(&self, host: &[u8]) -> Option<&Arc<App>> {
        let mut lower = [0; 255];
        self.hosts.get(lower_case(host, &mut lower)?)
    }

    pub fn app(&self, id: AppId) -> Option<&Arc<App>> {
        self.apps.get(&id)
    }

    pub fn hostnames(&self) -> usize {
        self.hosts.len()
    }

    pub fn apps(&self) -> usize {
        self.apps.len()
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values()
    }

    fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.apps.values().flat_map(|app| &app.instances)
    }

    /// The table that `routes` describes. What it shares with this one, or with what left earlier
    /// (`leaving`) and comes back, stays the same.
    pub fn next(&self, routes: &Routes, leaving: &[Arc<Instance>], meters: &mut Meters, now_ms: u64) -> Table {
        let mut known: HashMap<InstanceId, &Arc<Instance>> = leaving.iter().map(|i| (i.id, i)).collect();
        known.extend(self.instances().map(|i| (i.id, i)));
        let mut next = Table {
            hosts: HashMap::with_capacity(routes.apps.len()),
            apps: HashMap::with_capacity(routes.apps.len()),
            switching: Vec::new(),
        };
        for route in &routes.apps {
            let before = self.apps.get(&route.app);
            let same = before.filter(|app| {
                app.state == route.state
                    && app.name == route.name
                    && app.starting == route.starting
                    && app.switches.iter().map(|(deploy, _)| deploy).eq(&route.deploys)
                    && app.instances.len() == route.instances.len()
                    && app.instances.iter().zip(&route.instances).all(|(i, r)| i.id == r.id && i.address == direct(r))
            });
            let app = match same {
                Some(app) => Arc::clone(app),
                None => Arc::new(self.app_of(route, &known, meters, now_ms)),
            };
            if !app.switches.is_empty() {
                next.switching.push(Arc::clone(&app));
            }
            for host in &route.hostnames {
                next.hosts.entry(host.as_str().into()).or_insert_with(|| Arc::clone(&app));
            }
            next.apps.insert(route.app, app);
        }
        next.instances().for_each(|instance| instance.come_back(now_ms));
        next
    }

    fn app_of(
        &self,
        route: &RouteApp,
        known: &HashMap<InstanceId, &Arc<Instance>>,
        meters: &mut Meters,
        now_ms: u64,
    ) -> App {
        let before = self.apps.get(&route.app);
        let meter = meters.slot(route.app);
        let mut counts = meter.counts();
        // What is open when a deploy is first heard of may fail by it: it is one of those it counts.
        let open = before.map_or(0, |app| app.instances.iter().map(|i| u64::from(i.open())).sum());
        counts.requests = counts.requests.saturating_sub(open);
        let heard = |deploy: &DeployId| {
            let known = before.and_then(|app| app.switches.iter().find(|(known, _)| known == deploy));
            known.copied().unwrap_or((*deploy, counts))
        };
        App {
            id: route.app,
            name: route.name.clone(),
            state: route.state,
            instances: (route.instances.iter())
                .map(|r| match known.get(&r.id) {
                    Some(instance) if instance.address == direct(r) => Arc::clone(instance),
                    _ => Arc::new(Instance::new(r, now_ms)),
                })
                .collect(),
            starting: route.starting,
            switches: route.deploys.iter().map(heard).collect(),
            meter,
            budget: before.map_or_else(|| Arc::new(Budget::new()), |app| Arc::clone(&app.budget)),
            seen: before.map_or_else(Arc::default, |app| Arc::clone(&app.seen)),
            waiting: before.map_or_else(Arc::default, |app| Arc::clone(&app.waiting)),
        }
    }

    /// What was counted for each deploy under way.
    pub fn switches(&self, life: &Life) -> Vec<SwitchCount> {
        let mut all = Vec::new();
        for app in &self.switching {
            let to = app.meter.counts();
            let of = |&(deploy, from)| SwitchCount { deploy, app: app.id, life: life.clone(), from, to };
            all.extend(app.switches.iter().map(of));
        }
        all
    }

    /// The instances that `next` no longer has.
    pub fn missing_in(&self, next: &Table) -> Vec<Arc<Instance>> {
        let kept: std::collections::HashSet<*const Instance> = next.instances().map(Arc::as_ptr).collect();
        self.instances().filter(|i| !kept.contains(&Arc::as_ptr(i))).cloned().collect()
    }
}

fn direct(route: &RouteInstance) -> std::net::SocketAddr {
    let Target::Direct { address } = route.target;
    address
}

/// `host` in lower case, if it fits.
pub fn lower_case<'a>(host: &[u8], into: &'a mut [u8; 255]) -> Option<&'a str> {
    let into = into.get_mut(..host.len())?;
    into.copy_from_slice(host);
    into.make_ascii_lowercase();
    std::str::from_utf8(into).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use domain::wire::{Revision, Seen};

    use super::*;

    pub fn routes(apps: impl IntoIterator<Item = (i64, Vec<(i64, u16)>)>) -> Routes {
        let app = |(id, instances): (i64, Vec<(i64, u16)>)| RouteApp {
            app: AppId(id),
            name: format!("app-{id}").parse().unwrap(),
            hostnames: vec![format!("app-{id}.localhost").parse().unwrap()],
            state: RouteState::Live,
            instances: (instances.into_iter())
                .map(|(id, port)| RouteInstance {
                    id: InstanceId(id),
                    target: Target::Direct { address: ([127, 0, 0, 1], port).into() },
                })
                .collect(),
            starting: false,
            deploys: vec![],
        };
        Routes {
            seen: Seen { incarnation: 1, revision: Revision { epoch: 1, counter: 1 } },
            apps: apps.into_iter().map(app).collect(),
        }
    }

    #[test]
    fn a_change_keeps_what_did_not_change_and_knows_what_left() {
        let dir = tempfile::tempdir().unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        let now = 1;
        let first =
            Table::default().next(&routes([(1, vec![(1, 81), (2, 82)]), (2, vec![(3, 83)])]), &[], &mut meters, now);
        let next = first.next(&routes([(1, vec![(2, 82), (4, 84)]), (2, vec![(3, 83)])]), &[], &mut meters, now);
        let app = |table: &Table, id| Arc::clone(table.app(AppId(id)).unwrap());
        assert!(Arc::ptr_eq(&app(&first, 2), &app(&next, 2)));
        assert!(Arc::ptr_eq(&app(&first, 1).instances[1], &app(&next, 1).instances[0]));
        let left = first.missing_in(&next);
        assert_eq!(left.iter().map(|i| i.id.0).collect::<Vec<_>>(), [1]);
        left[0].leave();
        // It comes back while its last requests are open: the same life, the same count.
        let back = next.next(&routes([(1, vec![(1, 81)])]), &left, &mut meters, now);
        assert!(Arc::ptr_eq(&left[0], &app(&back, 1).instances[0]));
        assert!(!left[0].has_left());
        assert!(back.host(b"APP-1.LocalHost").is_some());
        assert!(back.host(b"app-2.localhost").is_none());
        assert!(back.host(&[b'a'; 300]).is_none());
    }

    #[test]
    fn a_hundred_thousand_hostnames_are_built_found_and_changed_in_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        let all = routes((1..=100_000).map(|i| (i, vec![(i, 80)])));
        let begun = Instant::now();
        let first = Table::default().next(&all, &[], &mut meters, 1);
        let built = begun.elapsed();
        let begun = Instant::now();
        let found = (1..=100_000).filter(|i| first.host(format!("app-{i}.localhost").as_bytes()).is_some()).count();
        let looked_up = begun.elapsed();
        let begun = Instant::now();
        let next = first.next(&all, &[], &mut meters, 1);
        let left = first.missing_in(&next).len();
        let changed = begun.elapsed();
        println!("100,000 hostnames: built in {built:?}, all looked up in {looked_up:?}, changed in {changed:?}");
        assert_eq!((found, left, next.hostnames()), (100_000, 0, 100_000));
        // Ten times what it takes, so that a slow machine does not fail what is right.
        assert!(built.as_secs() < 5 && looked_up.as_secs() < 2 && changed.as_secs() < 5);
    }

    #[test]
    fn retries_are_a_fifth_of_the_requests() {
        let budget = Budget::new();
        while budget.spend() {}
        let mut retried = 0;
        for _ in 0..1000 {
            budget.earn();
            retried += u32::from(budget.spend());
        }
        assert_eq!(retried, 200);
    }
}
