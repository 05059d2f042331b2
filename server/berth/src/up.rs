//! The supervisor: takes a slice, starts the engines, migrates, opens the sockets, starts the roles, and
//! starts again what ends. A restart of one touches no other.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::child::{self, Common, Log, Output, Spec};
use crate::cli::Up;
use crate::engines::{EngineError, Postgres, Redis};
use crate::slice::{Slice, SliceError, directory};
use crate::wiring::{self, Listeners, World};
use crate::{embedded, role, slice};

const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);
/// From SIGTERM to SIGKILL; a balancer finishes its requests in it.
const ROLE_STOP_TIMEOUT: Duration = Duration::from_secs(20);
const ENGINE_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// An instance may take 30 s to end by its own settings; all of them end at once.
const APPS_STOP_TIMEOUT: Duration = Duration::from_secs(35);
const RESTART_DELAY_MIN: Duration = Duration::from_millis(200);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// Who ran this long starts again without delay.
const STEADY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("`berth up` needs root: it gives each of its processes a user of its own, and makes sandboxes")]
    NotRoot,
    #[error("{} is closed to other users (mode {mode:o}), and so to Berth's own: choose a data directory that they can pass to, for instance /var/lib/berth", path.display())]
    Closed { path: PathBuf, mode: u32 },
    #[error(
        "the site's host name {site} and the apps' domain {apps} share a domain: an app could take the site's cookies. Use two domains"
    )]
    SharedDomain { site: String, apps: String },
    #[error("could not {doing}")]
    Io {
        doing: String,
        #[source]
        cause: io::Error,
    },
    #[error("could not prepare the database; the log above says why")]
    Migrate,
    #[error(transparent)]
    Mail(#[from] mail::MailError),
    #[error(transparent)]
    Slice(#[from] SliceError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("could not write down the settings of {role}")]
    Settings {
        role: &'static str,
        #[source]
        cause: serde_json::Error,
    },
}

pub fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> UpError {
    move |cause| UpError::Io { doing: doing.into(), cause }
}

/// What others find in the data directory: `addresses.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addresses {
    pub http: SocketAddr,
    pub ssh: SocketAddr,
    pub urls: commands::Urls,
    pub slice: u32,
    pub uid_first: u32,
    pub uid_last: u32,
    pub supervisor: u32,
}

pub fn up(settings: &Up) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    child::reserve()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(settings))?;
    Ok(())
}

