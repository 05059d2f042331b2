//! The supervisor: takes a slice, starts the engines, migrates, opens the sockets, starts the roles, and
//! starts again what ends. A restart of one touches no other.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::child::{self, Alive, Common, Log};
use crate::cli::Up;
use crate::engines::{self, Cache, Database, EngineError};
use crate::keep::{APPS_STOP_TIMEOUT, Keeper, Unit, Wish};
use crate::listeners::Listeners;
use crate::outside::Given;
use crate::slice::{Slice, SliceError, directory};
use crate::supervisor::{Parts, Supervisor};
use crate::wiring::{self, World};
use crate::{doctor, door, embedded, keys, resume, role, slice};

const MIGRATE_TIMEOUT: Duration = Duration::from_secs(300);

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
    #[error("could not take over from the supervisor before")]
    Resume {
        #[source]
        cause: resume::ResumeError,
    },
    #[error("could not prepare the database; the log above says why")]
    Migrate,
    #[error("this server is not fit for Berth; `berth doctor` shows all that was looked at\n{}", fails.join("\n"))]
    Unfit { fails: Vec<String> },
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
    if let (Some(state), true) = (settings.resume, settings.resume_check) {
        println!("{}", resume::check(state)?);
        return Ok(());
    }
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
    let mut signals = Signals::new()?;
    let mut roles = Vec::new();
    if let Some(state) = settings.resume {
        let go_on = resume::go_on(settings, &log, state, &mut roles).await;
        let mut supervisor = go_on.map_err(|cause| UpError::Resume { cause })?;
        supervisor.run(&roles, &mut signals).await;
        supervisor.stop(roles).await;
        return Ok(());
    }

    fit(settings)?;
    let data = data_directory(&settings.data)?;
    let slice = Slice::take(&data, settings.uid_range, settings.subnet).await?;
    info!(slice = slice.n, "took slice {} for {}", slice.n, data.display());
    // Of a supervisor that was killed, or that kept them: its apps run, and are adopted.
    let adopts = !slice.apps().is_empty();
    // Its other children end by themselves, in a moment.
    slice.platform().end();
    let joins = slice.platform().make().map_err(doing("make the platform's control group"))?;
    directory(&slice.run(), 0o711, 0, 0)?;
    clear(&slice.run());

    let mut engines = Vec::new();
    let started = async {
        let secrets = wiring::Secrets::new(keys::seal_key(&data)?);
        let (database, cache) = start_engines(&slice, &data, &joins, &secrets, &mut engines).await?;
        let common = common(settings, &data, &log, joins, None)?;
        let listeners = Listeners::open(settings, &slice)?;
        let door = door::open(&slice)?;
        let world = World::new(settings, &slice, &data, &database, &cache, &secrets);
        let link = migrate(&common, &world, &listeners).await?;
        let (specs, addresses) = wiring::roles(&world, &listeners)?;
        publish(&data, &addresses)?;
        let common = Arc::new(common);
        let lines: Vec<(&str, String)> = specs.iter().map(|(spec, at)| (spec.role, at.clone())).collect();
        for (spec, _) in specs {
            roles.push(Keeper::new(Unit::Role(common.clone(), spec), None, vec![]));
        }
        say(&lines, &addresses, link.as_deref()).map_err(doing("print where it listens"))?;
        Ok::<_, UpError>(Parts { secrets, database, cache, common, listeners, door })
    };
    let started = tokio::select! {
        started = started => started.map(Some),
        () = signals.stop() => Ok(None),
    };
    match started {
        Ok(Some(parts)) => {
            let mut supervisor = Supervisor::new(settings, slice, data, parts, engines);
            supervisor.run(&roles, &mut signals).await;
            supervisor.stop(roles).await;
            Ok(())
        }
        Ok(None) => {
            stop(slice, &data, roles, engines, settings.keep_apps).await;
            Ok(())
        }
        Err(cause) => {
            if adopts {
                // They serve nobody now, but what hinders this start may soon be out of the way.
                warn!("the apps that ran before are left running: `berth up` on the same data takes them up");
            }
            stop(slice, &data, roles, engines, adopts).await;
            Err(cause)
        }
    }
}

/// Asks what `berth doctor` asks, before anything is taken.
fn fit(settings: &Up) -> Result<(), UpError> {
    let about = doctor::About::new(settings);
    if about.runs() {
        // Everything is held by that one, which says so better.
        return Ok(());
    }
    let checks = doctor::examine(&about);
    let of = |state| checks.iter().filter(move |check| check.state == state).map(ToString::to_string);
    of(doctor::State::Warn).for_each(|line| warn!("{line}"));
    let fails: Vec<String> = of(doctor::State::Fail).collect();
    if fails.is_empty() { Ok(()) } else { Err(UpError::Unfit { fails }) }
}

