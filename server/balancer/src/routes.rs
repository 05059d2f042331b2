//! Follows the coordinator's routes: a long poll, the last good table on disk, and the rules by
//! which a table is refused.
//!
//! A table is in use at once, and acknowledged (`report`) when no thread can still choose from the
//! one before and the disk no longer holds it: whoever got the acknowledgement may give an address
//! that left to somebody else.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use domain::wire::{Ask, Routes, Seen, Target};
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::meters::Meters;
use crate::table::{Instance, Table};
use crate::{Config, Shared};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RoutesError {
    #[error("the routes are older than those in use")]
    Older,
    #[error(
        "the routes are empty, and {apps} apps are in use; if that is right, stop the balancer and delete its file of routes"
    )]
    Empty { apps: usize },
    #[error("the routes have {hostnames} hostnames, more than {max}")]
    Enormous { hostnames: usize, max: usize },
    #[error("the routes lead to {what} twice")]
    Twice { what: String },
}

const HOLD: Duration = Duration::from_secs(30);
/// For the answer to arrive after that, be it long.
const ANSWER: Duration = Duration::from_secs(45);
/// Threads take a new table within microseconds; one that does not in this time hangs.
const PASS: Duration = Duration::from_secs(10);
/// For a report that new routes are in use, before routes are asked for again.
const REPORT: Duration = Duration::from_secs(5);
/// After this time without a coordinator its addresses may belong to others (CONTROL "A connection
/// reaches the right app or nobody").
const UNCONFIRMED_MAX: Duration = Duration::from_secs(24 * 3600);
/// How often the file's time says that its content was confirmed.
const TOUCH: Duration = Duration::from_secs(600);