async fn supervise(settings: &Up) -> Result<(), UpError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(UpError::NotRoot);
    }
    apart(settings)?;
    mail::check(settings.smtp.as_ref(), &wiring::mail_from(settings))?;
    let log = Log { json: !io::stderr().is_terminal(), filter: settings.log.clone() };
    role::log(&log);
    // Before anything is started: a signal from now on stops all.
    let mut terminate = signal(SignalKind::terminate()).map_err(doing("listen for SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(doing("listen for Ctrl-C"))?;

    let data = data_directory(&settings.data)?;
    let slice = Slice::take(&data, settings.uid_range, settings.subnet).await?;
    info!(slice = slice.n, "took slice {} for {}", slice.n, data.display());
    // Of a supervisor that was killed: its apps run, and are adopted.
    let adopts = !slice.apps().is_empty();
    // Its other children end by themselves, in a moment.
    slice.platform().end();
    let joins = slice.platform().make().map_err(doing("make the platform's control group"))?;
    directory(&slice.run(), 0o711, 0, 0)?;
    clear(&slice.run());

    let engines = CancellationToken::new();
    let roles = CancellationToken::new();
    let (mut engine_tasks, mut role_tasks) = (JoinSet::new(), JoinSet::new());
    let started = async {
        let world = start_engines(settings, &slice, &data, &joins, &engines, &mut engine_tasks).await?;
        let common = common(settings, &data, &log, joins.clone())?;
        let listeners = Listeners::open(settings, &slice)?;
        let link = migrate(&common, &world, &listeners).await?;
        let (specs, addresses) = wiring::roles(&world, &listeners)?;
        publish(&data, &addresses)?;
        let common = Arc::new(common);
        let lines: Vec<(&str, String)> = specs.iter().map(|(spec, at)| (spec.role, at.clone())).collect();
        for (spec, _) in specs {
            role_tasks.spawn(keep(Unit::Role(common.clone(), spec), roles.clone()));
        }
        say(&lines, &addresses, link.as_deref()).map_err(doing("print where it listens"))?;
        Ok::<_, UpError>(())
    };
    let outcome = tokio::select! {
        started = started => started.map(Some),
        _ = terminate.recv() => Ok(None),
        _ = interrupt.recv() => Ok(None),
    };
    let outcome = match outcome {
        Ok(Some(())) => {
            let signal = tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "Ctrl-C" };
            info!("{signal}: stopping");
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(cause) => Err(cause),
    };

    roles.cancel();
    while role_tasks.join_next().await.is_some() {}
    if outcome.is_err() && adopts {
        // They serve nobody now, but what hinders this start may soon be out of the way.
        warn!("the apps that ran before are left running: `berth up` on the same data takes them up");
        engines.cancel();
        while engine_tasks.join_next().await.is_some() {}
        slice.platform().end();
        return outcome;
    }
    // Each app is ended as at a deploy: its shim asks it, and waits for what it does.
    slice.shims().ask(APPS_STOP_TIMEOUT);
    slice.apps().end();
    engines.cancel();
    while engine_tasks.join_next().await.is_some() {}
    slice::sweep(slice.n, &data).await;
    let _ = fs::remove_file(data.join("addresses.json"));
    slice.release();
    info!("stopped");
    outcome
}

/// Site and apps share no domain, `localhost` excepted.
fn apart(settings: &Up) -> Result<(), UpError> {
    let (site, apps) = (settings.site_host.as_str(), settings.apps_domain.as_str());
    let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    if local(site) && local(apps) || registrable(site) != registrable(apps) {
        return Ok(());
    }
    Err(UpError::SharedDomain { site: site.to_owned(), apps: apps.to_owned() })
}

/// What one can register, by the public suffix list; the name itself where there is nothing above it.
fn registrable(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

/// Made if it is not there; a way to it must be open to Berth's own users.
fn data_directory(data: &Path) -> Result<PathBuf, UpError> {
    fs::create_dir_all(data).map_err(doing(format!("make {}", data.display())))?;
    directory(data, 0o711, 0, 0)?;
    let data = data.canonicalize().map_err(doing(format!("find {}", data.display())))?;
    for folder in data.ancestors().skip(1) {
        let mode = fs::metadata(folder).map_err(doing(format!("look at {}", folder.display())))?.mode() & 0o7777;
        if mode & 0o001 == 0 {
            return Err(UpError::Closed { path: folder.to_owned(), mode });
        }
    }
    Ok(data)
}

async fn start_engines<'a>(
    settings: &'a Up,
    slice: &'a Slice,
    data: &'a Path,
    joins: &[PathBuf],
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Result<World<'a>, UpError> {
    let secrets = wiring::Secrets::new();
    let postgres = Postgres::prepare(slice, data, joins).await?;
    let redis = Redis::prepare(slice, data, joins, &secrets.redis)?;
    tasks.spawn(keep(Unit::Postgres(postgres.clone()), stop.clone()));
    tasks.spawn(keep(Unit::Redis(redis.clone()), stop.clone()));
    postgres.ready().await?;
    redis.ready().await?;
    Ok(World::new(settings, slice, data, &postgres, &redis, secrets))
}

/// Sockets of before. The runner's part stays: instances that are adopted live in it.
fn clear(run: &Path) {
    for entry in fs::read_dir(run).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "runner") {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// Opens the binary for the roles, and unpacks what the runner needs as files.
fn common(settings: &Up, data: &Path, log: &Log, joins: Vec<PathBuf>) -> Result<Common, UpError> {
    directory(&data.join("runner"), 0o711, 0, 0)?;
    directory(&data.join("runner/bin"), 0o711, 0, 0)?;
    directory(&data.join("tools"), 0o755, 0, 0)?;
    if let Some(shim) = embedded::SHIM {
        place(&wiring::shim(data), |to| to.write_all(shim))?;
    }
    if let Some(missing) = embedded::missing() {
        warn!("this binary was built without {missing}: build it with `cargo xtask build`");
    }
    // A copy with a mode that every user may execute, and that a new build does not change under a sandbox.
    let berth = data.join("tools/berth");
    let copy = |from: &Path, to: &mut fs::File| io::copy(&mut fs::File::open(from)?, to).map(drop);
    place(&berth, |to| copy(Path::new("/proc/self/exe"), to))?;
    match settings.uv.clone().or_else(|| in_path("uv")) {
        Some(uv) => place(&data.join("tools/uv"), |to| copy(&uv, to))?,
        None => warn!("`uv` is not in PATH and not given by --uv: Python apps cannot be built"),
    }
    let (alive, ours) = io::pipe().map_err(doing("make the pipe that children watch"))?;
    // Held until this process ends, whatever ends it.
    std::mem::forget(ours);
    let binary = OwnedFd::from(fs::File::open(&berth).map_err(doing("open the binary"))?);
    Ok(Common { binary, log: log.clone(), alive: alive.into(), joins })
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn place(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<()>) -> Result<(), UpError> {
    let new = path.with_extension("new");
    let placed = || -> io::Result<()> {
        let mut file = fs::File::create(&new)?;
        write(&mut file)?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        drop(file);
        fs::rename(&new, path)
    };
    placed().map_err(doing(format!("unpack {}", path.display())))
}

/// The owner's role is used by this short child only. Returns the operator's first link, once.
async fn migrate(common: &Common, world: &World<'_>, listeners: &Listeners) -> Result<Option<String>, UpError> {
    let spec = wiring::migrate(world, listeners)?;
    let mut child = child::spawn(common, &spec, Output::Piped).map_err(doing("start `migrate`"))?;
    let mut said = String::new();
    let done = timeout(MIGRATE_TIMEOUT, async {
        if let Some(mut from) = child.stdout.take() {
            from.read_to_string(&mut said).await?;
        }
        child.wait().await
    });
    match done.await {
        Ok(Ok(status)) if status.success() => Ok(Some(said.trim().to_owned()).filter(|link| !link.is_empty())),
        _ => {
            let _ = child.kill().await;
            Err(UpError::Migrate)
        }
    }
}

fn publish(data: &Path, addresses: &Addresses) -> Result<(), UpError> {
    let (path, new) = (data.join("addresses.json"), data.join("addresses.json.new"));
    let text = serde_json::to_vec_pretty(addresses).map_err(|cause| UpError::Settings { role: "addresses", cause })?;
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(doing("write addresses.json"))
}

/// One line a role, for a person.
fn say(lines: &[(&str, String)], addresses: &Addresses, link: Option<&str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (role, at) in lines {
        writeln!(out, "{role:<10} {at}")?;
    }
    writeln!(out, "{:<10} {}", "site", addresses.urls.site)?;
    if let Some(link) = link {
        writeln!(out, "{:<10} {link}  (sign in as the operator; works once)", "operator")?;
    }
    out.flush()
}

/// What is kept running.
enum Unit {
    Postgres(Postgres),
    Redis(Redis),
    Role(Arc<Common>, Spec),
}

impl Unit {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Role(_, spec) => spec.role,
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        match self {
            Self::Postgres(postgres) => postgres.spawn(),
            Self::Redis(redis) => redis.spawn(),
            Self::Role(common, spec) => child::spawn(common, spec, Output::Shared),
        }
    }

    /// How it is asked to end, and how long it may take.
    fn end(&self) -> (Signal, Duration) {
        match self {
            // PostgreSQL's fast shutdown.
            Self::Postgres(_) => (Signal::SIGINT, ENGINE_STOP_TIMEOUT),
            Self::Redis(_) => (Signal::SIGTERM, ENGINE_STOP_TIMEOUT),
            Self::Role(..) => (Signal::SIGTERM, ROLE_STOP_TIMEOUT),
        }
    }
}

/// Starts it again, later each time that it does not last, until `stop`.
async fn keep(unit: Unit, stop: CancellationToken) {
    let name = unit.name();
    let mut delay = RESTART_DELAY_MIN;
    while !stop.is_cancelled() {
        let since = Instant::now();
        match unit.spawn() {
            Ok(mut child) => {
                info!(role = name, pid = child.id(), "{name} runs");
                tokio::select! {
                    status = child.wait() => {
                        let status = status.map_or_else(|cause| cause.to_string(), |status| status.to_string());
                        warn!(role = name, status, "{name} ended by itself ({status}); it is started again");
                    }
                    () = stop.cancelled() => return end(&unit, child).await,
                }
            }
            Err(cause) => error!(role = name, "{name} could not be started: {cause}"),
        }
        if since.elapsed() > STEADY {
            delay = RESTART_DELAY_MIN;
        }
        tokio::select! { () = sleep(delay) => {}, () = stop.cancelled() => return }
        delay = (delay * 2).min(RESTART_DELAY_MAX);
    }
}

async fn end(unit: &Unit, mut child: Child) {
    let (signal, patience) = unit.end();
    if let Some(pid) = child.id() {
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
    if timeout(patience, child.wait()).await.is_err() {
        warn!(role = unit.name(), "{} did not end within {patience:?}; it is killed", unit.name());
        let _ = child.kill().await;
    }
}

/// A listening unix socket of `owner`, which the members of `group` may call.
pub fn unix_listener(path: &Path, owner: u32, group: u32) -> Result<Arc<OwnedFd>, UpError> {
    let name = || format!("listen on {}", path.display());
    // Nobody else comes in before it is given away.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(before);
    let listener = bound.map_err(doing(name()))?;
    std::os::unix::fs::chown(path, Some(owner), Some(group)).map_err(doing(name()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(doing(name()))?;
    listener.set_nonblocking(true).map_err(doing(name()))?;
    Ok(Arc::new(listener.into()))
}

/// A listening socket and the address it got.
pub fn tcp_listener(address: SocketAddr) -> Result<(Arc<OwnedFd>, SocketAddr), UpError> {
    let name = || format!("listen on {address}");
    let listener = TcpListener::bind(address).map_err(doing(name()))?;
    listener.set_nonblocking(true).map_err(doing(name()))?;
    let got = listener.local_addr().map_err(doing(name()))?;
    Ok((Arc::new(listener.into()), got))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Verb};

    fn check(site: &str, apps: &str) -> bool {
        let cli = Cli::try_parse_from(["berth", "up", "--site-host", site, "--apps-domain", apps]).unwrap();
        let Verb::Up(settings) = cli.verb else { panic!("another verb") };
        apart(&settings).is_ok()
    }

    #[test]
    fn site_and_apps_share_no_domain() {
        assert!(check("localhost", "localhost") && check("berth.example.com", "example-apps.net"));
        assert!(check("berth.example.co.uk", "other.co.uk"));
        assert!(check("ada.github.io", "bob.github.io"), "two customers of a public suffix");
        for (site, apps) in [
            ("example.com", "example.com"),
            ("www.example.com", "apps.example.com"),
            ("example.com", "apps.example.com"),
            ("berth.example.co.uk", "example.co.uk"),
        ] {
            assert!(!check(site, apps), "{site} {apps}");
        }
    }

    #[test]
    fn a_directory_that_is_closed_to_others_is_refused() {
        let closed = std::env::temp_dir().join(format!("berth-closed-{}", std::process::id()));
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        let refused = data_directory(&closed.join("data"));
        fs::remove_dir_all(&closed).unwrap();
        assert!(matches!(refused, Err(UpError::Closed { path, .. }) if path == closed));
    }
}
