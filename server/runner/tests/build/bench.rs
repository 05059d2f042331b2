//! A builder with a coordinator and a logs role of the test's own on real sockets.

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use domain::wire::{BuildSpec, BuildState, Lines, Manifest};
use domain::{AppId, DeployId, ImageHash, ProcessName, Reason};
use runner::{Builder, Slice};
use tokio_util::sync::CancellationToken;

use crate::common::Ground;

/// What the other roles were told, and have to give.
#[derive(Default)]
pub struct Told {
    pub sources: HashMap<String, Vec<u8>>,
    pub images: HashMap<String, Vec<u8>>,
    pub lines: Vec<String>,
}

pub type Shared = Arc<Mutex<Told>>;

pub struct Bench {
    pub ground: Ground,
    pub builder: Builder,
    pub told: Shared,
    deploys: i64,
    _stop: tokio_util::sync::DropGuard,
}

pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
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

/// A sample app as it is committed.
pub fn sample(name: &str) -> Vec<u8> {
    let apps = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../end2end/apps");
    let output = std::process::Command::new("tar")
        .arg("-C")
        .arg(apps.join(name))
        .args(["--exclude=node_modules", "--exclude=__pycache__", "-cf", "-", "."])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

impl Bench {
    pub async fn new() -> Self {
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

    pub fn spec(&mut self, source: Vec<u8>) -> BuildSpec {
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

    pub async fn build(&mut self, source: Vec<u8>) -> Result<(ImageHash, Manifest), Reason> {
        let spec = self.spec(source);
        match self.builder.build(&spec, &CancellationToken::new()).await {
            BuildState::Done { image, manifest } => Ok((image, manifest)),
            BuildState::Failed { reason } => Err(reason),
            BuildState::Running => unreachable!("it ended"),
        }
    }

    pub fn said(&self) -> String {
        self.told.lock().unwrap().lines.join("\n")
    }

    /// Builds it with a cold cache and with a warm one, and sees that nothing tells them apart.
    pub async fn build_twice(&mut self, source: Vec<u8>) -> Built {
        let one = self.build(source.clone()).await;
        let said = self.said();
        let (image, manifest) = one.unwrap_or_else(|reason| panic!("{reason}\n{said}"));
        let files = self.files(&image);
        let (again, _) = self.build(source).await.unwrap_or_else(|reason| panic!("{reason}\n{}", self.said()));
        assert_eq!(files, self.files(&again));
        assert_eq!(image, again, "the same tree, the same image");
        Built { manifest, said, files }
    }

    /// A build that fails; why, and what it printed.
    pub async fn refused(&mut self, source: Vec<u8>, message: &str, hint: &str) -> String {
        let result = self.build(source).await;
        let said = self.said();
        let Err(reason) = result else { panic!("it was built:\n{said}") };
        assert!(reason.message.contains(message), "{reason}\n{said}");
        assert!(reason.hint.as_deref().unwrap_or_default().contains(hint), "{reason}\n{said}");
        said
    }

    /// Paths, owners and sizes in an image, one a line.
    fn files(&self, image: &ImageHash) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.told.lock().unwrap().images[image.as_str()]).unwrap();
        let output =
            std::process::Command::new("unsquashfs").args(["-ll", "-d", ""]).arg(file.path()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

pub struct Built {
    pub manifest: Manifest,
    pub said: String,
    files: String,
}

impl Built {
    pub fn web(&self) -> &str {
        &self.manifest.processes[&ProcessName::web()]
    }

    pub fn has(&self, path: &str) -> bool {
        self.files.lines().any(|line| line.ends_with(&format!(" {path}")))
    }

    pub fn holds_below(&self, path: &str) -> bool {
        self.files.lines().any(|line| line.contains(path))
    }
}