/// Decides whether `new` replaces what is in use: `None` if it is the same.
pub fn judge(seen: Option<&Seen>, apps: usize, new: &Routes, hostnames_max: usize) -> Result<Option<()>, RoutesError> {
    let rank = |seen: &Seen| (seen.incarnation, seen.revision);
    match seen.map(|seen| rank(&new.seen).cmp(&rank(seen))) {
        Some(std::cmp::Ordering::Less) => return Err(RoutesError::Older),
        Some(std::cmp::Ordering::Equal) => return Ok(None),
        _ => {}
    }
    // Apps go one at a time: the last one may, all of them at once were never meant.
    // What a new incarnation says was accepted by the operator.
    let is_accepted = seen.is_some_and(|seen| seen.incarnation < new.seen.incarnation);
    if new.apps.is_empty() && apps > 1 && !is_accepted {
        return Err(RoutesError::Empty { apps });
    }
    let hostnames = new.apps.iter().map(|app| app.hostnames.len()).sum();
    if hostnames > hostnames_max {
        return Err(RoutesError::Enormous { hostnames, max: hostnames_max });
    }
    let (mut apps, mut names, mut ids, mut addresses) =
        (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
    let twice = |what: String| Err(RoutesError::Twice { what });
    for app in &new.apps {
        if !apps.insert(app.app) {
            return twice(format!("app {}", app.app));
        }
        if let Some(host) = app.hostnames.iter().find(|host| !names.insert(host.as_str())) {
            return twice(host.to_string());
        }
        for instance in &app.instances {
            let Target::Direct { address } = instance.target;
            if !ids.insert(instance.id) {
                return twice(format!("instance {}", instance.id));
            }
            if !addresses.insert(address) {
                return twice(address.to_string());
            }
        }
    }
    Ok(Some(()))
}

/// What is known of the routes, beside the table itself.
pub struct State {
    inner: Mutex<Inner>,
    /// What the coordinator last heard by a report. What instances that left still have open stands in
    /// the same report: were a question first to say that their table is gone, they would be stopped.
    reported: watch::Sender<Option<Seen>>,
}

struct Inner {
    /// In use.
    seen: Option<Seen>,
    /// In use, by every thread and on disk.
    acknowledged: Option<Seen>,
    /// Left, and perhaps with requests open.
    leaving: Vec<Arc<Instance>>,
    /// When the coordinator last said that the table is right, on a clock that runs through sleep.
    confirmed: Duration,
    touched: Duration,
    dropped: bool,
    /// Said once.
    refused: Option<Seen>,
}

impl State {
    pub fn new(last: Option<(Seen, Duration)>) -> Self {
        let (seen, age) = last.unzip();
        let confirmed = clock().saturating_sub(age.unwrap_or_default());
        let inner = Inner {
            acknowledged: seen.clone(),
            seen,
            leaving: Vec::new(),
            confirmed,
            touched: confirmed,
            dropped: age.is_some_and(|age| age > UNCONFIRMED_MAX),
            refused: None,
        };
        Self { inner: Mutex::new(inner), reported: watch::Sender::new(None) }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn acknowledged(&self) -> Option<Seen> {
        self.inner().acknowledged.clone()
    }

    pub fn reported(&self, seen: Option<Seen>) {
        self.reported.send_replace(seen);
    }

    /// Waits until the coordinator has heard of what is acknowledged; not for long, since it may be
    /// that it takes no reports but has newer routes.
    async fn heard(&self) -> Option<Seen> {
        let mut reported = self.reported.subscribe();
        let same = timeout(REPORT, reported.wait_for(|reported| *reported == self.acknowledged()));
        let seen = same.await.ok().and_then(|seen| seen.ok().map(|seen| seen.clone()));
        seen.unwrap_or_else(|| self.reported.borrow().clone())
    }

    /// The instances that left and have requests open; the others are forgotten.
    pub fn leaving(&self) -> Vec<Arc<Instance>> {
        let mut inner = self.inner();
        inner.leaving.retain(|instance| instance.has_left() && instance.open() > 0);
        inner.leaving.clone()
    }
}

/// Since the server's start, including the time it was suspended.
fn clock() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The table of the last run, what it was called, and how long ago it was last confirmed.
pub fn load(config: &Config, meters: &mut Meters) -> (Table, Option<(Seen, Duration)>) {
    let path = file(config);
    let read = match read(&path) {
        Ok(Some(read)) => read,
        Ok(None) => return (Table::default(), None),
        Err(cause) => {
            warn!(path = %path.display(), %cause, "the last routes cannot be read: none until the coordinator answers");
            return (Table::default(), None);
        }
    };
    let (mut routes, age) = read;
    if let Err(cause) = judge(None, 0, &routes, config.limits.hostnames_max) {
        warn!(path = %path.display(), %cause, "the last routes are refused: none until the coordinator answers");
        return (Table::default(), None);
    }
    if age > UNCONFIRMED_MAX {
        warn!(path = %path.display(), "the last routes are more than a day old: no instance is used until the coordinator answers");
        routes.apps.iter_mut().for_each(|app| app.instances.clear());
    }
    (Table::default().next(&routes, &[], meters, 0), Some((routes.seen, age)))
}

fn file(config: &Config) -> PathBuf {
    config.dir.join("routes")
}

const FIRST_LINE: &str = "berth-routes 1 ";

fn read(path: &Path) -> io::Result<Option<(Routes, Duration)>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let line = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| bad("its first line is missing"))?;
    let (line, json) = (&bytes[..line], &bytes[line + 1..]);
    let sum = line.strip_prefix(FIRST_LINE.as_bytes()).ok_or_else(|| bad("it is of another version"))?;
    if sum != checksum(json).as_bytes() {
        return Err(bad("it is not what was written"));
    }
    let routes = serde_json::from_slice(json)?;
    let age = SystemTime::now().duration_since(std::fs::metadata(path)?.modified()?).unwrap_or_default();
    Ok(Some((routes, age)))
}

fn checksum(json: &[u8]) -> String {
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces the file, or removes it: an old one would lead to addresses that belong to others.
fn write(path: &Path, routes: &Routes) -> io::Result<()> {
    // Beside another balancer that gives way: what is newer stays, and nobody's half is another's.
    let lock = std::fs::File::create(path.with_extension("lock"))
        .and_then(|file| Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, cause)| cause.into()));
    let rank = |seen: &Seen| (seen.incarnation, seen.revision);
    let newer = |held: &Routes| rank(&held.seen) > rank(&routes.seen);
    let replace = || -> io::Result<()> {
        lock.as_ref().map_err(|cause| io::Error::from(cause.kind()))?;
        if let Ok(Some((held, _))) = read(path)
            && newer(&held)
        {
            return Ok(());
        }
        let json = serde_json::to_vec(routes)?;
        let new = path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        writeln!(file, "{FIRST_LINE}{}", checksum(&json))?;
        file.write_all(&json)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
    };
    replace().or_else(|cause| {
        warn!(path = %path.display(), %cause, "the routes could not be written: a restart begins without any");
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    })
}

