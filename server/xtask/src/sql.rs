//! The checked queries of `store`: a fresh database is migrated, the compiler asks it about each query,
//! and what it learned is kept in `server/store/.sqlx`, so that other builds need no database.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::work::{cargo, need_root, root, run, target};

pub fn verb() -> Result<()> {
    need_root("cargo xtask sql")?;
    let kept = root().join("server/store/.sqlx");
    let fresh = ask()?;
    let old = read(&kept)?;
    fs::create_dir_all(&kept)?;
    for name in old.keys().filter(|name| !fresh.contains_key(*name)) {
        fs::remove_file(kept.join(name))?;
    }
    for (name, text) in &fresh {
        if old.get(name) != Some(text) {
            fs::write(kept.join(name), text)?;
        }
    }
    eprintln!("sql: {} queries are in server/store/.sqlx", fresh.len());
    Ok(())
}

/// Fails when what is kept is not what the migrations and the queries say.
pub fn up_to_date() -> Result<()> {
    let (fresh, kept) = (ask()?, read(&root().join("server/store/.sqlx"))?);
    if fresh != kept {
        bail!("server/store/.sqlx is not up to date: run `cargo xtask sql` and commit what it writes");
    }
    Ok(())
}

/// What the compiler says of all queries now, by file name.
fn ask() -> Result<BTreeMap<String, String>> {
    let database = Database::start()?;
    let answers = target().join("sqlx");
    let _ = fs::remove_dir_all(&answers);
    fs::create_dir_all(&answers)?;

    // The compiler must look again; afterwards the file has its old time, so that nothing else does.
    let lib = root().join("server/store/src/lib.rs");
    let file = File::options().append(true).open(&lib).context("could not open store's lib.rs")?;
    let time = file.metadata()?.modified()?;
    file.set_modified(std::time::SystemTime::now())?;
    let mut check = cargo();
    check.args(["check", "--quiet", "-p", "store"]);
    check.env("BERTH_SQL_URL", &database.url).env("SQLX_OFFLINE", "false").env("SQLX_OFFLINE_DIR", &answers);
    let checked = run(&mut check);
    file.set_modified(time)?;
    checked.context("a query does not fit the migrations")?;
    let said = read(&answers)?;
    fs::remove_dir_all(&answers)?;
    Ok(said)
}

fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") {
            files.insert(name, fs::read_to_string(entry.path())?);
        }
    }
    Ok(files)
}

/// A migrated database, kept by `harness` until its standard input ends.
struct Database {
    child: Child,
    url: String,
}

impl Database {
    fn start() -> Result<Self> {
        run(cargo().args(["build", "--quiet", "-p", "harness", "--bin", "database"]))?;
        let mut child = Command::new(target().join("debug/database"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start harness's database")?;
        let mut url = String::new();
        if let Some(said) = child.stdout.take() {
            BufReader::new(said).read_line(&mut url)?;
        }
        if url.trim().is_empty() {
            child.wait()?;
            bail!("the database for checking queries did not start");
        }
        Ok(Self { child, url: url.trim().to_owned() })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
