//! Builds `berth` with all that it carries: the shim, and the site's browser half.
//! They lie in `target/embed`, where `server/berth/build.rs` finds them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::install::{self, For};
use crate::work::{Work, cargo, need_linux, need_root, read, root, run, target};

/// How many steps [`build`] has.
pub const STEPS: usize = 5;

pub fn verb() -> Result<()> {
    let mut work = Work::new(STEPS);
    let berth = build(&mut work, For::Running)?;
    eprintln!("built {} in {}", berth.display(), crate::work::clock(work.elapsed()));
    Ok(())
}

/// Returns the binary's path.
pub fn build(work: &mut Work, purpose: For) -> Result<PathBuf> {
    built(work, purpose, &[], "debug/berth")
}

/// The same, optimised: what is measured.
pub fn build_release(work: &mut Work, purpose: For) -> Result<PathBuf> {
    built(work, purpose, &["--release"], "release/berth")
}

fn built(work: &mut Work, purpose: For, words: &[&str], berth: &str) -> Result<PathBuf> {
    need_linux()?;
    need_root("cargo xtask")?;
    fs::create_dir_all(target()).context("could not make the target directory")?;
    // Two at once would write the embedded files under each other's compiler.
    let lock = File::create(target().join("xtask.lock")).context("could not make the build's lock")?;
    if lock.try_lock().is_err() {
        eprintln!("          waiting for another build in this folder");
        lock.lock().context("could not take the build's lock")?;
    }

    work.step("installing what is missing");
    install::install(purpose)?;
    work.step("building the shim that holds an instance");
    shim()?;
    work.step("building the site's browser half");
    let wasm = frontend()?;
    work.step("binding it");
    bind(&wasm)?;
    work.step("building berth");
    run(cargo().args(["build", "-p", "berth"]).args(words))?;
    Ok(target().join(berth))
}

/// Where `berth` finds what it carries.
pub fn embed() -> PathBuf {
    root().join("target/embed")
}

fn shim() -> Result<()> {
    let triple = install::shim_target();
    run(cargo().args(["build", "-p", "shim", "--profile", "shim", "--target", &triple]))?;
    place(&target().join(&triple).join("shim/shim"), &embed().join("shim"))
}

fn frontend() -> Result<PathBuf> {
    // A directory of its own: it must not wait for, nor share features with, the server's half.
    let front = target().join("front");
    let mut build = cargo();
    build.args(["build", "-p", "frontend", "--lib", "--profile", "wasm-release", "--target", "wasm32-unknown-unknown"]);
    run(build.arg("--target-dir").arg(&front))?;
    Ok(front.join("wasm32-unknown-unknown/wasm-release/frontend.wasm"))
}

fn bind(wasm: &Path) -> Result<()> {
    let site = embed().join("site");
    let new = embed().join("site.new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).context("could not make the folder for the site's files")?;
    run(cargo().args(["run", "--quiet", "-p", "bindgen", "--"]).arg(wasm).arg(&new))?;
    fs::create_dir_all(&site)?;
    let mut made = Vec::new();
    for entry in fs::read_dir(&new)? {
        let entry = entry?;
        place(&entry.path(), &site.join(entry.file_name()))?;
        made.push(entry.file_name());
    }
    for entry in fs::read_dir(&site)?.flatten() {
        if !made.contains(&entry.file_name()) {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir_all(&new).context("could not remove the folder for the site's new files")
}

/// Puts a file there, unless it is there already: its time would make the compiler run.
fn place(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("{} was not built", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = to.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, to))
        .with_context(|| format!("could not write {}", to.display()))
}

/// The compiler's name for this repository's rooms: what cargo says of them.
pub fn metadata() -> Result<harness::Json> {
    let said = read(cargo().args(["metadata", "--no-deps", "--format-version", "1", "--quiet"]))?;
    harness::Json::parse(&said).context("could not read what cargo says of the workspace")
}
