//! The runner against the real runtime, with a coordinator and logs of the test's own.

#![allow(clippy::unwrap_used, reason = "a test's helpers")]

mod common;
mod meters;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use common::{Ground, until};
use domain::wire::{
    Ask, Assignments, Committed, CommittedReading, Health, InstanceReport, InstanceSpec, Lines, NewLine, Once,
    Revision, RunnerReport, Seen,
};
use domain::{AppId, ImageHash, InstanceId, InstanceState, ProcessName, ReleaseNumber, ServerId, Wanted};
use link::{Caller, Role};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A coordinator and logs that say what the test wants and note what they are told.
struct Fake {
    told: watch::Sender<Assignments>,
    reports: Mutex<Vec<RunnerReport>>,
    lines: Mutex<Vec<NewLine>>,
    committing: Mutex<bool>,
    images: Mutex<HashMap<ImageHash, Vec<u8>>>,
}

impl Fake {
    fn assign(&self, instances: Vec<InstanceSpec>) {
        self.told.send_modify(|told| {
            told.seen.revision.counter += 1;
            told.instances = instances;
        });
    }

    fn last(&self, id: i64) -> Option<InstanceReport> {
        let reports = self.reports.lock().unwrap();
        reports.last()?.instances.iter().find(|i| i.id == InstanceId(id)).cloned()
    }

    fn state(&self, id: i64) -> Option<InstanceState> {
        self.last(id).map(|r| r.state)
    }

    fn has_line(&self, text: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|l| l.text.contains(text))
    }

    fn cpu(&self, id: i64) -> u64 {
        let reports = self.reports.lock().unwrap();
        let readings = reports.iter().flat_map(|r| &r.readings);
        let of = |r: &&domain::Reading| r.meter == domain::Meter::Cpu && r.life.as_str().contains(&format!("/{id}/"));
        readings.filter(of).map(|r| r.value).max().unwrap_or(0)
    }
}

