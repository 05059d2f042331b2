//! Sandboxes of one slice: the ground they stand on ([`Slice`]), one of them ([`Sandbox`]).
//!
//! A sandbox lives in its *unit*: a cgroup and a directory on tmpfs, both named by whoever asks
//! (`i17`, `b5`). Its shim holds its output and its end, so it outlives the runner; with
//! [`Tie::ToRunner`] it ends when the runner does.
//! Order: [`Slice::start`], [`Sandbox::wait`], [`Slice::clear`], [`Slice::cpu_micros`],
//! [`Slice::remove_unit`].

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::wire::{Limits, Uids};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::Config;
use crate::bundle::{self, Bind, Program};
use crate::cgroup::Cgroups;
use crate::mount;
use crate::net::{Counted, Kind, NetError, Network};
use crate::process::{self, Process};
use crate::seccomp::{self, SeccompError};
use crate::skeleton;

/// For the runtime to create, and to start: more than its own limit of 30 s each.
const SHIM_TIMEOUT: Duration = Duration::from_secs(70);
const DELETE_TIMEOUT: Duration = Duration::from_secs(30);
const END_TIMEOUT: Duration = Duration::from_secs(20);
const FILES_WANTED: u64 = 65_536;
/// Above every process of the platform: an app is the kernel's victim, never we.
const OOM_SCORE_ADJ: i32 = 500;
/// What the platform keeps of a server's memory when nothing else is said.
const RESERVE_BYTES: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("could not prepare the slice: {doing}")]
    SetUp {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("neither crun nor runc is installed")]
    NoRuntime,
    #[error("the list of system calls could not be loaded")]
    Seccomp(#[from] SeccompError),
    #[error("the network of {of} failed")]
    Network {
        of: String,
        #[source]
        cause: NetError,
    },
    #[error("could not prepare {unit}: {doing}")]
    Prepare {
        unit: String,
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("could not start {unit}: {why}")]
    Start { unit: String, why: String },
    #[error("could not clear {unit}: {doing}")]
    Clear {
        unit: String,
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
}

/// Where a sandbox's output goes.
#[derive(Debug)]
pub enum Output {
    /// Lines into a spool's directory (see `spool`), within the configured rate.
    Spool(PathBuf),
    /// Straight to whoever gave these; the runner never reads them. Never `/dev/null`: the runtime
    /// gives its standard descriptors to the app's UID.
    Given { stdout: OwnedFd, stderr: OwnedFd },
}

/// How long a sandbox may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// Goes on without a runner, and is adopted by the next one.
    None,
    /// Ends when its [`Sandbox`] is dropped or the runner ends.
    ToRunner,
}

#[derive(Debug)]
pub struct Spec {
    /// Unique in the slice: lower-case letters, digits and `-`.
    pub unit: String,
    pub hostname: String,
    pub program: Program,
    pub uids: Uids,
    pub limits: Limits,
    pub binds: Vec<Bind>,
    /// `None`: only loopback, and that is down.
    pub network: Option<(Ipv4Addr, Kind)>,
    /// What it sends to the internet is counted there.
    pub counted: Option<Counted>,
    /// `None`: an input that has ended.
    pub stdin: Option<OwnedFd>,
    pub output: Output,
    /// Between SIGTERM and SIGKILL.
    pub stop_timeout: Duration,
    pub tie: Tie,
}

/// How a sandbox ended, as its shim saw it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Exit {
    /// Of the first process; `None` when a signal ended it, or nobody saw its end.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Something inside was killed for want of memory.
    pub oom: bool,
    /// Of the unit, read before the sandbox's group was removed.
    pub cpu_micros: Option<u64>,
}

impl Exit {
    pub fn is_success(&self) -> bool {
        self.code == Some(0)
    }
}

#[derive(Clone)]
pub struct Slice {
    inner: Arc<Inner>,
}

struct Inner {
    run_dir: PathBuf,
    shim: PathBuf,
    runtime: PathBuf,
    cgroups: Cgroups,
    network: Network,
    seccomp: Value,
    files_max: u64,
    memory_bytes: u64,
    rate: crate::LogRate,
    /// Whose each address is: links and permissions go by addresses.
    owners: Mutex<HashMap<Ipv4Addr, String>>,
}

