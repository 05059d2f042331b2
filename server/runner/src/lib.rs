//! Keeps a server's instances as the coordinator wants them, and builds images.
//!
//! Knows: this server's assignments, its own sandboxes, the spool on disk. Runs as root, so it is
//! small and parses nothing that a customer wrote.
//! Never: opens a database, decides a placement, or kills an instance because it lost contact.
//! Start reading at `converge::Converge::adopt`, then `instance::Instance::live`, then `sandbox::Slice`.

mod build;
mod bundle;
mod cgroup;
mod converge;
mod counters;
mod disk;
mod git;
mod health;
mod images;
mod instance;
mod last;
mod lines;
mod meters;
mod mount;
mod net;
mod once;
mod orders;
mod process;
mod sandbox;
mod seat;
mod seccomp;
mod skeleton;
mod told;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use domain::Secret;
use domain::wire::DiskReport;
use ipnet::Ipv4Net;
use link::Client;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::converge::{Builds, Converge, Stores};
use self::disk::{Disk, Keeper};
use self::health::Probe;
use self::images::Images;
use self::instance::Server;
use self::lines::Lines;
use self::meters::Meters;
use self::orders::Orders;

pub use self::build::Builder;
pub use self::bundle::{Bind, BindAccess, Program};
pub use self::git::{Git, GitConfig, GitError};
pub use self::net::{Counted, Kind};
pub use self::sandbox::runtimes;
pub use self::sandbox::{Exit, Output, Sandbox, SandboxError, Slice, Spec, Tie, leave_nothing};
pub use self::seccomp::file as seccomp_file;
pub use self::told::counters_of;

/// What a runner is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Names all that the kernel shares: table and cgroup `berth-<n>`, links `b<n>x…`.
    pub slice: u32,
    /// The runner's own part of the data directory: images, spools.
    pub data_dir: PathBuf,
    /// Becomes a tmpfs: bundles, mounts, the root under sandboxes.
    pub run_dir: PathBuf,
    /// The shim's program, readable and executable for all (its directories too).
    pub shim: PathBuf,
    /// An OCI runtime; `None`: crun, else runc, where they are installed.
    pub runtime: Option<PathBuf>,
    /// Instances' and builds' addresses; the first is the gateway.
    pub subnet: Ipv4Net,
    /// Package indexes and proxies that builds may reach though they are on a private network.
    pub exceptions: Vec<Ipv4Net>,
    /// The balancer's ports, which apps may reach on this server.
    pub public_ports: Vec<u16>,
    /// What apps may use together; `None`: the server's memory less 1 GiB.
    pub memory_bytes: Option<u64>,
    /// Makes the request of a health check with a path.
    pub probe_uid: u32,
    pub coordinator: PathBuf,
    pub coordinator_token: Secret<String>,
    pub logs: PathBuf,
    pub logs_token: Secret<String>,
    pub log_rate: LogRate,
    /// What stays free of the disk that `data_dir` is on; `None`: by its size.
    #[serde(default)]
    pub disk_reserve_bytes: Option<u64>,
    /// Bound read-only at `/opt/berth`: `uv` for builds, `berth` for static apps.
    pub tools_dir: PathBuf,
    /// The operator's package settings (indexes, proxies, certificates), passed to builds.
    pub build_env: BTreeMap<String, String>,
    pub git: GitConfig,
}

/// What one sandbox may print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRate {
    pub lines_per_second: u32,
    pub bytes_per_second: u32,
    /// What may wait on disk while logs is away.
    pub spool_bytes_max: u64,
}