async fn assignments(State(fake): State<Arc<Fake>>, Json(ask): Json<Ask>) -> Response {
    let mut told = fake.told.subscribe();
    let wait = Duration::from_millis(ask.wait_ms.min(5_000));
    match tokio::time::timeout(wait, told.wait_for(|t| Some(&t.seen) != ask.seen.as_ref())).await {
        Ok(Ok(told)) => Json(told.clone()).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn report(State(fake): State<Arc<Fake>>, Json(report): Json<RunnerReport>) -> Json<Committed> {
    let mut committed = Committed { samples_taken: true, ..Committed::default() };
    if *fake.committing.lock().unwrap() {
        committed.readings = report
            .readings
            .iter()
            .map(|r| CommittedReading {
                life: r.life.clone(),
                app: r.app,
                meter: r.meter,
                hour: r.hour,
                value: r.value,
            })
            .collect();
    }
    fake.reports.lock().unwrap().push(report);
    Json(committed)
}

async fn image(State(fake): State<Arc<Fake>>, Path(hash): Path<ImageHash>) -> Response {
    match fake.images.lock().unwrap().get(&hash) {
        Some(bytes) => Body::from(bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn lines(State(fake): State<Arc<Fake>>, Json(lines): Json<Lines>) -> StatusCode {
    fake.lines.lock().unwrap().extend(lines.lines);
    StatusCode::NO_CONTENT
}

struct World {
    fake: Arc<Fake>,
    runner: Option<(CancellationToken, JoinHandle<Result<(), runner::RunnerError>>)>,
    serving: CancellationToken,
    ground: Ground,
}

impl World {
    async fn new() -> Self {
        let ground = Ground::new(&[]).await;
        let told = Assignments {
            server: ServerId(1),
            seen: Seen { incarnation: 1, revision: Revision { epoch: 1, counter: 1 } },
            instances: vec![],
            builds: vec![],
            images_kept: vec![],
            apps_gone: vec![],
        };
        let fake = Arc::new(Fake {
            told: watch::Sender::new(told),
            reports: Mutex::default(),
            lines: Mutex::default(),
            committing: Mutex::new(true),
            images: Mutex::default(),
        });
        let mut world = Self { fake, runner: None, serving: CancellationToken::new(), ground };
        world.serve();
        world.begin();
        world
    }

    fn serve(&mut self) {
        self.serving = CancellationToken::new();
        let config = &self.ground.config;
        let coordinator = Router::new()
            .route("/v1/assignments", post(assignments))
            .route("/v1/report", post(report))
            .route("/v1/objects/images/{hash}", get(image));
        let logs = Router::new().route("/v1/lines", post(lines));
        for (path, token, router) in
            [(&config.coordinator, &config.coordinator_token, coordinator), (&config.logs, &config.logs_token, logs)]
        {
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path).unwrap();
            let callers = vec![Caller { role: Role::Runner, uid: 0, token: token.clone() }];
            tokio::spawn(link::serve(
                listener,
                router.with_state(Arc::clone(&self.fake)),
                callers,
                self.serving.clone(),
            ));
        }
    }

    fn begin(&mut self) {
        let path = self.ground.dir().join("git.sock");
        let _ = std::fs::remove_file(&path);
        let git = UnixListener::bind(path).unwrap();
        let stop = CancellationToken::new();
        let ends = runner::Ends { leave: stop.clone(), ..runner::Ends::default() };
        let task = tokio::spawn(runner::run(self.ground.config.clone(), git, ends));
        self.runner = Some((stop, task));
    }

    async fn end_runner(&mut self) {
        let (stop, task) = self.runner.take().unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
    }

    /// As `kill -9` would: nothing of it runs on, nothing was told.
    async fn kill_runner(&mut self) {
        let (_, task) = self.runner.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// An image with these files, by the real mksquashfs.
    fn image(&self, files: &[(&str, &str)]) -> ImageHash {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        for (name, text) in files {
            std::fs::write(tree.join(name), text).unwrap();
        }
        let file = dir.path().join("image");
        let uid = self.ground.uids().app.to_string();
        let made = std::process::Command::new("mksquashfs")
            .arg(&tree)
            .arg(&file)
            .args(["-noappend", "-quiet", "-no-progress", "-force-uid", &uid, "-force-gid", &uid, "-no-xattrs"])
            .status()
            .unwrap();
        assert!(made.success());
        let bytes = std::fs::read(file).unwrap();
        let hash = ImageHash::from_digest(<sha2::Sha256 as sha2::Digest>::digest(&bytes).into());
        self.fake.images.lock().unwrap().insert(hash.clone(), bytes);
        hash
    }

    fn spec(&self, id: i64, image: &ImageHash, command: &str) -> InstanceSpec {
        InstanceSpec {
            config: BTreeMap::new(),
            locked: None,
            id: InstanceId(id),
            app: AppId(7),
            app_name: "shop".parse().unwrap(),
            release: ReleaseNumber(1),
            process: ProcessName::web(),
            index: 1,
            wanted: Wanted::Run,
            image: image.clone(),
            command: command.to_owned(),
            env: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            uids: self.ground.uids(),
            address: self.ground.address(u8::try_from(10 + id).unwrap()),
            port: Some(8000),
            limits: self.ground.limits(),
            health: Health { path: None, start_timeout_ms: 20_000 },
            stop_timeout_ms: 2_000,
            once: None,
        }
    }

    async fn healthy(&self, id: i64) {
        until("it is healthy", || self.fake.state(id) == Some(InstanceState::Healthy)).await;
    }

    async fn gone(&self, id: i64) {
        until("it is gone", || self.fake.last(id).is_none_or(|r| r.state == InstanceState::Stopped)).await;
    }
}

const SERVER: &str = "exec python3 -u -m http.server $PORT";

fn ask(address: std::net::Ipv4Addr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 8000)), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn get_path(address: std::net::Ipv4Addr, path: &'static str) -> String {
    tokio::task::spawn_blocking(move || ask(address, path)).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_serves_logs_counts_and_stops() {
    let mut world = World::new().await;
    let image = world.image(&[("index.html", "it answers")]);
    let spec = world.spec(1, &image, &format!("echo $GREETING; touch new; {SERVER}"));
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    assert!(get_path(spec.address, "/index.html").await.ends_with("it answers"));
    until("its lines arrive", || world.fake.has_line("hello")).await;
    until("its request's line arrives", || world.fake.has_line("GET /index.html")).await;
    let first = world.fake.lines.lock().unwrap()[0].clone();
    assert_eq!((first.position, first.source.as_str()), (1, "web.1"));
    until("its CPU time arrives", || world.fake.cpu(1) > 0).await;

    world.fake.assign(vec![InstanceSpec { wanted: Wanted::Stop, ..spec }]);
    until("it is stopped", || world.fake.state(1) == Some(InstanceState::Stopped)).await;
    world.fake.assign(vec![]);
    world.gone(1).await;
    world.end_runner().await;
    // The last value is what the kernel's counter ended with, and nothing is owed any more.
    let owed = std::fs::read_to_string(world.ground.config.data_dir.join("spool/readings")).unwrap();
    let last = owed.lines().last().and_then(|l| serde_json::from_str::<domain::Reading>(l).ok()).unwrap();
    assert_eq!(last.value, world.fake.cpu(1));
    runner::leave_nothing(&world.ground.config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_killed_takes_no_app_and_no_line_with_it() {
    let mut world = World::new().await;
    let image = world.image(&[("index.html", "x")]);
    let count = "python3 -u -c 'import time\nfor n in range(100000): print(\"line\", n); time.sleep(0.002)' & ";
    let spec = world.spec(1, &image, &format!("{count}{SERVER}"));
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    world.kill_runner().await;
    for _ in 0..20 {
        assert!(get_path(spec.address, "/").await.starts_with("HTTP/1.0 200"));
    }
    world.begin();
    let before = world.fake.reports.lock().unwrap().len();
    until("it is adopted", || {
        world.fake.reports.lock().unwrap().len() > before && world.fake.state(1) == Some(InstanceState::Healthy)
    })
    .await;
    assert_eq!(world.fake.last(1).unwrap().restarts, 0);
    let highest = || world.fake.lines.lock().unwrap().iter().map(|l| l.position).max().unwrap_or(0);
    let then = highest();
    until("lines go on", || highest() > then + 200).await;
    let mut positions: Vec<u64> = world.fake.lines.lock().unwrap().iter().map(|l| l.position).collect();
    positions.sort_unstable();
    positions.dedup();
    assert!(positions.iter().copied().eq(1..=positions.len() as u64), "a line is missing");
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_told_and_started_again_and_its_meter_goes_on() {
    let world = World::new().await;
    let image = world.image(&[]);
    let spec = world.spec(1, &image, SERVER);
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    until("its CPU time arrives", || world.fake.cpu(1) > 0).await;
    let cpu = world.fake.cpu(1);
    world.ground.kill_all("i1");
    until("the crash is told", || world.fake.last(1).is_some_and(|r| r.restarts == 1)).await;
    world.healthy(1).await;
    until("its line arrives", || world.fake.has_line("web.1 was ended by signal 9")).await;
    until("its meter goes on", || world.fake.cpu(1) > cpu).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_fails_with_the_reason() {
    let world = World::new().await;
    let image = world.image(&[]);
    let mut memory = world.spec(1, &image, "exec python3 -c 'x = bytearray(300 << 20)'");
    memory.limits.memory_bytes = 64 << 20;
    let loopback = world.spec(2, &image, "exec python3 -m http.server -b 127.0.0.1 $PORT");
    let mut other = world.spec(3, &image, "exec python3 -m http.server 5000");
    other.health.start_timeout_ms = 3_000;
    let mut code = world.spec(4, &image, "echo no such module >&2; exit 7");
    code.process = "worker".parse().unwrap();
    code.port = None;
    let mut sick = world.spec(5, &image, SERVER);
    sick.health = Health { path: Some("/missing".to_owned()), start_timeout_ms: 2_000 };
    world.fake.assign(vec![memory, loopback, other, code, sick]);
    for (id, reason) in [
        (1, "web.1 ran out of memory (64 MiB); make it use less memory, or give it more"),
        (2, "web listens only on 127.0.0.1; bind to 0.0.0.0:$PORT"),
        (3, "web listens on port 5000, not on $PORT (8000); read the port from the environment variable PORT"),
        (4, "worker.1 ended with code 7: no such module"),
        (
            5,
            "web was not healthy within 2 s: GET /missing answered 404; answer /missing with a status below 400, or change `web.health` in berth.toml",
        ),
    ] {
        until(reason, || world.fake.state(id) == Some(InstanceState::Failed)).await;
        assert_eq!(world.fake.last(id).unwrap().reason.unwrap().to_string(), reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_coordinator_everything_goes_on_and_lines_wait() {
    let mut world = World::new().await;
    let image = world.image(&[("index.html", "x")]);
    let spec = world.spec(1, &image, SERVER);
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    world.serving.cancel();
    world.end_runner().await;
    for path in [&world.ground.config.coordinator, &world.ground.config.logs] {
        let _ = std::fs::remove_file(path);
    }
    world.begin();
    assert!(get_path(spec.address, "/?while=away").await.starts_with("HTTP/1.0 200"));
    let spool = world.ground.config.data_dir.join("spool/lines/i1");
    until("the line is spooled", || world.ground.lines(&spool).iter().any(|l| l.2.contains("while=away"))).await;
    assert!(!world.fake.has_line("while=away"));
    world.serve();
    until("the line arrives", || world.fake.has_line("while=away")).await;

    // An empty list and an older one are refused.
    let seen = world.fake.told.borrow().seen.clone();
    world.fake.assign(vec![]);
    world.fake.told.send_modify(|told| told.seen.incarnation -= 1);
    let before = world.fake.reports.lock().unwrap().len();
    until("it reports on", || world.fake.reports.lock().unwrap().len() > before + 1).await;
    assert_eq!(world.fake.state(1), Some(InstanceState::Healthy));
    assert_eq!(world.fake.reports.lock().unwrap().last().unwrap().seen, Some(seen));
    assert!(get_path(spec.address, "/").await.starts_with("HTTP/1.0 200"));
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_what_its_hash_says_is_never_mounted() {
    let world = World::new().await;
    let image = world.image(&[]);
    if let Some(bytes) = world.fake.images.lock().unwrap().get_mut(&image) {
        bytes.push(0);
    }
    world.fake.assign(vec![world.spec(1, &image, SERVER)]);
    until("it fails", || world.fake.state(1) == Some(InstanceState::Failed)).await;
    let reason = world.fake.last(1).unwrap().reason.unwrap().to_string();
    assert!(reason.contains("what came has the hash"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_ends_what_no_assignment_explains() {
    let mut world = World::new().await;
    let image = world.image(&[]);
    let (one, two) = (world.spec(1, &image, SERVER), world.spec(2, &image, SERVER));
    world.fake.assign(vec![one.clone(), two]);
    world.healthy(1).await;
    world.healthy(2).await;
    world.end_runner().await;
    world.fake.assign(vec![one]);
    world.begin();
    world.gone(2).await;
    until("its group is gone", || !world.ground.left().iter().any(|l| l.contains("apps/i2"))).await;
    world.healthy(1).await;
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_ended_while_no_runner_looked_is_started_again_and_told() {
    let mut world = World::new().await;
    let image = world.image(&[]);
    let spec = world.spec(1, &image, &format!("echo begun >&2; {SERVER}"));
    world.fake.assign(vec![spec]);
    world.healthy(1).await;
    world.end_runner().await;
    world.ground.kill_all("i1");
    world.begin();
    until("the crash is told", || world.fake.last(1).is_some_and(|r| r.restarts == 1)).await;
    world.healthy(1).await;
    until("its line arrives", || world.fake.has_line("web.1 was ended by signal 9")).await;

    // And a shim that somebody killed: nobody saw the end, nothing is left, it starts again.
    let state = std::fs::read_to_string(world.ground.config.run_dir.join("units/i1/shim")).unwrap();
    let shim: i32 = state.split(' ').next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the second one is told", || world.fake.last(1).is_some_and(|r| r.restarts == 2)).await;
    world.healthy(1).await;
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_goes_though_another_process_saw_it_in_a_mount_namespace_of_its_own() {
    let world = World::new().await;
    let image = world.image(&[]);
    let spec = world.spec(1, &image, SERVER);
    world.fake.assign(vec![spec.clone()]);
    world.healthy(1).await;
    let mut other = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "slave", "sleep", "100"])
        .spawn()
        .unwrap();
    until("it has its own", || {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        of(&other.id().to_string()) != of("self")
    })
    .await;
    world.fake.assign(vec![InstanceSpec { wanted: Wanted::Stop, ..spec }]);
    world.gone(1).await;
    let here = world.ground.dir().to_string_lossy().into_owned();
    until("no loop device is left", || !world.ground.left().iter().any(|l| l.starts_with("/sys/block"))).await;
    let seen = std::fs::read_to_string(format!("/proc/{}/mountinfo", other.id())).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(!seen.lines().any(|l| l.contains(&here) && l.contains("squashfs")), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_may_be_killed_at_any_moment_of_a_start() {
    let mut world = World::new().await;
    let image = world.image(&[("index.html", "x")]);
    for n in 1..=12 {
        let spec = world.spec(n, &image, SERVER);
        world.fake.assign(vec![spec.clone()]);
        // Somewhere between the assignment and the first check: the moment is what is tried.
        tokio::time::sleep(Duration::from_millis(15 * u64::try_from(n).unwrap())).await;
        world.kill_runner().await;
        world.fake.reports.lock().unwrap().clear();
        world.begin();
        world.healthy(n).await;
        let answer = get_path(spec.address, "/").await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{n}: {answer:?} {:?}", world.fake.last(n));
        assert!(world.fake.last(n).unwrap().restarts <= 1);
    }
    // The former ones ended, each with a last reading.
    until("only the last one is left", || {
        let left = world.ground.left();
        (1..12)
            .all(|n| !left.iter().any(|l| l.ends_with(&format!("/units/i{n}/app")) || l.contains(&format!("i{n}/c"))))
    })
    .await;
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_start_at_once_as_there_are_cores() {
    let mut world = World::new().await;
    let image = world.image(&[]);
    // It takes its time to listen, and says from when to when.
    let slow =
        "python3 -u -c 'import time\nprint(\"from\", time.time()); time.sleep(0.4); print(\"to\", time.time())'; ";
    let cores = std::thread::available_parallelism().unwrap().get();
    let count = i64::try_from(cores * 3).unwrap();
    world.fake.assign((1..=count).map(|n| world.spec(n, &image, &format!("{slow}{SERVER}"))).collect());
    for n in 1..=count {
        world.healthy(n).await;
    }
    let said = |word: &str| -> Vec<f64> {
        let lines = world.fake.lines.lock().unwrap();
        lines.iter().filter_map(|l| l.text.strip_prefix(word)?.trim().parse().ok()).collect()
    };
    until("all have said so", || said("to ").len() == usize::try_from(count).unwrap()).await;
    let (from, to) = (said("from "), said("to "));
    // At each beginning: those that had begun and had not come to listen.
    let at_once = from.iter().map(|t| from.iter().filter(|f| *f <= t).count() - to.iter().filter(|f| *f < t).count());
    let most = at_once.max().unwrap();
    assert_eq!(most, cores, "{most} started at once on {cores} cores");
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_one_sandbox_also_when_two_are_told_to_have_it() {
    let mut world = World::new().await;
    let image = world.image(&[]);
    let slow = "trap \"sleep 1; exit\" TERM; python3 -u -m http.server $PORT & wait";
    let first = world.spec(1, &image, slow);
    world.fake.assign(vec![first.clone()]);
    world.healthy(1).await;
    let second = InstanceSpec { address: first.address, ..world.spec(2, &image, SERVER) };
    world.fake.assign(vec![second]);
    world.healthy(2).await;
    world.gone(1).await;
    assert!(get_path(first.address, "/").await.starts_with("HTTP/1.0 200"));
    assert_eq!(world.fake.last(2).unwrap().restarts, 0);
    world.end_runner().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_run_once_runs_once_whatever_becomes_of_its_runner() {
    let mut world = World::new().await;
    let image = world.image(&[("x", "x")]);
    let once = |world: &World, id: i64, command: &str, time_ms: u64| InstanceSpec {
        process: "release".parse().unwrap(),
        port: None,
        once: Some(Once { time_ms }),
        ..world.spec(id, &image, command)
    };
    let ended = |world: &World, id: i64| world.fake.last(id).filter(|r| r.state.is_gone());
    let mut specs = vec![
        once(&world, 1, "echo migrated", 20_000),
        once(&world, 2, "echo no such table; exit 3", 20_000),
        once(&world, 3, "sleep 60", 500),
    ];
    world.fake.assign(specs.clone());
    until("all have ended", || (1..=3).all(|id| ended(&world, id).is_some())).await;
    let said = |world: &World, id: i64| {
        let report = ended(world, id).unwrap();
        (report.state, report.reason.map(|r| r.message).unwrap_or_default())
    };
    assert_eq!(said(&world, 1), (InstanceState::Done, String::new()));
    assert_eq!(said(&world, 2), (InstanceState::Failed, "`release` ended with code 3: no such table".to_owned()));
    assert_eq!(said(&world, 3), (InstanceState::Failed, "`release` did not end within 0 s".to_owned()));
    // Its end is told when its lines are there.
    assert!(world.fake.has_line("migrated") && world.fake.has_line("-----> Running release: echo migrated"));

    // Killed while it runs: the next runner takes it over, and it goes on.
    specs =
        vec![once(&world, 4, "echo begun; sleep 0.5; echo waits; while [ ! -e /app/go ]; do sleep 0.05; done", 20_000)];
    world.fake.assign(specs.clone());
    until("it runs", || world.fake.lines.lock().unwrap().iter().any(|l| l.text == "waits")).await;
    world.kill_runner().await;
    world.begin();
    std::fs::write(world.ground.config.run_dir.join("units/i4/app/go"), "").unwrap();
    until("it has ended", || ended(&world, 4).is_some()).await;
    assert_eq!(said(&world, 4), (InstanceState::Done, String::new()));
    // Lines may come again after a kill, each under its position.
    let begun: std::collections::BTreeSet<u64> =
        world.fake.lines.lock().unwrap().iter().filter(|l| l.text == "begun").map(|l| l.position).collect();
    assert_eq!(begun.len(), 1);

    // All that a runner knows of it is gone, as after a loss of power: it is not begun again.
    world.fake.assign(vec![]);
    until("it is forgotten", || !world.ground.config.data_dir.join("once/i4").exists()).await;
    world.end_runner().await;
    std::fs::write(world.ground.config.data_dir.join("once/i5"), "").unwrap();
    world.fake.assign(vec![once(&world, 5, "echo twice", 20_000)]);
    world.begin();
    until("it is refused", || ended(&world, 5).is_some()).await;
    let (state, why) = said(&world, 5);
    assert!(state == InstanceState::Failed && why.contains("nobody knows how far it came"), "{why}");
    assert!(!world.fake.has_line("twice"));
    world.fake.assign(vec![]);
    world.gone(5).await;
    world.end_runner().await;
    runner::leave_nothing(&world.ground.config).await.unwrap();
}
