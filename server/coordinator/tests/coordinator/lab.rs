//! A coordinator with a real PostgreSQL and Redis, and a runner and a balancer that speak its API: what
//! they do is what the tests say.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use commands::{Actor, Commands, Door, NewPush, SignUp, Urls};
use coordinator::{Config, CoordinatorError};
use domain::wire::{
    Ask, Assignments, BalancerReport, BuildReport, BuildState, Committed, InstanceReport, Manifest, OpenRequests,
    Routes, RunnerReport, SwitchCount,
};
use domain::{AppId, AppName, CommitId, InstanceId, InstanceState, Reading, Reason, Sample, Secret, Wanted};
use link::{Caller, Client, LinkError, Role};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub const DEADLINE: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(40);

pub fn token(role: Role) -> Secret<String> {
    Secret::new(format!("token-of-{role:?}"))
}

pub struct Lab {
    pub postgres: harness::Postgres,
    pub redis: harness::Redis,
    pub dir: tempfile::TempDir,
    pub commands: Commands,
    pub actor: Actor,
    seal_key: seal::PrivateKey,
}

impl Lab {
    pub async fn new() -> Self {
        let postgres = harness::postgres().await.unwrap();
        let redis = harness::redis().await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("objects")).unwrap();
        let urls = Urls {
            site: "http://localhost:8080".into(),
            apps_domain: "localhost".into(),
            apps_scheme: "http".into(),
            apps_port: None,
            ssh: "berth@localhost:2222".into(),
        };
        // The owner's role: the doors' own rights are the tests of `commands`.
        let database_url = Secret::new(postgres.url().to_owned());
        let seal_key = seal::PrivateKey::new();
        let commands =
            Commands::connect(commands::Config { database_url, logs: None, urls, seal: Some(seal_key.public()) })
                .await
                .unwrap();
        let password = Secret::new("correct horse battery".to_owned());
        let new = SignUp { name: "Ada".into(), email: "ada@example.com".into(), password: password.clone() };
        commands.sign_up(new, None).await.unwrap();
        let user = commands.sign_in("ada@example.com", &password).await.unwrap();
        let customer = commands.user(user).await.unwrap().customer;
        let actor = Actor { user, customer, door: Door::Ssh, origin: None, key: None };
        Self { postgres, redis, dir, commands, actor, seal_key }
    }

    pub fn config(&self, server: &str) -> Config {
        let caller = |role| Caller { role, uid: 0, token: token(role) };
        Config {
            database_url: Secret::new(self.postgres.url_as("berth_control")),
            redis_url: Secret::new(self.redis.url().to_owned()),
            objects_dir: self.dir.path().join("objects"),
            apps_uid_base: 1 << 21,
            subnet: "10.100.0.0/16".parse().unwrap(),
            server_name: server.to_owned(),
            logs: (self.dir.path().join("logs.sock"), token(Role::Control)),
            callers: vec![caller(Role::Runner), caller(Role::Balancer)],
            releases_kept: 10,
            seal_key: self.seal_key.clone(),
            disk_reserve_bytes: Some(0),
        }
    }

    pub fn coordinator(&self, server: &str) -> Coordinator {
        self.coordinator_with(server, |_| {})
    }

    pub fn coordinator_with(&self, server: &str, change: impl FnOnce(&mut Config)) -> Coordinator {
        let mut config = self.config(server);
        change(&mut config);
        let socket = self.dir.path().join(format!("{server}-{:08x}.sock", fresh()));
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(coordinator::run(config, listener, stop.clone()));
        Coordinator { socket, stop, running }
    }

    pub async fn app(&self, name: &str) -> (AppName, AppId) {
        let name = self.commands.app_create(&self.actor, name).await.unwrap();
        let app = self.commands.push_target(&self.actor, &name).await.unwrap().app;
        (name, app)
    }

    pub async fn push(&self, app: AppId, n: u8, before: Option<u8>) -> i64 {
        let push = NewPush {
            commit: commit(n),
            subject: format!("Change {n}"),
            branch: "main".into(),
            before: before.map(commit),
            source: format!("{n:064x}").parse().unwrap(),
            bundle: None,
        };
        self.commands.deploy_create(&self.actor, app, push).await.unwrap()
    }

    pub async fn deploy(&self, app: &AppName, number: i64) -> commands::DeployView {
        self.commands.deploy(&self.actor, app, number).await.unwrap()
    }

    pub async fn view(&self, app: &AppName) -> commands::AppView {
        self.commands.app(&self.actor, app).await.unwrap()
    }

    pub async fn db(&self) -> store::Db {
        store::Db::open(&Secret::new(self.postgres.url().to_owned()), 2).unwrap()
    }

    /// Moves the branches that wait, as the receiver does.
    pub async fn move_branches(&self) -> usize {
        let moves = self.commands.branch_moves().await.unwrap();
        for one in &moves {
            assert!(self.commands.branch_moved(one.deploy, one.attempt, Ok(())).await.unwrap());
        }
        moves.len()
    }
}