/// Asks for routes until `stop` (no new ones are needed to finish what is open).
pub async fn follow(
    shared: &Arc<Shared>,
    client: &link::Client,
    state: &State,
    meters: &Arc<Mutex<Meters>>,
    stop: &CancellationToken,
    done: &CancellationToken,
) {
    let asking = async {
        let mut failures = 0u32;
        loop {
            let seen = state.heard().await;
            let wait = u64::try_from(HOLD.as_millis()).unwrap_or(30_000);
            let held = state.inner().seen.clone();
            let answer = client.post::<Routes>("/v1/routes", &Ask { seen, held, wait_ms: wait }, ANSWER).await;
            let taken = match answer {
                Ok(None) => Ok(()),
                Ok(Some(routes)) => take(shared, state, meters, routes).await,
                Err(cause) => {
                    if failures == 0 {
                        warn!(cause = %chain(&cause), "the coordinator does not answer: the last routes stay in use");
                    }
                    Err(())
                }
            };
            match taken {
                Ok(()) => {
                    if failures > 0 {
                        info!("the coordinator answers again");
                    }
                    failures = 0;
                    confirm(shared, state);
                }
                Err(()) => {
                    failures += 1;
                    drop_unconfirmed(shared, state, meters).await;
                    let pause = Duration::from_millis(100 << failures.min(6));
                    sleep(pause.min(Duration::from_secs(5)).mul_f64(rand::random_range(0.5..1.0))).await;
                }
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = stop.cancelled() => {}
        () = done.cancelled() => {}
    }
}

/// An error and what caused it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn take(shared: &Arc<Shared>, state: &State, meters: &Arc<Mutex<Meters>>, routes: Routes) -> Result<(), ()> {
    let dropped = state.inner().dropped;
    let seen = state.inner().seen.clone();
    let apps = shared.table.load().apps();
    match judge(seen.as_ref(), apps, &routes, shared.config.limits.hostnames_max) {
        // What was dropped unconfirmed is taken up again, and what could not be written is tried again.
        Ok(None) if !dropped && state.acknowledged() == seen => return Ok(()),
        Ok(_) => {}
        Err(cause) => {
            let mut inner = state.inner();
            if inner.refused.as_ref() != Some(&routes.seen) {
                error!(routes = ?routes.seen, in_use = ?seen, %cause, "routes were refused; the last good ones stay in use");
                inner.refused = Some(routes.seen);
            }
            return Err(());
        }
    }
    let hostnames = put(shared, state, meters, &routes).await?;
    state.inner().dropped = false;
    let (path, seen) = (file(&shared.config), routes.seen.clone());
    let written = tokio::task::spawn_blocking(move || write(&path, &routes)).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => {
            error!(%cause, "older routes stay on disk and cannot be removed: the new ones are not acknowledged");
            return Err(());
        }
        Err(_) => return Err(()),
    }
    info!(epoch = seen.revision.epoch, counter = seen.revision.counter, hostnames, "took in new routes");
    state.inner().acknowledged = Some(seen);
    shared.report.notify_one();
    Ok(())
}

/// Puts a table in place and waits until every thread has passed it.
async fn put(shared: &Arc<Shared>, state: &State, meters: &Mutex<Meters>, routes: &Routes) -> Result<usize, ()> {
    let leaving = state.inner().leaving.clone();
    let before = shared.table.load_full();
    let next = {
        let mut meters = meters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::new(before.next(routes, &leaving, &mut meters, shared.now_ms()))
    };
    let left = before.missing_in(&next);
    let hostnames = next.hostnames();
    shared.table.store(next);
    // After the store: who still holds the old table is told by the instance itself.
    left.iter().for_each(|instance| instance.leave());
    state.inner().seen = Some(routes.seen.clone());
    let mut number = 0;
    shared.tables.send_modify(|n| {
        *n += 1;
        number = *n;
    });
    let passed = async {
        loop {
            let heard = shared.passing.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            if shared.passed.iter().all(|n| n.load(SeqCst) >= number) {
                return;
            }
            heard.await;
        }
    };
    let passed = timeout(PASS, passed).await;
    // Only now is what they have open all that it will ever be.
    state.inner().leaving.extend(left);
    if passed.is_err() {
        error!("a thread for connections hangs: the new routes are not acknowledged");
        return Err(());
    }
    // Here, not on a thread for connections: a large table takes milliseconds to free.
    drop(before);
    Ok(hostnames)
}

fn confirm(shared: &Shared, state: &State) {
    let mut inner = state.inner();
    let now = clock();
    inner.confirmed = now;
    if now.saturating_sub(inner.touched) > TOUCH {
        inner.touched = now;
        let touched = std::fs::File::open(file(&shared.config)).and_then(|f| f.set_modified(SystemTime::now()));
        if let Err(cause) = touched
            && cause.kind() != io::ErrorKind::NotFound
        {
            warn!(%cause, "could not note that the routes are confirmed");
        }
    }
}