/// What `berth up` is told while it runs.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, UpError> {
        let new = Self {
            terminate: signal(SignalKind::terminate()).map_err(doing("listen for SIGTERM"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(doing("listen for Ctrl-C"))?,
            hangup: signal(SignalKind::hangup()).map_err(doing("listen for SIGHUP"))?,
        };
        // An `exec` of this supervisor held them back until somebody listens.
        nix::sys::signal::SigSet::all().thread_unblock().map_err(|cause| doing("hear signals")(cause.into()))?;
        Ok(new)
    }

    pub async fn stop(&mut self) {
        let which = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
        };
        info!("{which}: stopping");
    }

    pub async fn stop_or_upgrade(&mut self) -> Told {
        let which = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.hangup.recv() => return Told::Upgrade,
        };
        info!("{which}: stopping");
        Told::Stop
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Stop,
    /// Go on as the program that is on disk.
    Upgrade,
}

/// Ends everything in the order in which work comes in, so that nothing is cut off and the last counts are
/// in PostgreSQL: those who take work; the balancer, with what is open; the runner, with the apps; then who
/// takes in their counts and lines; then the engines.
pub async fn stop(slice: Slice, data: &Path, mut roles: Vec<Keeper>, mut engines: Vec<Keeper>, keep_apps: bool) {
    let apps = if keep_apps { Wish::Stop } else { Wish::StopApps };
    for (together, wish) in [
        (&["receiver", "web"][..], Wish::Stop),
        (&["balancer"], Wish::Stop),
        (&["runner"], apps),
        (&["control"], Wish::Stop),
        (&["logs"], Wish::Stop),
    ] {
        let ending = roles.iter_mut().filter(|role| together.contains(&role.name()));
        futures_util::future::join_all(ending.map(|role| role.stop(wish))).await;
    }
    drop(roles);
    if !keep_apps {
        // Of a runner that was killed: each app is ended as at a deploy.
        slice.shims().ask(APPS_STOP_TIMEOUT);
        slice.apps().end();
    }
    for name in ["redis", "postgres"] {
        if let Some(engine) = engines.iter_mut().find(|engine| engine.name() == name) {
            engine.stop(Wish::Stop).await;
        }
    }
    let _ = fs::remove_file(data.join("addresses.json"));
    if keep_apps {
        slice.platform().end();
        info!("stopped; the apps run on");
        return;
    }
    slice::sweep(slice.n, data).await;
    slice.release();
    info!("stopped");
}

/// Site and apps share no domain, `localhost` excepted.
pub fn apart(settings: &Up) -> Result<(), UpError> {
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
    match closed(&data, &data) {
        Some((path, mode)) => Err(UpError::Closed { path, mode }),
        None => Ok(data),
    }
}

/// The first folder on the way to `data` that others may not pass, from `folder` on; `data` itself is opened.
pub fn closed(folder: &Path, data: &Path) -> Option<(PathBuf, u32)> {
    folder.ancestors().filter(|folder| *folder != data).find_map(|folder| {
        let mode = fs::metadata(folder).map_or(0, |found| found.mode() & 0o7777);
        (mode & 0o001 == 0).then(|| (folder.to_owned(), mode))
    })
}

async fn start_engines(
    slice: &Slice,
    data: &Path,
    joins: &[PathBuf],
    secrets: &wiring::Secrets,
    keepers: &mut Vec<Keeper>,
) -> Result<(Database, Cache), UpError> {
    let given = Given::by_environment();
    let (database, cache) = engines::set_up(&given, slice, data, joins, &secrets.redis_users()).await?;
    let units = [database.unit(), cache.unit()].into_iter().flatten();
    keepers.extend(units.map(|unit| Keeper::new(unit, None, vec![])));
    if let Database::Own(postgres) = &database {
        postgres.ready().await?;
    }
    if let Cache::Own(redis) = &cache {
        redis.ready().await?;
    }
    Ok((database, cache))
}

/// Sockets of before. The runner's part stays: instances that are adopted live in it.
fn clear(run: &Path) {
    for entry in fs::read_dir(run).into_iter().flatten().flatten().filter(|entry| entry.file_name() != "runner") {
        let path = entry.path();
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// Opens the binary for the roles, and unpacks what the runner needs as files.
/// `alive` is the pipe that children watch, where there is one already.
pub fn common(
    settings: &Up,
    data: &Path,
    log: &Log,
    joins: Vec<PathBuf>,
    alive: Option<Alive>,
) -> Result<Common, UpError> {
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
    let alive = match alive {
        Some(alive) => alive,
        None => {
            let (theirs, ours) = io::pipe().map_err(doing("make the pipe that children watch"))?;
            Alive { theirs: theirs.into(), ours: ours.into() }
        }
    };
    let binary = OwnedFd::from(fs::File::open(&berth).map_err(doing("open the binary"))?);
    Ok(Common { binary, log: log.clone(), alive, joins })
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
pub async fn migrate(common: &Common, world: &World<'_>, listeners: &Listeners) -> Result<Option<String>, UpError> {
    let spec = wiring::migrate(world, listeners)?;
    let said = child::once(common, &spec, MIGRATE_TIMEOUT).await.map_err(doing("run `migrate`"))?;
    said.map(|link| Some(link).filter(|link| !link.is_empty())).ok_or(UpError::Migrate)
}

pub fn publish(data: &Path, addresses: &Addresses) -> Result<(), UpError> {
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