pub fn commit(n: u8) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

fn fresh() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Waits until `look` finds something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come in {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct Coordinator {
    pub socket: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<Result<(), CoordinatorError>>,
}

impl Coordinator {
    pub fn client(&self, role: Role) -> Client {
        Client::new(&self.socket, token(role))
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// As if its process was killed.
    pub fn kill(self) {
        self.running.abort();
    }
}

/// What a test wants of the runner, and what the runner was told.
#[derive(Default)]
pub struct Orders {
    pub assignments: Option<Assignments>,
    /// Builds end so; without one they go on.
    pub build: Option<Result<Manifest, Reason>>,
    /// Instances of this release end so.
    pub broken: Option<(i64, Reason)>,
    /// Nothing becomes healthy meanwhile.
    pub slow: bool,
    pub readings: Vec<Reading>,
    pub samples: Vec<Sample>,
    pub committed: Committed,
    pub silent: bool,
    states: HashMap<InstanceId, InstanceReport>,
}

#[derive(Clone)]
pub struct Runner {
    pub orders: Arc<Mutex<Orders>>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

pub const BOOT: &str = "0f0e0d0c-boot";

pub fn manifest(processes: &[&str]) -> Manifest {
    Manifest {
        processes: processes.iter().map(|p| (p.parse().unwrap(), format!("run {p}"))).collect(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin".to_owned())]),
        buildpack: "static".into(),
        stack: "host".into(),
        bytes: 4096,
        settings: Default::default(),
    }
}

impl Runner {
    pub fn start(coordinator: &Coordinator) -> Self {
        let orders = Arc::new(Mutex::new(Orders { build: Some(Ok(manifest(&["web"]))), ..Orders::default() }));
        let (asking, reporting) = (coordinator.client(Role::Runner), coordinator.client(Role::Runner));
        let ask = {
            let orders = orders.clone();
            async move {
                let mut seen = None;
                loop {
                    let ask = Ask { seen: seen.clone(), wait_ms: 5_000, ..Ask::default() };
                    match asking.post::<Assignments>("/v1/assignments", &ask, CALL).await {
                        Ok(Some(new)) => {
                            seen = Some(new.seen.clone());
                            lock(&orders).assignments = Some(new);
                        }
                        Ok(None) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                }
            }
        };
        let report = {
            let orders = orders.clone();
            async move {
                loop {
                    let report = lock(&orders).step();
                    if let Some(report) = report
                        && let Ok(Some(committed)) = reporting.post::<Committed>("/v1/report", &report, CALL).await
                    {
                        lock(&orders).committed = committed;
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
        };
        let tasks = [AbortOnDropHandle::new(tokio::spawn(ask)), AbortOnDropHandle::new(tokio::spawn(report))];
        Self { orders, _tasks: Arc::new(tasks) }
    }

    pub fn lock(&self) -> MutexGuard<'_, Orders> {
        lock(&self.orders)
    }
}

fn lock(orders: &Mutex<Orders>) -> MutexGuard<'_, Orders> {
    orders.lock().unwrap()
}

impl Orders {
    /// What the runner says next: each instance one step further.
    fn step(&mut self) -> Option<RunnerReport> {
        if self.silent {
            return None;
        }
        let assigned = self.assignments.clone();
        let (instances, builds) = assigned.map(|a| (a.instances, a.builds)).unwrap_or_default();
        self.states.retain(|id, _| instances.iter().any(|i| i.id == *id));
        for spec in &instances {
            let known = self.states.entry(spec.id).or_insert(InstanceReport {
                id: spec.id,
                state: InstanceState::Placed,
                reason: None,
                restarts: 0,
                again_ms: 0,
                last: None,
            });
            known.state = match (spec.wanted, known.state) {
                (Wanted::Stop, _) => InstanceState::Stopped,
                (_, InstanceState::Placed) => InstanceState::Starting,
                (_, InstanceState::Starting) => match &self.broken {
                    Some((release, reason)) if *release == spec.release.0 => {
                        known.reason = Some(reason.clone());
                        InstanceState::Failed
                    }
                    _ if self.slow => InstanceState::Starting,
                    _ if spec.once.is_some() => InstanceState::Done,
                    _ => InstanceState::Healthy,
                },
                (_, other) => other,
            };
        }
        let build = |b: &domain::wire::BuildSpec| BuildReport {
            deploy: b.deploy,
            attempt: b.attempt,
            state: match &self.build {
                None => BuildState::Running,
                Some(Ok(manifest)) => BuildState::Done {
                    image: format!("{:064x}", b.number).parse().unwrap(),
                    manifest: manifest.clone(),
                },
                Some(Err(reason)) => BuildState::Failed { reason: reason.clone() },
            },
        };
        Some(RunnerReport {
            boot_id: BOOT.into(),
            cores: 4,
            memory_bytes: 8 << 30,
            memory_used_bytes: 0,
            seen: None,
            instances: self.states.values().cloned().collect(),
            builds: builds.iter().map(build).collect(),
            readings: self.readings.clone(),
            samples: self.samples.clone(),
            disk: None,
            addresses: BTreeMap::new(),
        })
    }
}

#[derive(Default)]
pub struct Table {
    pub routes: Option<Routes>,
    /// Requests that are open on what left the table.
    pub open: Vec<OpenRequests>,
    pub readings: Vec<Reading>,
    pub samples: Vec<Sample>,
    pub committed: Committed,
    pub switches: Vec<SwitchCount>,
    /// How many reports were taken.
    pub reports: u64,
    /// New tables are not taken.
    pub stuck: bool,
}

#[derive(Clone)]
pub struct Balancer {
    table: Arc<Mutex<Table>>,
    _tasks: Arc<[AbortOnDropHandle<()>; 2]>,
}

impl Balancer {
    pub fn start(coordinator: &Coordinator) -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let (asking, reporting) = (coordinator.client(Role::Balancer), coordinator.client(Role::Balancer));
        let ask = {
            let table = table.clone();
            async move {
                loop {
                    let (seen, stuck) = {
                        let table = table.lock().unwrap();
                        (table.routes.as_ref().map(|r| r.seen.clone()), table.stuck)
                    };
                    if stuck {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    match asking.post::<Routes>("/v1/routes", &Ask { seen, wait_ms: 200, ..Ask::default() }, CALL).await
                    {
                        Ok(Some(new)) => {
                            let mut table = table.lock().unwrap();
                            if !table.stuck {
                                table.routes = Some(new);
                            }
                        }
                        Ok(None) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                }
            }
        };
        let report = {
            let table = table.clone();
            async move {
                loop {
                    let report = {
                        let table = table.lock().unwrap();
                        BalancerReport {
                            seen: table.routes.as_ref().map(|r| r.seen.clone()),
                            open: table.open.clone(),
                            readings: table.readings.clone(),
                            samples: table.samples.clone(),
                            switches: table.switches.clone(),
                            life: None,
                            gone: vec![],
                        }
                    };
                    if let Ok(Some(committed)) = reporting.post::<Committed>("/v1/counts", &report, CALL).await {
                        let mut table = table.lock().unwrap();
                        table.committed = committed;
                        table.reports += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
        };
        let tasks = [AbortOnDropHandle::new(tokio::spawn(ask)), AbortOnDropHandle::new(tokio::spawn(report))];
        Self { table, _tasks: Arc::new(tasks) }
    }

    pub fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap()
    }

    /// Reports these counts, and nothing else of the kind; until the coordinator has taken them.
    pub async fn count(&self, switches: Vec<SwitchCount>) {
        let before = {
            let mut table = self.lock();
            table.switches = switches;
            table.reports
        };
        // The next one may have been on its way.
        until("the counts to be reported", async || (self.lock().reports >= before + 2).then_some(())).await;
    }

    /// The instances that `app` is routed to.
    pub fn routed(&self, app: AppId) -> Vec<InstanceId> {
        let table = self.lock();
        let rows = table.routes.iter().flat_map(|r| &r.apps).filter(|a| a.app == app);
        rows.flat_map(|a| a.instances.iter().map(|i| i.id)).collect()
    }
}

/// The status that a call was refused with.
pub fn status<T: std::fmt::Debug>(answer: Result<T, LinkError>) -> u16 {
    match answer {
        Err(LinkError::Status { status, .. }) => status.as_u16(),
        other => panic!("not refused: {other:?}"),
    }
}
