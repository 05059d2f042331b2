//! `berth restore accept`: the operator says that a database that came back older counts from now on.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use commands::Commands;

use crate::cli::{Restore, RestoreVerb};
use crate::user::as_owner;

type Boxed = Box<dyn Error + Send + Sync>;

pub fn restore(asked: &Restore) -> Result<(), Boxed> {
    match &asked.verb {
        RestoreVerb::AcceptRows { at } => {
            let config = as_owner(&at.data)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let incarnation = runtime.block_on(async { Commands::connect(config).await?.restore_accept().await })?;
            println!("the database is incarnation {incarnation} from now on");
            Ok(())
        }
        RestoreVerb::Accept { at } => {
            // Root's part comes after, in this process: the rows are changed as the database's owner.
            let mut rows = Command::new("/proc/self/exe");
            let status = rows.args(["restore", "accept-rows", "--data"]).arg(&at.data).status()?;
            if !status.success() {
                return Err("nothing was changed".into());
            }
            forget_repositories(&at.data.join("repos"))
        }
    }
}

/// They are caches, and may be ahead of the database: each is made again from the object store when it is
/// asked for.
fn forget_repositories(repos: &Path) -> Result<(), Boxed> {
    forget(repos).map_err(|cause| {
        let repos = repos.display();
        format!("the database counts, but old repositories are still there ({cause}): remove all that is in {repos}")
            .into()
    })
}

fn forget(repos: &Path) -> io::Result<()> {
    for entry in fs::read_dir(repos)?.collect::<Result<Vec<_>, _>>()? {
        let path = entry.path();
        let is_app = entry.file_name().to_str().is_some_and(|name| name.parse::<i64>().is_ok());
        if !is_app || !entry.file_type()?.is_dir() {
            continue;
        }
        // At once out of its place: half a repository must not be taken for one.
        let old = path.with_extension("old");
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        fs::rename(&path, &old)?;
        fs::remove_dir_all(&old)?;
    }
    Ok(())
}
