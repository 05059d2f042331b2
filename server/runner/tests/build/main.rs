//! Builds against the real runtime, uv, npm and mksquashfs. Needs root.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod node;
mod python;

use bench::{Bench, tar};
use domain::ProcessName;
use domain::wire::BuildState;
use tokio_util::sync::CancellationToken;

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
