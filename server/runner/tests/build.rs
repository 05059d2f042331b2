//! Builds against the real runtime, uv and mksquashfs, with a coordinator and a logs role of the
//! test's own on real sockets. Needs root.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use common::Ground;
use domain::wire::{BuildSpec, BuildState, Lines, Manifest};
use domain::{AppId, DeployId, ImageHash, ProcessName, Reason};
use runner::{Builder, Slice};
use tokio_util::sync::CancellationToken;

/// What the other roles were told, and have to give.
#[derive(Default)]
struct Told {
    sources: HashMap<String, Vec<u8>>,
    images: HashMap<String, Vec<u8>>,
    lines: Vec<String>,
}

type Shared = Arc<Mutex<Told>>;

struct Bench {
    ground: Ground,
    builder: Builder,
    told: Shared,
    deploys: i64,
    _stop: tokio_util::sync::DropGuard,
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let output = std::process::Command::new("tar").arg("-C").arg(dir.path()).args(["-cf", "-", "."]).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

impl Bench {
    async fn new() -> Self {
        let ground = Ground::new(&[]).await;
        let slice = Slice::set_up(&ground.config).await.unwrap();
        let told = Shared::default();
        let stop = CancellationToken::new();
        let coordinator = Router::new()
            .route(
                "/v1/objects/sources/{hash}",
                get(|State(told): State<Shared>, Path(hash): Path<String>| async move {
                    told.lock().unwrap().sources.get(&hash).cloned().map(Body::from).ok_or(StatusCode::NOT_FOUND)
                }),
            )
            .route(
                "/v1/objects/images/{hash}",
                put(|State(told): State<Shared>, Path(hash): Path<String>, request: Request| async move {
                    let bytes = to_bytes(request.into_body(), 1 << 30).await.unwrap();
                    told.lock().unwrap().images.insert(hash, bytes.to_vec());
                    StatusCode::NO_CONTENT
                }),
            );
        let logs = Router::new().route(
            "/v1/lines",
            post(|State(told): State<Shared>, Json(lines): Json<Lines>| async move {
                told.lock().unwrap().lines.extend(lines.lines.into_iter().map(|line| line.text));
                StatusCode::NO_CONTENT
            }),
        );
        let config = &ground.config;
        for (router, socket, token) in
            [(coordinator, &config.coordinator, &config.coordinator_token), (logs, &config.logs, &config.logs_token)]
        {
            let caller = link::Caller { role: link::Role::Runner, uid: 0, token: token.clone() };
            let listener = UnixListener::bind(socket).unwrap();
            tokio::spawn(link::serve(listener, router.with_state(told.clone()), vec![caller], stop.clone()));
        }
        let builder = Builder::new(slice, config).unwrap();
        Self { ground, builder, told, deploys: 0, _stop: stop.drop_guard() }
    }

    fn spec(&mut self, source: Vec<u8>) -> BuildSpec {
        self.deploys += 1;
        let hash = "a".repeat(63) + &self.deploys.to_string();
        self.told.lock().unwrap().sources.insert(hash.clone(), source);
        BuildSpec {
            deploy: DeployId(self.deploys),
            attempt: 1,
            app: AppId(7),
            app_name: "shop".parse().unwrap(),
            number: self.deploys,
            source: hash.parse().unwrap(),
            commit: "b".repeat(40).parse().unwrap(),
            branch: "main".to_owned(),
            uids: self.ground.uids(),
            address: self.ground.address(9),
            limits: domain::wire::Limits { disk_bytes: 1 << 30, memory_bytes: 1 << 30, ..self.ground.limits() },
            time_ms: 300_000,
        }
    }

    async fn build(&mut self, source: Vec<u8>) -> Result<(ImageHash, Manifest), Reason> {
        let spec = self.spec(source);
        match self.builder.build(&spec, &CancellationToken::new()).await {
            BuildState::Done { image, manifest } => Ok((image, manifest)),
            BuildState::Failed { reason } => Err(reason),
            BuildState::Running => unreachable!("it ended"),
        }
    }