impl Default for LogRate {
    fn default() -> Self {
        Self { lines_per_second: 1_000, bytes_per_second: 1 << 20, spool_bytes_max: 32 << 20 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    #[error("the runner cannot work on this server")]
    Sandbox(#[from] SandboxError),
    #[error("the runner cannot serve git")]
    Git(#[from] GitError),
    #[error("the runner cannot use {what} in its data directory")]
    Data {
        what: &'static str,
        #[source]
        cause: std::io::Error,
    },
    #[error("{part} ended unasked")]
    Ended { part: &'static str },
}

const CONVERGING: &str = "converging";

/// How a runner is told to end.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// Now; instances go on without it.
    pub leave: CancellationToken,
    /// Likewise, as soon as no build and no git sandbox runs: these end with their runner.
    pub finish: CancellationToken,
    /// With all instances, and with their last readings committed.
    pub apps: CancellationToken,
}

/// Runs until one of `ends`.
/// `git` is the socket on which the server's own receiver asks for git sandboxes.
pub async fn run(config: Config, git: std::os::unix::net::UnixListener, ends: Ends) -> Result<(), RunnerError> {
    let stop = ends.leave.clone();
    let data = |what| move |cause| RunnerError::Data { what, cause };
    sandbox::make_dir(&config.data_dir, 0o711).map_err(data("itself"))?;
    let slice = Slice::set_up(&config).await?;
    let coordinator = Client::new(&config.coordinator, config.coordinator_token.clone());
    let logs = Client::new(&config.logs, config.logs_token.clone());
    let disk = Disk::new(&config.data_dir, config.disk_reserve_bytes);
    let images = Images::new(&config.data_dir, slice.images_dir(), coordinator.clone(), disk.clone());
    let images = images.map_err(data("images"))?;
    let lines = Lines::new(&config.data_dir, logs).map_err(data("the spool of lines"))?;
    let once = config.data_dir.join("once");
    sandbox::make_dir(&once, 0o700).map_err(data("what runs once"))?;
    let server = Arc::new(Server {
        once,
        probe: Probe { program: config.shim.clone(), uid: config.probe_uid },
        slice,
        images,
        lines: lines.clone(),
        meters: Meters::open(&config.data_dir).map_err(data("the spool of readings"))?,
        tools: config.tools_dir.clone(),
        starts: Arc::new(Semaphore::new(converge::cores() as usize)),
        assigned: watch::Sender::new(false),
        changed: Notify::new(),
    });
    let builder = Builder::new(server.slice.clone(), &config).map_err(data("builds"))?;
    let (wanted, told) = (watch::Sender::new(vec![]), watch::Sender::new(vec![]));
    let orders = Orders { wanted: wanted.subscribe(), reports: told.clone() };
    let builds = Builds { wanted, reports: told.subscribe() };
    let mut building = told.subscribe();
    let gits = Git::new(server.slice.clone(), config.git.clone(), &config.run_dir.join("git")).await?;
    let (needed, disk_told) = (watch::Sender::new(None), watch::Sender::new(DiskReport::default()));
    let keeper = Keeper {
        disk,
        server: Arc::clone(&server),
        builder: builder.clone(),
        git: gits.clone(),
        needed: needed.subscribe(),
        told: disk_told.clone(),
    };
    let stores = Stores { needed, reports: disk_told.subscribe() };
    let seen = config.data_dir.join("seen.json");
    let mut converge =
        Converge::new(server, coordinator, builds, stores, seen, [stop.child_token(), ends.apps.clone()]);
    converge.adopt().await;
    lines.resume().map_err(data("the spool of lines"))?;

    let mut parts: JoinSet<&'static str> = JoinSet::new();
    // Nothing new is begun while the apps are ended.
    let working = stop.child_token();
    let (token, apps, finish) = (working.clone(), ends.apps.clone(), ends.finish.clone());
    let (idle, leave) = (gits.clone(), stop.clone());
    parts.spawn(async move {
        let quiet = async {
            finish.cancelled().await;
            let runs = |builds: &Vec<domain::wire::BuildReport>| {
                builds.iter().any(|b| b.state == domain::wire::BuildState::Running)
            };
            while !idle.is_idle() || runs(&building.borrow_and_update()) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = quiet => leave.cancel(),
            () = apps.cancelled() => token.cancel(),
            () = token.cancelled() => {}
        }
        "waiting for its end"
    });
    let token = stop.child_token();
    parts.spawn(async move {
        lines.run(token).await;
        "sending lines"
    });
    let token = working.clone();
    parts.spawn(async move {
        orders.run(builder, token).await;
        "building"
    });
    let token = working.clone();
    parts.spawn(async move {
        keeper.run(token).await;
        "keeping room on the disk"
    });
    parts.spawn(async move {
        converge.run().await;
        CONVERGING
    });
    let token = working;
    parts.spawn(async move {
        if let Err(cause) = gits.serve(git, token).await {
            tracing::error!("git sandboxes are not served: {cause}");
        }
        "serving git"
    });
    let mut ended = parts.join_next().await;
    if !stop.is_cancelled() && !ends.apps.is_cancelled() {
        return Err(RunnerError::Ended { part: ended.and_then(Result::ok).unwrap_or("a part that failed") });
    }
    while let Some(part) = ended {
        // The apps have ended; their lines were sent until then.
        if part.as_ref().map_or(true, |part| *part == CONVERGING) {
            stop.cancel();
        }
        ended = parts.join_next().await;
    }
    Ok(())
}
