//! A balancer between clients, apps and a coordinator of a test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use balancer::Config;
use domain::wire::{
    Ask, BalancerReport, Committed, CommittedReading, Revision, RouteApp, RouteInstance, RouteState, Routes, Seen,
    SwitchCount, Target,
};
use domain::{AppId, DeployId, InstanceId, Life, Meter, Reading, Secret, Time, Traffic};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::peers::{App, Client, eventually, read_head};

// ---- a coordinator --------------------------------------------------------------------------

#[derive(Default)]
struct Coordinator {
    said: Mutex<Option<Routes>>,
    changed: Notify,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    asked: u64,
    /// A question said that a table was taken in before a report told what is open from the one before.
    ahead: bool,
    report: Option<BalancerReport>,
    /// The greatest value of each life, app and meter.
    counts: BTreeMap<(Life, AppId, Meter), u64>,
    samples: BTreeMap<(Life, AppId, Time), Traffic>,
    commit: bool,
}

async fn routes(State(coordinator): State<Arc<Coordinator>>, Json(ask): Json<Ask>) -> Response {
    {
        let mut heard = coordinator.heard.lock().unwrap();
        heard.asked += 1;
        let reported = heard.report.as_ref().and_then(|report| report.seen.clone());
        heard.ahead |= ask.seen.is_some() && ask.seen != reported;
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(ask.wait_ms);
    loop {
        let changed = coordinator.changed.notified();
        let said = coordinator.said.lock().unwrap().clone();
        if let Some(routes) = said.filter(|routes| ask.seen.as_ref() != Some(&routes.seen)) {
            return Json(routes).into_response();
        }
        if tokio::time::timeout_at(deadline, changed).await.is_err() {
            return StatusCode::NO_CONTENT.into_response();
        }
    }
}

async fn counts(State(coordinator): State<Arc<Coordinator>>, Json(report): Json<BalancerReport>) -> Json<Committed> {
    let mut heard = coordinator.heard.lock().unwrap();
    for reading in &report.readings {
        let known = heard.counts.entry((reading.life.clone(), reading.app, reading.meter)).or_default();
        *known = (*known).max(reading.value);
    }
    for sample in &report.samples {
        let traffic = sample.traffic.clone().unwrap();
        let told = heard.samples.insert((sample.source.clone(), sample.app, sample.at), traffic.clone());
        assert!(told.is_none_or(|told| told == traffic), "one sample says two things");
    }
    let held = |r: &Reading| CommittedReading {
        life: r.life.clone(),
        app: r.app,
        meter: r.meter,
        hour: r.hour,
        value: r.value,
    };
    let readings = if heard.commit { report.readings.iter().map(held).collect() } else { Vec::new() };
    heard.report = Some(report);
    Json(Committed { readings, samples_taken: heard.commit })
}

// ---- all of it ------------------------------------------------------------------------------

/// The balancer: on a thread of this process, or a process of its own.
enum Running {
    Thread { stop: CancellationToken, thread: JoinHandle<()> },
    Process(std::process::Child),
    Stopped,
}

pub struct Rig {
    pub address: SocketAddr,
    config: Config,
    running: Running,
    coordinator: Arc<Coordinator>,
    link: Option<(CancellationToken, JoinHandle<()>)>,
    apps: Vec<RouteApp>,
    revision: i64,
    next_instance: i64,
    dir: tempfile::TempDir,
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl Rig {
    /// A balancer with one app, `name`.localhost, that has these instances.
    pub fn with(name: &str, instances: &[&App]) -> Self {
        Self::with_config(name, instances, |_| {})
    }

    pub fn with_config(name: &str, instances: &[&App], change: impl FnOnce(&mut Config)) -> Self {
        let mut rig = Self::prepare(change);
        rig.start();
        rig.add(name, RouteState::Live, instances);
        rig.publish();
        rig
    }

    /// The same, the balancer in a process of its own.
    pub fn apart(name: &str, instances: &[&App]) -> Self {
        let mut rig = Self::prepare(|_| {});
        rig.start_process();
        rig.add(name, RouteState::Live, instances);
        rig.publish();
        rig
    }

    fn prepare(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config {
            dir: dir.path().to_owned(),
            coordinator_socket: dir.path().join("coordinator.sock"),
            token: Secret::new(TOKEN.to_owned()),
            site_hosts: vec!["localhost".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            web_socket: dir.path().join("web.sock"),
            threads: 2,
            ..Config::default()
        };
        config.timeouts.drain_ms = 5_000;
        change(&mut config);
        let coordinator = Arc::new(Coordinator::default());
        let listener = UnixListener::bind(&config.coordinator_socket).unwrap();
        let router = Router::new()
            .route("/v1/routes", post(routes))
            .route("/v1/counts", post(counts))
            .with_state(Arc::clone(&coordinator));
        let caller = link::Caller {
            role: link::Role::Balancer,
            uid: nix::unistd::geteuid().as_raw(),
            token: Secret::new(TOKEN.to_owned()),
        };
        let ending = CancellationToken::new();
        let until = ending.clone();
        let thread = std::thread::spawn(move || {
            let served = runtime().block_on(async { link::serve(listener, router, vec![caller], until).await });
            served.unwrap();
        });
        Self {
            address: ([127, 0, 0, 1], 0).into(),
            config,
            running: Running::Stopped,
            coordinator,
            link: Some((ending, thread)),
            apps: Vec::new(),
            revision: 0,
            next_instance: 1,
            dir,
        }
    }

    fn start(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, config) = (CancellationToken::new(), self.config.clone());
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(balancer::run(config, vec![listener], || {}, until)).unwrap();
        });
        self.running = Running::Thread { stop, thread };
    }

    fn start_process(&mut self) {
        let said = self.dir.path().join("address");
        let _ = std::fs::remove_file(&said);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_process_that_another_test_kills", "--nocapture"])
            .env(CHILD, serde_json::to_string(&self.config).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.running = Running::Process(child);
        eventually("the process to listen", || {
            let address = std::fs::read_to_string(&said).ok().and_then(|text| text.parse().ok());
            address.inspect(|address| self.address = *address).is_some()
        });
    }

    pub fn kill_and_start_again(&mut self) {
        let Running::Process(child) = &mut self.running else { panic!("it is no process") };
        // SIGKILL: nothing can be written at the last moment.
        child.kill().unwrap();
        child.wait().unwrap();
        self.start_process();
    }

    /// Stops the balancer and waits until it has finished what it had.
    pub fn stop(&mut self) {
        match std::mem::replace(&mut self.running, Running::Stopped) {
            Running::Thread { stop, thread } => {
                stop.cancel();
                thread.join().unwrap();
            }
            Running::Process(mut child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Stopped => {}
        }
    }

    /// Starts it anew while nobody coordinates.
    pub fn restart_alone(mut self) -> Self {
        if let Some((ending, thread)) = self.link.take() {
            ending.cancel();
            thread.join().unwrap();
        }
        std::fs::remove_file(&self.config.coordinator_socket).unwrap();
        self.start();
        self
    }

    pub fn client(&self) -> Client {
        Client::to(self.address)
    }

    /// Puts something behind the site's socket; returns how many connections it got.
    pub fn site(&self, answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Arc<AtomicU64> {
        let listener = UnixListener::bind(&self.config.web_socket).unwrap();
        let (connections, answer) = (Arc::new(AtomicU64::new(0)), Arc::new(answer));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            for mut io in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, SeqCst);
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || {
                    while let Some((head, _)) = read_head(&mut io) {
                        if io.write_all(answer(&head).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        connections
    }

    // What the coordinator says.

    pub fn add(&mut self, name: &str, state: RouteState, instances: &[&App]) {
        self.apps.push(RouteApp {
            app: AppId(self.apps.len() as i64 + 1),
            name: name.parse().unwrap(),
            hostnames: vec![format!("{name}.localhost").parse().unwrap()],
            state,
            instances: Vec::new(),
            starting: false,
            deploys: Vec::new(),
        });
        self.set(name, instances);
    }

    /// New instances in place of all of `name`'s.
    pub fn set(&mut self, name: &str, instances: &[&App]) {
        let first = self.next_instance;
        self.next_instance += instances.len() as i64;
        let app = self.apps.iter_mut().find(|app| app.name.as_str() == name).unwrap();
        app.instances = (instances.iter().zip(first..))
            .map(|(app, id)| RouteInstance { id: InstanceId(id), target: Target::Direct { address: app.address } })
            .collect();
    }

    /// Whether one more instance is on its way, and which deploys are.
    pub fn foretell(&mut self, name: &str, starting: bool, deploys: &[i64]) {
        let app = self.apps.iter_mut().find(|app| app.name.as_str() == name).unwrap();
        app.starting = starting;
        app.deploys = deploys.iter().map(|id| DeployId(*id)).collect();
    }

    pub fn instances(&self, name: &str) -> Vec<InstanceId> {
        let app = self.apps.iter().find(|app| app.name.as_str() == name).unwrap();
        app.instances.iter().map(|i| i.id).collect()
    }

    pub fn routes(&self) -> Routes {
        let revision = Revision { epoch: 1, counter: self.revision };
        Routes { seen: Seen { incarnation: 1, revision }, apps: self.apps.clone() }
    }

    /// Says all that was set, and waits until the balancer acknowledges it.
    pub fn publish(&mut self) {
        self.revision += 1;
        let routes = self.routes();
        let seen = Some(routes.seen.clone());
        self.say(routes);
        eventually("the routes to be acknowledged", || self.acknowledged() == seen);
        assert!(!self.heard().ahead, "asked for more before it had reported");
    }

    pub fn say(&self, routes: Routes) {
        *self.coordinator.said.lock().unwrap() = Some(routes);
        self.coordinator.changed.notify_waiters();
    }

    // What it heard.

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.coordinator.heard.lock().unwrap()
    }

    pub fn asked(&self) -> u64 {
        self.heard().asked
    }

    pub fn acknowledged(&self) -> Option<Seen> {
        self.heard().report.as_ref().and_then(|report| report.seen.clone())
    }

    pub fn open(&self) -> Vec<(InstanceId, u32)> {
        self.heard().report.iter().flat_map(|r| &r.open).map(|o| (o.id, o.requests)).collect()
    }

    pub fn switches(&self) -> Vec<SwitchCount> {
        self.heard().report.as_ref().map(|report| report.switches.clone()).unwrap_or_default()
    }

    pub fn owed(&self) -> Vec<Reading> {
        self.heard().report.as_ref().map(|report| report.readings.clone()).unwrap_or_default()
    }

    pub fn commit(&self) {
        self.heard().commit = true;
    }

    pub fn lives(&self) -> BTreeSet<Life> {
        self.heard().counts.keys().map(|(life, ..)| life.clone()).collect()
    }

    fn id(&self, name: &str) -> AppId {
        self.apps.iter().find(|app| app.name.as_str() == name).unwrap().app
    }

    pub fn last_count(&self, name: &str) -> u64 {
        self.last_of(name, Meter::Requests)
    }

    fn last_of(&self, name: &str, meter: Meter) -> u64 {
        let id = self.id(name);
        self.heard().counts.iter().filter(|((_, app, of), _)| (*app, *of) == (id, meter)).map(|(_, value)| value).sum()
    }

    /// The bytes of `name`'s answers become `n`, and no more.
    pub fn sent(&self, name: &str, n: u64) {
        assert_eq!(self.sent_at_least(name, n), n, "bytes of {name}");
    }

    /// The bytes of `name`'s answers, of which all are reported.
    pub fn sent_at_least(&self, name: &str, n: u64) -> u64 {
        let told = || self.last_of(name, Meter::BytesOut);
        eventually(&format!("{n} bytes of {name} to be reported, not {}", told()), || told() >= n);
        told()
    }

    /// All samples of `name`.
    pub fn samples(&self, name: &str) -> Vec<Traffic> {
        let id = self.id(name);
        self.heard().samples.iter().filter(|((_, app, _), _)| *app == id).map(|(_, traffic)| traffic.clone()).collect()
    }

    /// The requests reported for `name` become `n`, and no more.
    pub fn counted(&self, name: &str, n: u64) {
        eventually(&format!("{n} requests of {name} to be reported"), || self.last_count(name) >= n);
        assert_eq!(self.last_count(name), n, "requests of {name}");
    }

    /// The requests of `name` that the balancer answered itself since its app did not: from its file.
    pub fn failed(&self, name: &str) -> u64 {
        self.cell(name, 2)
    }

    /// Those that the app answered with 5xx, or broke off.
    pub fn errors(&self, name: &str) -> u64 {
        self.cell(name, 5)
    }

    fn cell(&self, name: &str, word: usize) -> u64 {
        let file = std::fs::read(Path::join(self.dir.path(), "meters")).unwrap();
        let at = |cell: &[u8], n: usize| u64::from_le_bytes(cell[n * 8..n * 8 + 8].try_into().unwrap());
        let id = self.id(name).0 as u64;
        file[4096..].chunks(64).find(|cell| at(cell, 0) == id).map_or(0, |cell| at(cell, word))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
        if let Some((ending, thread)) = self.link.take() {
            ending.cancel();
            let _ = thread.join();
        }
    }
}

const CHILD: &str = "BALANCER_OF_A_TEST";

/// Runs the balancer if this process was started to be one; it ends with who started it.
pub fn child() {
    let Ok(config) = std::env::var(CHILD) else { return };
    let config: Config = serde_json::from_str(&config).unwrap();
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (said, new) = (config.dir.join("address"), config.dir.join("address.new"));
    std::fs::write(&new, listener.local_addr().unwrap().to_string()).unwrap();
    std::fs::rename(new, said).unwrap();
    runtime().block_on(balancer::run(config, vec![listener], || {}, CancellationToken::new())).unwrap();
}