/// A day without a coordinator: what its instances' addresses lead to is not known any more.
async fn drop_unconfirmed(shared: &Arc<Shared>, state: &State, meters: &Arc<Mutex<Meters>>) {
    let due = {
        let inner = state.inner();
        !inner.dropped && inner.seen.is_some() && clock().saturating_sub(inner.confirmed) > UNCONFIRMED_MAX
    };
    if !due {
        return;
    }
    let Ok(Some((mut routes, _))) = read(&file(&shared.config)) else { return };
    routes.apps.iter_mut().for_each(|app| app.instances.clear());
    error!("no coordinator for a day: instances are no longer used until one answers");
    if put(shared, state, meters, &routes).await.is_ok() {
        state.inner().dropped = true;
    }
}

#[cfg(test)]
mod tests {
    use domain::wire::{Revision, RouteApp, RouteInstance, RouteState};
    use domain::{AppId, InstanceId};

    use super::*;

    fn seen(incarnation: i64, epoch: i64, counter: i64) -> Seen {
        Seen { incarnation, revision: Revision { epoch, counter } }
    }

    fn routes(seen: Seen, apps: impl IntoIterator<Item = i64>) -> Routes {
        let app = |id: i64| RouteApp {
            app: AppId(id),
            name: format!("app-{id}").parse().unwrap(),
            hostnames: vec![format!("app-{id}.localhost").parse().unwrap()],
            state: RouteState::Live,
            instances: vec![RouteInstance {
                id: InstanceId(id),
                target: Target::Direct { address: ([10, 0, 0, id as u8], 8000).into() },
            }],
            starting: false,
            deploys: vec![],
        };
        Routes { seen, apps: apps.into_iter().map(app).collect() }
    }

    #[test]
    fn older_empty_enormous_and_contradicting_routes_are_refused() {
        let now = seen(2, 3, 4);
        let check = |new: &Routes| judge(Some(&now), 2, new, 10);
        for older in [seen(1, 9, 9), seen(2, 2, 9), seen(2, 3, 3)] {
            assert_eq!(check(&routes(older, [1, 2])), Err(RoutesError::Older));
        }
        assert_eq!(check(&routes(now.clone(), [1])), Ok(None));
        for newer in [seen(2, 3, 5), seen(2, 4, 0), seen(3, 0, 0)] {
            assert_eq!(check(&routes(newer, [1, 2])), Ok(Some(())));
        }
        assert_eq!(check(&routes(seen(2, 3, 5), [])), Err(RoutesError::Empty { apps: 2 }));
        assert_eq!(judge(Some(&now), 1, &routes(seen(2, 3, 5), []), 10), Ok(Some(())));
        assert_eq!(check(&routes(seen(2, 3, 5), 1..=11)), Err(RoutesError::Enormous { hostnames: 11, max: 10 }));

        let mut twice = routes(seen(2, 3, 5), [1, 2]);
        twice.apps[1].instances[0].target = twice.apps[0].instances[0].target.clone();
        assert!(matches!(check(&twice), Err(RoutesError::Twice { .. })));
        let mut twice = routes(seen(2, 3, 5), [1, 2]);
        twice.apps[1].hostnames = twice.apps[0].hostnames.clone();
        assert!(matches!(check(&twice), Err(RoutesError::Twice { .. })));
    }

    #[test]
    fn what_is_on_disk_is_whole_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes");
        assert!(read(&path).unwrap().is_none());
        let table = routes(seen(1, 1, 1), [1, 2]);
        write(&path, &table).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().0, table);
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 10, 90, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path).is_err(), "cut at {cut}");
        }
        let mut other = whole.clone();
        other[13] = b'2';
        std::fs::write(&path, &other).unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_day_old_table_names_its_hosts_but_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { dir: dir.path().to_owned(), ..Config::default() };
        let path = file(&config);
        write(&path, &routes(seen(1, 1, 1), [1])).unwrap();
        let mut meters = Meters::open(dir.path()).unwrap();
        let instances = |table: &Table| table.host(b"app-1.localhost").unwrap().instances.len();
        let (table, last) = load(&config, &mut meters);
        assert_eq!((instances(&table), last.unwrap().0), (1, seen(1, 1, 1)));
        let old = SystemTime::now() - UNCONFIRMED_MAX - Duration::from_secs(60);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        let (table, last) = load(&config, &mut meters);
        assert_eq!(instances(&table), 0);
        assert!(State::new(last).inner().dropped);
    }
}
