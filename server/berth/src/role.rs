//! A role's own process, from its first instruction to its end.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::child::{ALIVE, FIRST, Handed, Log, SETTINGS};
use crate::wiring;

/// After the supervisor's end a role may finish what it has, but not for long.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

type Boxed = Box<dyn Error + Send + Sync>;

pub fn role(name: &str) -> Result<(), Boxed> {
    // Before anything secret is read: nobody of the same user may look into this process.
    // SAFETY: a system call on this process only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let mut text = Vec::new();
    File::from(inherited(SETTINGS)?).read_to_end(&mut text)?;
    let handed: Handed = serde_json::from_slice(&text)?;
    if handed.role != name {
        return Err(format!("settings of {} were handed to {name}", handed.role).into());
    }
    log(&handed.log);

    let stop = CancellationToken::new();
    watch_supervisor(inherited(ALIVE)?, stop.clone());
    let mut descriptors = Vec::new();
    for at in 0..handed.descriptors {
        descriptors.push(inherited(FIRST + at as RawFd)?);
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let ending = stop.clone();
        let watching = async move {
            terminate.recv().await;
            ending.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = wiring::run(name, handed.config, descriptors, stop) => done,
            () = watching => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    if let Err(cause) = &done {
        error!(role = name, "{name} ended: {}", crate::chain(&**cause));
        std::process::exit(1);
    }
    Ok(())
}

/// A descriptor that the supervisor gave.
fn inherited(fd: RawFd) -> Result<OwnedFd, Boxed> {
    // SAFETY: asks whether the descriptor is open; the supervisor gave it to this process alone.
    unsafe {
        if libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
            return Err("a role is started by `berth up` only".into());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A thread of its own: it must see the end also when the runtime hangs.
fn watch_supervisor(alive: OwnedFd, stop: CancellationToken) {
    std::thread::spawn(move || {
        let _ = File::from(alive).read(&mut [0]);
        stop.cancel();
        std::thread::sleep(ORPHAN_TIMEOUT);
        std::process::exit(70);
    });
}

pub fn log(log: &Log) {
    // Before what was asked for, which so may say otherwise: PostgreSQL's notices are no news.
    let asked = format!("sqlx::postgres::notice=warn,{}", log.filter);
    let filter = EnvFilter::try_new(asked).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.json {
        true => builder.json().flatten_event(true).init(),
        false => builder.with_target(false).init(),
    }
}

/// In a static app's sandbox.
pub fn files(root: PathBuf, port: u16) -> Result<(), Boxed> {
    let release = std::env::var("BERTH_RELEASE").unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(files::run(files::Config { root, port, release }))?)
}