impl Slice {
    /// Makes what all sandboxes need, or finds it as a former runner left it.
    pub async fn set_up(config: &Config) -> Result<Self, SandboxError> {
        let set_up = |doing| move |cause| SandboxError::SetUp { doing, cause };
        let runtime = find_runtime(config.runtime.as_deref())?;
        let seccomp = seccomp::load()?;
        let cgroups = Cgroups::find(config.slice).map_err(set_up("cgroups"))?;
        let memory_bytes = match config.memory_bytes {
            Some(bytes) => bytes,
            None => server_memory().map_err(set_up("/proc/meminfo"))?.saturating_sub(RESERVE_BYTES),
        };
        cgroups.set_up(memory_bytes).map_err(set_up("cgroups"))?;

        make_dir(&config.run_dir, 0o711).map_err(set_up("its directory on tmpfs"))?;
        if !mount::is_mounted(&config.run_dir).map_err(set_up("mounts"))? {
            mount::mount_tmpfs(&config.run_dir, "mode=711").map_err(set_up("a tmpfs"))?;
            mount::share(&config.run_dir).map_err(set_up("a tmpfs"))?;
        }
        for (dir, mode) in
            [("units", 0o711), ("images", 0o711), ("instances", 0o700), ("root", 0o755), ("runtime", 0o700)]
        {
            make_dir(&config.run_dir.join(dir), mode).map_err(set_up("its directory on tmpfs"))?;
        }
        let resolvers = skeleton::resolvers();
        skeleton::make(&config.run_dir.join("root"), &resolvers).map_err(set_up("the root under sandboxes"))?;

        let network = Network::new(config.slice, config.subnet, config.exceptions.clone(), config.public_ports.clone());
        let failed = |cause| SandboxError::Network { of: format!("slice {}", config.slice), cause };
        network.set_up(&resolvers).await.map_err(failed)?;
        let files_max = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
            .map_or(1024, |(_, hard)| hard.min(FILES_WANTED));
        Ok(Self {
            inner: Arc::new(Inner {
                run_dir: config.run_dir.clone(),
                shim: config.shim.clone(),
                runtime,
                cgroups,
                network,
                seccomp,
                files_max,
                memory_bytes,
                rate: config.log_rate,
                owners: Mutex::default(),
            }),
        })
    }

    /// What all sandboxes together may use.
    pub fn memory_bytes(&self) -> u64 {
        self.inner.memory_bytes
    }

    /// What they use now.
    pub fn memory_used_bytes(&self) -> u64 {
        self.inner.cgroups.memory_used_bytes()
    }

    /// The shim's program, which is also git's hook and the health check's probe.
    pub fn shim(&self) -> &Path {
        &self.inner.shim
    }

    /// A unit's directory on tmpfs: gone with [`Slice::clear`], mounts below it included.
    pub fn unit_dir(&self, unit: &str) -> PathBuf {
        self.inner.run_dir.join("units").join(unit)
    }

    /// Where images are mounted, on tmpfs.
    pub(crate) fn images_dir(&self) -> PathBuf {
        self.inner.run_dir.join("images")
    }

    /// Where the next runner finds what it must know of each instance; root alone reads it.
    pub(crate) fn instances_dir(&self) -> PathBuf {
        self.inner.run_dir.join("instances")
    }

    /// Makes the unit's directory; what lies below it is the caller's until `start`.
    pub fn make_unit_dir(&self, unit: &str) -> Result<PathBuf, SandboxError> {
        let dir = self.unit_dir(unit);
        make_dir(&dir, 0o711).map_err(|cause| SandboxError::Prepare {
            unit: unit.to_owned(),
            doing: "its directory",
            cause,
        })?;
        Ok(dir)
    }