    fn said(&self) -> String {
        self.told.lock().unwrap().lines.join("\n")
    }
}

#[tokio::test]
async fn the_same_tree_makes_the_same_image() {
    let mut bench = Bench::new().await;
    let source = || tar(&[("index.html", "<h1>hello"), ("css/a.css", "a{}")]);
    let (one, manifest) = bench.build(source()).await.unwrap();
    let (two, _) = bench.build(source()).await.unwrap();
    assert_eq!(one, two);
    assert_eq!(manifest.buildpack, "static");
    assert!(manifest.processes[&ProcessName::web()].contains("berth files --root /app"));
    let told = bench.told.lock().unwrap();
    let image = &told.images[one.as_str()];
    assert_eq!(image.len() as u64, manifest.bytes);
    assert!(image.starts_with(b"hsqs"), "a squashfs file");
}

#[tokio::test]
async fn a_flask_app_is_built_with_its_packages_and_faster_the_second_time() {
    let mut bench = Bench::new().await;
    let app = "from flask import Flask\napp = Flask(__name__)\n";
    let source = || tar(&[("requirements.txt", "flask==3.1.0\ngunicorn==23.0.0\n"), ("app.py", app)]);
    let built = bench.build(source()).await;
    let said = bench.said();
    let (one, manifest) = built.unwrap_or_else(|reason| panic!("{reason}\n{said}"));
    assert_eq!(manifest.processes[&ProcessName::web()], "exec gunicorn --bind \"0.0.0.0:$PORT\" app:app");
    assert!(said.contains("-----> Installing requirements.txt"), "{said}");
    let (two, _) = bench.build(source()).await.unwrap();
    assert_eq!(one, two, "the same tree, the same image");
}

#[tokio::test]
async fn a_build_that_cannot_work_says_why_and_what_to_do() {
    let mut bench = Bench::new().await;
    let reason = bench.build(tar(&[("README", "x")])).await.unwrap_err();
    assert!(reason.message.contains("no buildpack knows this app"), "{reason}");
    let reason =
        bench.build(tar(&[("requirements.txt", "no-such-package-of-berth==9\n"), ("Procfile", "web: x")])).await;
    let reason = reason.unwrap_err();
    assert!(reason.message.contains("packages could not be installed") && reason.hint.is_some(), "{reason}");
    assert!(bench.said().contains("no-such-package-of-berth"), "{}", bench.said());
    let reason = bench.build(b"this is no tar".to_vec()).await.unwrap_err();
    assert!(reason.message.contains("could not be unpacked"), "{reason}");
}

#[tokio::test]
async fn a_hostile_tree_is_refused() {
    let mut bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "").unwrap();
    let pack = || {
        let output =
            std::process::Command::new("tar").arg("-C").arg(dir.path()).args(["-Scf", "-", "."]).output().unwrap();
        output.stdout
    };
    let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let reason = bench.build(pack()).await.unwrap_err();
    assert!(reason.message.contains("4 GiB"), "{reason}");
    std::fs::remove_file(dir.path().join("sparse")).unwrap();
    nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reason = bench.build(pack()).await.unwrap_err();
    assert!(reason.message.contains("named pipe"), "{reason}");
}

#[tokio::test]
async fn a_build_ends_at_its_time_and_when_it_is_called_off() {
    let mut bench = Bench::new().await;
    // A source that never ends: a pipe of zeros would do as well.
    let mut spec = bench.spec(tar(&[("requirements.txt", "flask"), ("Procfile", "web: x")]));
    spec.time_ms = 1;
    let BuildState::Failed { reason } = bench.builder.build(&spec, &CancellationToken::new()).await else {
        panic!("it cannot be done in a millisecond")
    };
    assert!(reason.message.contains("took longer"), "{reason}");
    spec.time_ms = 60_000;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let BuildState::Failed { reason } = bench.builder.build(&spec, &cancel).await else { panic!("it was called off") };
    assert!(reason.message.contains("called off") || reason.message.contains("took longer"), "{reason}");
}
