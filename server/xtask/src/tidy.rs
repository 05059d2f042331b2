//! Holds the rooms against the map: which may know which, which outside crate has one home, which
//! compile to WASM, and that a person finds each of them.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::build::metadata;
use crate::work::{cargo, read, root};

/// What each room may know. An arrow that is not here is a change of the design: it comes with its
/// reason in the commit message.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("plan", &["domain"]),
    ("link", &["domain"]),
    ("shim", &[]),
    ("files", &[]),
    ("store", &["domain"]),
    ("objects", &["domain"]),
    ("seal", &["domain"]),
    ("commands", &["domain", "link", "plan", "seal", "store"]),
    ("coordinator", &["domain", "link", "objects", "plan", "seal", "store"]),
    ("stats", &["domain", "plan", "store"]),
    ("mail", &["domain", "store"]),
    ("billing", &["domain", "plan", "store"]),
    ("logs", &["domain", "link", "plan"]),
    ("runner", &["domain", "link", "plan"]),
    ("balancer", &["domain", "link", "plan"]),
    ("receiver", &["commands", "domain", "link", "objects", "plan"]),
    ("islands", &["domain", "plan"]),
    ("frontend", &["islands"]),
    ("app", &["commands", "domain", "islands", "plan"]),
    ("web", &["app", "commands", "domain", "link", "plan"]),
    (
        "berth",
        &[
            "balancer",
            "billing",
            "commands",
            "coordinator",
            "domain",
            "files",
            "link",
            "logs",
            "mail",
            "objects",
            "plan",
            "receiver",
            "runner",
            "seal",
            "stats",
            "store",
            "web",
        ],
    ),
    ("bindgen", &[]),
    ("xtask", &["harness"]),
    ("harness", &[]),
];

/// Outside crates that only these know. (`domain` derives columns' types, by a feature of store's.)
const HOMES: &[(&str, &[&str])] = &[
    ("sqlx", &["store", "domain", "harness"]),
    ("russh", &["receiver"]),
    ("httparse", &["balancer"]),
    ("object_store", &["objects"]),
    ("argon2", &["commands"]),
    ("crypto_box", &["seal"]),
    ("lettre", &["mail"]),
    ("plotters", &["app"]),
    ("plotters-backend", &["app"]),
    ("leptos", &["app", "islands", "frontend"]),
    ("wasm-bindgen-cli-support", &["bindgen"]),
];

/// Rooms without IO, clock or randomness.
const PURE: &[&str] = &["domain", "plan"];

/// Above this a file is two files.
const LINES_MAX: usize = 700;

pub fn verb() -> Result<()> {
    tidy()?;
    eprintln!("tidy: all holds");
    Ok(())
}

pub fn tidy() -> Result<()> {
    let mut wrong = Vec::new();
    arrows(&mut wrong)?;
    lines(&root(), &mut wrong)?;
    map(&mut wrong)?;
    if !wrong.is_empty() {
        bail!("tidy found {}:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    let mut pure = cargo();
    pure.args(["check", "--quiet", "--target", "wasm32-unknown-unknown"]);
    for room in PURE {
        pure.args(["-p", room]);
    }
    read(&mut pure)?;
    Ok(())
}

fn arrows(wrong: &mut Vec<String>) -> Result<()> {
    let metadata = metadata()?;
    let mut seen = Vec::new();
    for package in metadata.at("packages").list() {
        let name = package.at("name").text();
        seen.push(name.to_owned());
        let Some((_, may)) = ROOMS.iter().find(|(room, _)| *room == name) else {
            wrong.push(format!("{name} is no room that the map knows (ROOMS, in xtask's tidy.rs)"));
            continue;
        };
        for dependency in package.at("dependencies").list() {
            // What only tests need may look anywhere.
            if dependency.at("kind").text() == "dev" {
                continue;
            }
            let needs = dependency.at("name").text();
            let ours = ROOMS.iter().any(|(room, _)| *room == needs) && dependency.at("path").text() != "";
            if ours && !may.contains(&needs) {
                wrong.push(format!("{name} must not know {needs}"));
            }
            if let Some((_, homes)) = HOMES.iter().find(|(outside, _)| *outside == needs)
                && !homes.contains(&name)
            {
                wrong.push(format!("{name} must not use {needs}, whose home is {}", homes[0]));
            }
        }
    }
    for (room, _) in ROOMS {
        if !seen.iter().any(|name| name == room) {
            wrong.push(format!("the room {room} is gone, and still in the map"));
        }
    }
    Ok(())
}

fn lines(folder: &Path, wrong: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                lines(&path, wrong)?;
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path)?;
            let count = text.lines().count();
            if count > LINES_MAX {
                wrong.push(format!("{} has {count} lines; more than {LINES_MAX} are two files", path.display()));
            }
            let opens = text.lines().next().unwrap_or_default();
            let is_room = matches!(name.as_str(), "lib.rs" | "main.rs");
            if is_room && (!opens.starts_with("//!") || opens.trim() == "//!") {
                wrong.push(format!("{} does not say what its room is for", path.display()));
            }
        }
    }
    Ok(())
}

fn map(wrong: &mut Vec<String>) -> Result<()> {
    let map = fs::read_to_string(root().join("server/README.md")).unwrap_or_default();
    for (room, _) in ROOMS {
        if !map.contains(&format!("`{room}`")) && !map.contains(&format!("`{room}/`")) {
            wrong.push(format!("server/README.md, the map, does not name `{room}`"));
        }
    }
    Ok(())
}