    /// Starts a sandbox. On an error (or when this future is dropped) nothing runs; what is left of
    /// the unit goes with [`Slice::clear`].
    pub async fn start(&self, spec: Spec) -> Result<Sandbox, SandboxError> {
        let unit = spec.unit.clone();
        let prepare = |doing| {
            let unit = unit.clone();
            move |cause| SandboxError::Prepare { unit, doing, cause }
        };
        let failed = |why: String| SandboxError::Start { unit: unit.clone(), why };
        let inner = &self.inner;
        if let Some((address, _)) = spec.network {
            self.take(&unit, address).await?;
        }
        let dir = self.make_unit_dir(&unit)?;
        inner.cgroups.make_unit(&unit).map_err(prepare("its cgroup"))?;
        let config = bundle::config(&bundle::Parts {
            root: &inner.run_dir.join("root"),
            hostname: &spec.hostname,
            program: &spec.program,
            uids: spec.uids,
            limits: spec.limits,
            binds: &spec.binds,
            cgroup: inner.cgroups.sandbox_path(&unit),
            seccomp: &inner.seccomp,
            files_max: inner.files_max,
            oom_score_adj: OOM_SCORE_ADJ,
        });
        write_secret(&dir.join("config.json"), &config.to_string()).map_err(prepare("its configuration"))?;
        for old in ["exit.json", "shim", "runtime.log", "pid"] {
            remove_file(&dir.join(old)).map_err(prepare("its directory"))?;
        }

        let control = self.spawn_shim(&spec, &dir).await.map_err(prepare("its shim"))?;
        let (reader, mut writer) = control.into_split();
        let mut lines = BufReader::new(reader).lines();
        let deadline = tokio::time::Instant::now() + SHIM_TIMEOUT;
        let mut next = async || match tokio::time::timeout_at(deadline, lines.next_line()).await {
            Err(_) => Err(failed(format!("its shim said nothing for {SHIM_TIMEOUT:?}"))),
            Ok(Err(e)) => Err(failed(format!("its shim: {e}"))),
            Ok(Ok(None)) => Err(failed("its shim ended".to_owned())),
            Ok(Ok(Some(line))) => match line.strip_prefix("F ") {
                Some(why) => Err(failed(why.to_owned())),
                None => Ok(line),
            },
        };
        let hello = next().await?;
        let (shim_pid, shim_start) =
            process::parse(hello.trim_start_matches("P ")).ok_or_else(|| failed(format!("its shim said: {hello}")))?;
        let shim = Process::open(shim_pid, shim_start)
            .map_err(prepare("watching its shim"))?
            .ok_or_else(|| failed("its shim ended".to_owned()))?;
        let created = next().await?;
        let pid: i32 = created
            .strip_prefix("C ")
            .and_then(|p| p.parse().ok())
            .ok_or_else(|| failed(format!("its shim said: {created}")))?;
        inner.cgroups.join_unified(&unit, pid).map_err(prepare("its cgroup"))?;
        if let Some((address, kind)) = spec.network {
            let failed = |cause| SandboxError::Network { of: unit.clone(), cause };
            inner.network.connect(address, kind, spec.counted.as_ref(), pid).await.map_err(failed)?;
        }
        writer.write_all(b"S").await.map_err(prepare("telling its shim"))?;
        next().await?;
        let control = (spec.tie == Tie::ToRunner).then(|| (lines.into_inner().into_inner(), writer));
        Ok(Sandbox { unit, dir, pid, shim, cgroups: inner.cgroups.clone(), _control: control })
    }

    async fn spawn_shim(&self, spec: &Spec, dir: &Path) -> io::Result<UnixStream> {
        let inner = &self.inner;
        let files = inner.cgroups.shim_files(&spec.unit);
        let mut args = vec![
            "hold".to_owned(),
            format!("dir={}", dir.display()),
            format!("bundle={}", dir.display()),
            format!("runtime={}", inner.runtime.display()),
            format!("root={}", inner.run_dir.join("runtime").display()),
            format!("id={}", spec.unit),
            format!("uid={}", spec.uids.app),
            format!("stop_ms={}", spec.stop_timeout.as_millis()),
            format!("cpu={}", files.cpu.display()),
            format!("cpu_unit={}", files.cpu_unit),
            format!("oom={}", files.oom.display()),
            format!("procs={}", files.procs.display()),
        ];
        if let Some(unified) = inner.cgroups.unified_to_hide() {
            args.push(format!("unified={}", unified.display()));
        }
        if spec.tie == Tie::ToRunner {
            args.push("tied=1".to_owned());
        }
        let stdin = match &spec.stdin {
            Some(given) => given.try_clone()?,
            None => OwnedFd::from(io::pipe()?.0),
        };
        let (stdout, stderr) = match &spec.output {
            Output::Spool(spool) => {
                args.push(format!("spool={}", spool.display()));
                args.push(format!("spool_bytes={}", inner.rate.spool_bytes_max));
                args.push(format!("rate_lines={}", inner.rate.lines_per_second));
                args.push(format!("rate_bytes={}", inner.rate.bytes_per_second));
                let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("shim.log"))?;
                (OwnedFd::from(log.try_clone()?), OwnedFd::from(log))
            }
            Output::Given { stdout, stderr } => (stdout.try_clone()?, stderr.try_clone()?),
        };
        process::spawn_detached(&inner.shim, &args, [stdin, stdout, stderr], &inner.cgroups.shim_procs()).await
    }

    /// A sandbox that a former runner started, if its shim still runs.
    pub fn adopt(&self, unit: &str) -> Option<Sandbox> {
        let (shim, pid) = self.shim_of(unit)?;
        if pid <= 1 {
            return None;
        }
        let (cgroups, dir) = (self.inner.cgroups.clone(), self.unit_dir(unit));
        Some(Sandbox { unit: unit.to_owned(), dir, pid, shim, cgroups, _control: None })
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, String>> {
        self.inner.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a unit that had the address before and is being cleared.
    async fn take(&self, unit: &str, address: Ipv4Addr) -> Result<(), SandboxError> {
        let until = tokio::time::Instant::now() + END_TIMEOUT * 2;
        loop {
            let owner = self.owners().entry(address).or_insert_with(|| unit.to_owned()).clone();
            if owner == unit {
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                let why = format!("its address {address} is still {owner}'s");
                return Err(SandboxError::Start { unit: unit.to_owned(), why });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// After a runner that was killed: these units run on, with these addresses, and nobody else has any.
    pub(crate) async fn keep_addresses(&self, of: Vec<(String, Ipv4Addr, Counted)>) -> Result<(), SandboxError> {
        let kept: Vec<_> = of.iter().map(|(_, address, counted)| (*address, counted.clone())).collect();
        self.owners().extend(of.into_iter().map(|(unit, address, _)| (address, unit)));
        let failed = |cause| SandboxError::Network { of: "what a former runner left".to_owned(), cause };
        self.inner.network.keep_only(&kept).await.map_err(failed)
    }

    /// What every counter says of bytes sent to the internet.
    pub fn sent(&self) -> io::Result<HashMap<String, u64>> {
        self.inner.network.sent()
    }

    /// `None`: there is no such counter.
    pub fn sent_by(&self, counter: &str) -> io::Result<Option<u64>> {
        self.inner.network.sent_by(counter)
    }

    /// Makes the counter of a unit that has this address again, where it still has it.
    pub(crate) async fn count_again(&self, unit: &str, address: Ipv4Addr, of: &Counted) -> Result<(), SandboxError> {
        if self.owners().get(&address).is_none_or(|owner| owner != unit) {
            return Ok(());
        }
        let failed = |cause| SandboxError::Network { of: unit.to_owned(), cause };
        self.inner.network.count_again(address, of).await.map_err(failed)
    }

    pub(crate) async fn remove_counter(&self, counter: &str) -> Result<(), SandboxError> {
        let failed = |cause| SandboxError::Network { of: counter.to_owned(), cause };
        self.inner.network.remove_counter(counter).await.map_err(failed)
    }

    /// The unit's shim where one still runs, and its sandbox's first process (0 until it is made).
    fn shim_of(&self, unit: &str) -> Option<(Process, i32)> {
        let text = fs::read_to_string(self.unit_dir(unit).join("shim")).ok()?;
        let mut numbers = text.split_whitespace();
        let (pid, start, child) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let pid: i32 = pid.parse().ok()?;
        // The same number may be another process by now: its start time and its group tell.
        let process = Process::open(pid, start.parse().ok()?).ok()??;
        self.inner.cgroups.holds_shim(pid).then_some((process, child.parse().ok()?))
    }

    /// How the unit's last sandbox ended, where its shim could say.
    pub fn exit(&self, unit: &str) -> Option<Exit> {
        read_exit(&self.unit_dir(unit))
    }

    /// The unit's CPU time over all its sandboxes, in microseconds.
    pub fn cpu_micros(&self, unit: &str) -> io::Result<u64> {
        self.inner.cgroups.cpu_micros(unit)
    }

    /// What the unit has in memory, without files that nobody wants.
    pub fn unit_memory_bytes(&self, unit: &str) -> u64 {
        self.inner.cgroups.unit_memory_bytes(unit)
    }

    /// The units of which something is there: a group or a directory.
    pub fn units(&self) -> Vec<String> {
        let mut units = self.inner.cgroups.units();
        for entry in fs::read_dir(self.inner.run_dir.join("units")).into_iter().flatten().flatten() {
            units.extend(entry.file_name().into_string());
        }
        units.sort();
        units.dedup();
        units
    }

    /// Ends what runs in the unit and removes all but its group (whose counter is still wanted):
    /// processes, the runtime's state, link and permissions of `address`, mounts, directory.
    pub async fn clear(&self, unit: &str, address: Option<Ipv4Addr>) -> Result<(), SandboxError> {
        let clear = |doing| move |cause| SandboxError::Clear { unit: unit.to_owned(), doing, cause };
        // The shim first: it removes its sandbox itself, and nobody holds its directory afterwards.
        if let Some((shim, _)) = self.shim_of(unit) {
            shim.signal(libc::SIGUSR1);
            if tokio::time::timeout(END_TIMEOUT, shim.ended()).await.is_err() {
                shim.signal(libc::SIGKILL);
            }
        }
        let (cgroups, name) = (self.inner.cgroups.clone(), unit.to_owned());
        tokio::task::spawn_blocking(move || cgroups.end(Some(&name), END_TIMEOUT))
            .await
            .map_err(|e| clear("ending its processes")(e.into()))?
            .map_err(clear("ending its processes"))?;
        self.inner.delete(unit).await.map_err(clear("the runtime's part"))?;
        if let Some(address) = address.filter(|address| self.owners().get(address).is_none_or(|owner| owner == unit)) {
            let failed = |cause| SandboxError::Network { of: unit.to_owned(), cause };
            self.inner.network.disconnect(address).await.map_err(failed)?;
            self.owners().remove(&address);
        }
        let dir = self.unit_dir(unit);
        mount::unmount_below(&dir).map_err(clear("its mounts"))?;
        remove_dir_all(&dir).map_err(clear("its directory"))
    }

    /// Removes the unit's group. Read [`Slice::cpu_micros`] first.
    pub fn remove_unit(&self, unit: &str) -> Result<(), SandboxError> {
        self.inner.cgroups.remove_unit(unit).map_err(|cause| SandboxError::Clear {
            unit: unit.to_owned(),
            doing: "its cgroup",
            cause,
        })
    }
}

impl Inner {
    /// Removes what the runtime knows of a sandbox, running or half made.
    async fn delete(&self, id: &str) -> io::Result<()> {
        let root = self.run_dir.join("runtime");
        delete(&self.runtime, &root, id, self.cgroups.unified_to_hide()).await
    }
}

async fn delete(runtime: &Path, root: &Path, id: &str, unified: Option<&Path>) -> io::Result<()> {
    if !root.join(id).exists() {
        return Ok(());
    }
    let mut command = tokio::process::Command::new(runtime);
    command.arg("--root").arg(root).args(["delete", "--force", id]);
    process::quiet(&mut command)?;
    process::hide_unified(&mut command, unified)?;
    let output = tokio::time::timeout(DELETE_TIMEOUT, command.output())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // What is left of a half-made one is a directory that the runtime does not understand.
    if !output.status.success() {
        remove_dir_all(&root.join(id))?;
    }
    Ok(())
}

/// Removes everything of the slice that the kernel shares, also after kill -9 of all: processes,
/// mounts, loop devices, groups, links, the nftables table. Spools and images on disk stay.
pub async fn leave_nothing(config: &Config) -> Result<(), SandboxError> {
    let set_up = |doing| move |cause| SandboxError::SetUp { doing, cause };
    let cgroups = Cgroups::find(config.slice).map_err(set_up("cgroups"))?;
    let end = cgroups.clone();
    tokio::task::spawn_blocking(move || end.end(None, END_TIMEOUT))
        .await
        .map_err(|e| set_up("ending its processes")(e.into()))?
        .map_err(set_up("ending its processes"))?;
    let root = config.run_dir.join("runtime");
    if let Ok(runtime) = find_runtime(config.runtime.as_deref()) {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            delete(&runtime, &root, &id, cgroups.unified_to_hide()).await.map_err(set_up("the runtime's part"))?;
        }
    }
    mount::unmount_below(&config.run_dir).map_err(set_up("mounts"))?;
    mount::unmount_below(&config.data_dir).map_err(set_up("mounts"))?;
    remove_dir_all(&config.run_dir).map_err(set_up("its directory"))?;
    cgroups.remove_all().map_err(set_up("cgroups"))?;
    let network = Network::new(config.slice, config.subnet, vec![], vec![]);
    let failed = |cause| SandboxError::Network { of: format!("slice {}", config.slice), cause };
    network.leave_nothing().await.map_err(failed)
}

/// A running sandbox.
pub struct Sandbox {
    unit: String,
    dir: PathBuf,
    pid: i32,
    shim: Process,
    cgroups: Cgroups,
    /// Of a tied one: closed, its shim ends it.
    _control: Option<(tokio::net::unix::OwnedReadHalf, tokio::net::unix::OwnedWriteHalf)>,
}

impl Sandbox {
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The first process inside, as the server counts.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Until it has ended and its shim is gone. May be called again.
    pub async fn wait(&self) -> Exit {
        self.shim.ended().await;
        match read_exit(&self.dir) {
            Some(exit) => exit,
            None => {
                // Somebody killed the shim: nobody holds the sandbox's output any more.
                let (cgroups, unit) = (self.cgroups.clone(), self.unit.clone());
                let ended = tokio::task::spawn_blocking(move || cgroups.end(Some(&unit), END_TIMEOUT)).await;
                if let Ok(Err(e)) = ended {
                    tracing::error!(sandbox = %self.unit, "without its shim it does not end: {e}");
                }
                Exit { code: None, signal: None, oom: false, cpu_micros: self.cgroups.cpu_micros(&self.unit).ok() }
            }
        }
    }

    /// SIGTERM to all inside; SIGKILL when its stop timeout is over. Wait for the end by `wait`.
    pub fn stop(&self) {
        self.shim.signal(libc::SIGTERM);
    }

    /// SIGKILL now.
    pub fn kill(&self) {
        self.shim.signal(libc::SIGUSR1);
    }
}

fn read_exit(dir: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(dir.join("exit.json")).ok()?).ok()
}

fn find_runtime(wanted: Option<&Path>) -> Result<PathBuf, SandboxError> {
    if let Some(wanted) = wanted {
        return Ok(wanted.to_owned());
    }
    runtimes().next().ok_or(SandboxError::NoRuntime)
}

/// The OCI runtimes that are installed, the wanted one first.
pub fn runtimes() -> impl Iterator<Item = PathBuf> {
    let places = |name| ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|dir| Path::new(dir).join(name));
    ["crun", "runc"].into_iter().flat_map(places).filter(|path| path.exists())
}

fn server_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|l| l.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kb| kb * 1024)
        .ok_or_else(|| io::Error::other("no MemTotal"))
}

pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // Whatever the umask says.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Written for root alone, never readable in between.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    fs::rename(new, path)
}
