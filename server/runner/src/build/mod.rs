//! Makes an image from a committed tree: source → workspace → steps of a buildpack → squashfs.
//!
//! Everything that reads what a customer wrote runs in the build's sandbox, as the app: unpacking,
//! the steps, the look over the result, making the image. A runner that ends takes its builds with
//! it; the coordinator gives the step out again under a new attempt.

mod berth_toml;
mod cache;
mod disk;
mod lines;
mod node;
mod operator;
mod procfile;
mod python;
mod python_web;
mod recipe;
mod scan;
mod stack;
mod static_site;
mod tell;
mod tree;
mod version;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::wire::{BuildSpec, BuildState, Manifest};
use domain::{AppId, ImageHash, Reason};
use futures_util::{StreamExt, TryStreamExt};
use link::Client;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use self::disk::Disk;
use self::lines::LineCutter;
use self::operator::Settings;
use self::recipe::{Buildpack, Recipe, Source, Step, choose, read_procfile};
use self::stack::Stack;
use self::tell::Teller;
use self::tree::Tree;
use self::version::Version;
use crate::bundle::{Bind, Program};
use crate::net::Kind;
use crate::sandbox::{Exit, Output, SandboxError, Slice, Spec, Tie};

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// An image goes to the object store within this time.
const STORE_TIMEOUT: Duration = Duration::from_secs(300);
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// With less, hardly anything could be built.
const WORK_BYTES_MIN: u64 = 64 << 20;
/// Each file of an image has this one time (1980-01-01): the same tree makes the same image.
const FILE_TIME: &str = "315532800";
const PATH: &str = "/opt/berth:/usr/local/bin:/usr/bin:/bin";

/// What a build failed of. `Ours` is told to the customer in fewer words than to the operator.
enum Failed {
    App(Reason),
    Ours { doing: &'static str, cause: Box<dyn std::error::Error + Send + Sync> },
}

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Self::App(reason)
    }
}

fn ours<E: Into<Box<dyn std::error::Error + Send + Sync>>>(doing: &'static str) -> impl FnOnce(E) -> Failed {
    move |cause| Failed::Ours { doing, cause: cause.into() }
}

/// Builds on this server, one [`Builder::build`] at a time for each deploy.
#[derive(Clone)]
pub struct Builder {
    slice: Slice,
    coordinator: Client,
    logs: Client,
    /// Builds under way, and caches.
    dir: PathBuf,
    /// Bound read-only at `/opt/berth`.
    tools: PathBuf,
    settings: Settings,
    disk: crate::disk::Disk,
    /// So little is left of the disk that what is being built is ended.
    is_full: watch::Sender<bool>,
    caches: cache::Open,
}

impl Builder {
    /// Removes what builds of a former runner left.
    pub fn new(slice: Slice, config: &crate::Config) -> io::Result<Self> {
        let dir = config.data_dir.clone();
        crate::mount::unmount_below(&dir.join("builds"))?;
        crate::mount::unmount_below(&dir.join("caches"))?;
        crate::sandbox::remove_dir_all(&dir.join("builds"))?;
        for part in ["builds", "caches"] {
            crate::sandbox::make_dir(&dir.join(part), 0o700)?;
        }
        Ok(Self {
            slice,
            coordinator: Client::new(&config.coordinator, config.coordinator_token.clone()),
            logs: Client::new(&config.logs, config.logs_token.clone()),
            settings: Settings::copy(&config.build_env, &dir.join("settings"))?,
            disk: crate::disk::Disk::new(&config.data_dir, config.disk_reserve_bytes),
            is_full: watch::Sender::new(false),
            caches: cache::Open::default(),
            dir,
            tools: config.tools_dir.clone(),
        })
    }

    pub(crate) fn disk_is_full(&self, is_full: bool) {
        self.is_full.send_if_modified(|was| std::mem::replace(was, is_full) != is_full);
    }

    /// Each cache's app, and what it takes on disk.
    pub(crate) fn caches_of_apps(&self) -> Vec<(AppId, u64)> {
        let all = cache::all(&self.dir.join("caches")).unwrap_or_default();
        all.into_iter().map(|(app, _, bytes)| (app, bytes)).collect()
    }

    pub(crate) fn collect_caches(
        &self,
        apps_gone: &[AppId],
        budget: u64,
        idle_max: Duration,
        room: plan::Room,
        now: SystemTime,
    ) -> io::Result<()> {
        self.caches.collect(&self.dir.join("caches"), apps_gone, budget, idle_max, room, now)
    }

    /// The whole build; nothing of it is left afterwards but its cache and its image in the store.
    pub async fn build(&self, spec: &BuildSpec, cancel: &CancellationToken) -> BuildState {
        let teller = Teller::start(self.logs.clone(), spec);
        let build = Build { builder: self, spec, unit: format!("b{}", spec.deploy), teller: &teller };
        let limit = Duration::from_millis(spec.time_ms);
        let mut is_full = self.is_full.subscribe();
        let done = tokio::select! {
            Ok(_) = is_full.wait_for(|is_full| *is_full) => Err(no_room(&self.disk)),
            done = tokio::time::timeout(limit, build.run()) => done.unwrap_or_else(|_| {
                Err(Reason::new(format!("the build took longer than {} minutes", limit.as_secs().div_ceil(60)))
                    .hint("Do less in the build, or ask the operator for a higher limit").into())
            }),
            () = cancel.cancelled() => Err(Reason::new("the build was called off").into()),
        };
        build.clean_up().await;
        let state = match done {
            Ok((image, manifest)) => BuildState::Done { image, manifest },
            Err(Failed::App(reason)) => BuildState::Failed { reason },
            Err(Failed::Ours { doing, cause }) => {
                let mut causes = cause.to_string();
                let mut next = cause.source();
                while let Some(cause) = next {
                    causes = format!("{causes}: {cause}");
                    next = cause.source();
                }
                tracing::error!(app.name = %spec.app_name, deploy.number = spec.number, "a build could not {doing}: {causes}");
                let reason = Reason::new(format!("the build could not {doing}; that is a fault of this installation"))
                    .hint("Push again in a while; the operator sees the cause in the runner's log");
                BuildState::Failed { reason }
            }
        };
        teller.finish().await;
        state
    }
}

fn no_room(disk: &crate::disk::Disk) -> Failed {
    let why = disk.refuses().unwrap_or_else(|| "the server's disk was full a moment ago".to_owned());
    Reason::new(format!("there is no room to build it: {why}")).hint(plan::SPACE_HINT).into()
}

struct Build<'a> {
    builder: &'a Builder,
    spec: &'a BuildSpec,
    unit: String,
    teller: &'a Teller,
}

impl Build<'_> {
    fn dir(&self) -> PathBuf {
        self.builder.dir.join("builds").join(&self.unit)
    }

    fn app_dir(&self) -> PathBuf {
        self.dir().join("work/app")
    }

    async fn run(&self) -> Result<(ImageHash, Manifest), Failed> {
        let uids = self.spec.uids;
        // Two builds at a time, each with a workspace, a cache and an image.
        let space = self.builder.disk.space().map_err(ours("see how full the disk is"))?;
        let bytes = (space.free_bytes.saturating_sub(space.reserve_bytes) / 4).min(self.spec.limits.disk_bytes);
        if bytes < WORK_BYTES_MIN {
            return Err(no_room(&self.builder.disk));
        }
        let work = Disk { image: self.dir().join("work.img"), mount: self.dir().join("work") };
        crate::sandbox::make_dir(&self.dir(), 0o700).map_err(ours("make its directory"))?;
        work.make(bytes, uids.app, "app").await.map_err(ours("make its workspace"))?;
        let cache = self.cache();
        let _held = self.builder.caches.hold(&cache.image);
        cache.open(bytes, uids.app, "cache").await.map_err(ours("open its cache"))?;

        self.unpack().await?;
        let tree = Tree::open(&self.app_dir()).map_err(ours("open the source"))?;
        let procfile = read_procfile(&tree)?;
        let file = tree.read("berth.toml")?;
        let settings = file.as_deref().map(berth_toml::parse).transpose()?.unwrap_or_default();
        let pack = choose(&tree)?;
        let stack = self.stack(pack).await?;
        let mut recipe = pack.recipe(&Source { tree: &tree, stack: &stack, procfile: &procfile })?;
        for line in &recipe.says {
            self.teller.say(&format!("-----> {line}"));
        }
        for step in &recipe.steps {
            if !step.says.is_empty() {
                self.teller.say(&format!("-----> {}", step.says));
            }
            self.step(step).await?;
        }
        cache.close().map_err(ours("close its cache"))?;
        recipe.serve_site(&tree)?;
        berth_toml::check(file.as_deref().unwrap_or_default(), &settings, &recipe.processes)?;
        for (process, command) in &recipe.processes {
            self.teller.say(&format!("       {process}: {command}"));
        }
        self.check_tree().await?;
        work.make_read_only().map_err(ours("close its workspace"))?;
        self.teller.say("-----> Making the image");
        let (image, bytes) = self.squash().await?;
        self.teller.say(&format!("       {} ({:.1} MiB)", image.short(), bytes as f64 / f64::from(1 << 20)));
        let Recipe { processes, env, .. } = recipe;
        let (buildpack, stack) = (pack.name.to_owned(), "host".to_owned());
        Ok((image, Manifest { processes, env, buildpack, stack, bytes, settings }))
    }

    /// A cache belongs to one app and one branch.
    fn cache(&self) -> Disk {
        let branch = Sha256::digest(self.spec.branch.as_bytes());
        let branch: String = branch.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let image = self.builder.dir.join(format!("caches/{}-{branch}.img", self.spec.app));
        Disk { image, mount: self.dir().join("cache") }
    }

    /// The source, into `/app`. What the tar holds is between tar and the sandbox.
    async fn unpack(&self) -> Result<(), Failed> {
        let path = format!("/v1/objects/sources/{}", self.spec.source);
        let mut source =
            self.builder.coordinator.get_stream(&path, HEAD_TIMEOUT).await.map_err(ours("fetch the source"))?;
        let (read, write) = io::pipe().map_err(ours("make a pipe"))?;
        let feed = async move {
            let mut write = pipe::Sender::from_owned_fd(OwnedFd::from(write))?;
            while let Some(chunk) = source.next().await {
                let chunk: Bytes = chunk.map_err(io::Error::other)?;
                if let Err(e) = write.write_all(&chunk).await {
                    // tar ended early; its exit says why.
                    return if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) };
                }
            }
            Ok::<(), io::Error>(())
        };
        let tar = Run {
            args: &["/usr/bin/tar", "--extract", "--file=-", "--directory=/app", "--no-same-owner"],
            stdin: Some(OwnedFd::from(read)),
            ..Run::default()
        };
        let mut said = Said::default();
        let mut take = |bytes: &[u8]| said.push(bytes);
        let (exit, fed) = tokio::join!(self.sandbox(tar, &mut take), feed);
        fed.map_err(ours("read the source"))?;
        if !exit?.is_success() {
            return Err(Reason::new(format!("the source could not be unpacked: {}", said.last())).into());
        }
        Ok(())
    }

    /// What the server has of what the buildpack's apps run on.
    async fn stack(&self, pack: &Buildpack) -> Result<Stack, Failed> {
        let has_tool =
            self.builder.tools.join(pack.tool).is_file() || !stack::programs(|name| name == pack.tool).is_empty();
        let mut stack = Stack { has_tool, ..Stack::default() };
        for program in stack::programs(pack.runs_on) {
            let mut said = Said::default();
            let run = Run { args: &[&program, "--version"], ..Run::default() };
            let exit = self.sandbox(run, &mut |bytes| said.push(bytes)).await?;
            if let Some(version) = Version::printed(&said.last()).filter(|_| exit.is_success()) {
                stack.add(program, version);
            }
        }
        Ok(stack)
    }

    async fn step(&self, step: &Step) -> Result<(), Failed> {
        let args: Vec<&str> = step.argv.iter().map(String::as_str).collect();
        let mut cutter = LineCutter::default();
        let mut take = |bytes: &[u8]| {
            for line in cutter.push(bytes) {
                self.teller.say(&format!("       {line}"));
            }
            Ok(())
        };
        let exit = self.sandbox(Run { args: &args, network: true, ..Run::default() }, &mut take).await?;
        if let Some(line) = cutter.finish() {
            self.teller.say(&format!("       {line}"));
        }
        if exit.oom {
            let mib = self.spec.limits.memory_bytes >> 20;
            return Err(Reason::new(format!("the build needed more than {mib} MiB of memory"))
                .hint("Ask the operator for a higher limit, or build less at once")
                .into());
        }
        if exit.is_success() { Ok(()) } else { Err(step.failed.clone().into()) }
    }

    /// Refuses what an image may not hold.
    async fn check_tree(&self) -> Result<(), Failed> {
        let mut scan = scan::Scan::default();
        let args = ["/usr/bin/find", "/app", "-xdev", "-printf", "%y %m %s %p\\0"];
        let exit = self.sandbox(Run { args: &args, ..Run::default() }, &mut |bytes| scan.push(bytes)).await?;
        if exit.is_success() {
            return Ok(());
        }
        Err(Reason::new("a directory of the built app cannot be read by the app itself")
            .hint("Leave directories readable for their owner")
            .into())
    }

    /// The image, stored under its hash.
    async fn squash(&self) -> Result<(ImageHash, u64), Failed> {
        let out = self.dir().join("out");
        crate::sandbox::make_dir(&out, 0o700).map_err(ours("make its output"))?;
        let app = self.spec.uids.app;
        std::os::unix::fs::chown(&out, Some(app), Some(app)).map_err(ours("make its output"))?;
        let owner = app.to_string();
        let args = [
            "/usr/bin/mksquashfs",
            "/app",
            "/work/image",
            "-noappend",
            "-quiet",
            "-no-progress",
            "-comp",
            "zstd",
            "-Xcompression-level",
            "3",
            "-all-time",
            FILE_TIME,
            "-mkfs-time",
            "0",
            "-force-uid",
            &owner,
            "-force-gid",
            &owner,
            "-no-xattrs",
        ];
        let mut said = Said::default();
        let binds = [Bind::read_write(&out, "/work")];
        let squash = Run { args: &args, binds: &binds, read_only: true, ..Run::default() };
        let exit = self.sandbox(squash, &mut |bytes| said.push(bytes)).await?;
        if !exit.is_success() {
            return Err(Reason::new(format!("the image could not be made: {}", said.last()))
                .hint("Files must be readable for their owner")
                .into());
        }
        let path = out.join("image");
        let hashed = tokio::task::spawn_blocking(move || hash(&path)).await.map_err(ours("read its image"))?;
        let (file, digest, bytes) = hashed.map_err(ours("read its image"))?;
        let image = ImageHash::from_digest(digest);
        let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 << 10);
        let path = format!("/v1/objects/images/{image}");
        self.builder
            .coordinator
            .put_stream(&path, stream.into_stream(), STORE_TIMEOUT)
            .await
            .map_err(ours("store its image"))?;
        Ok((image, bytes))
    }

    /// One program in the build's sandbox, what it prints given to `take`.
    async fn sandbox(&self, run: Run<'_>, take: &mut Take<'_>) -> Result<Exit, Failed> {
        let (read, write) = io::pipe().map_err(ours("make a pipe"))?;
        let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(read)).map_err(ours("make a pipe"))?;
        let stdout = OwnedFd::from(write);
        let stderr = stdout.try_clone().map_err(ours("make a pipe"))?;
        let started = self.builder.slice.start(self.sandbox_spec(run, Output::Given { stdout, stderr }));
        let sandbox = started.await.map_err(ours("start its sandbox"))?;
        let mut buffer = vec![0; 16 << 10];
        loop {
            match output.read(&mut buffer).await {
                Ok(0) => break,
                Ok(n) => take(&buffer[..n])?,
                Err(cause) => return Err(ours("read its output")(cause)),
            }
        }
        let exit = sandbox.wait().await;
        drop(sandbox);
        self.builder.slice.clear(&self.unit, Some(self.spec.address)).await.map_err(ours("clear its sandbox"))?;
        Ok(exit)
    }

    fn sandbox_spec(&self, run: Run<'_>, output: Output) -> Spec {
        let mut binds = vec![
            if run.read_only {
                Bind::read_only(self.app_dir(), "/app")
            } else {
                Bind::read_write(self.app_dir(), "/app")
            },
            Bind::read_only(&self.builder.tools, "/opt/berth"),
        ];
        if run.network {
            binds.push(Bind::read_write(self.dir().join("cache/cache"), "/cache"));
            binds.extend_from_slice(&self.builder.settings.binds);
        }
        binds.extend_from_slice(run.binds);
        let mut env = if run.network { self.step_env() } else { BTreeMap::new() };
        env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        Spec {
            unit: self.unit.clone(),
            hostname: format!("{}-build", self.spec.app_name),
            program: Program {
                args: run.args.iter().map(|arg| (*arg).to_owned()).collect(),
                env,
                cwd: PathBuf::from("/app"),
            },
            uids: self.spec.uids,
            limits: self.spec.limits,
            binds,
            network: run.network.then_some((self.spec.address, Kind::Build)),
            counted: None,
            stdin: run.stdin,
            output,
            stop_timeout: STOP_TIMEOUT,
            tie: Tie::ToRunner,
        }
    }

    /// The operator's settings, and ours over them.
    fn step_env(&self) -> BTreeMap<String, String> {
        let ours = [
            ("HOME", "/cache/home"),
            ("LANG", "C.UTF-8"),
            ("NPM_CONFIG_CACHE", "/cache/npm"),
            ("NPM_CONFIG_UPDATE_NOTIFIER", "false"),
            ("UV_CACHE_DIR", "/cache/uv"),
            ("UV_LINK_MODE", "copy"),
            ("UV_PYTHON_DOWNLOADS", "never"),
            ("UV_SYSTEM_CERTS", "1"),
            ("UV_NO_PROGRESS", "1"),
            // Else each .pyc is stale by the image's one file time, and apps compile at every start.
            ("PYC_INVALIDATION_MODE", "UNCHECKED_HASH"),
            ("SOURCE_DATE_EPOCH", FILE_TIME),
        ];
        let mut env = self.builder.settings.env.clone();
        env.extend(ours.map(|(k, v)| (k.to_owned(), v.to_owned())));
        env
    }

    /// Best effort, each by itself: what stays is removed at the runner's next start.
    async fn clean_up(&self) {
        let slice = &self.builder.slice;
        let cleared: Result<(), SandboxError> = slice.clear(&self.unit, Some(self.spec.address)).await;
        let removed = cleared.and_then(|()| slice.remove_unit(&self.unit));
        if let Err(e) = removed {
            tracing::error!(sandbox = %self.unit, "could not clear a build: {e}");
        }
        let gone = crate::mount::unmount_below(&self.dir()).and_then(|()| crate::sandbox::remove_dir_all(&self.dir()));
        if let Err(e) = gone {
            tracing::error!(sandbox = %self.unit, "could not remove a build's directory: {e}");
        }
    }
}

type Take<'a> = dyn FnMut(&[u8]) -> Result<(), Reason> + Send + 'a;

#[derive(Default)]
struct Run<'a> {
    args: &'a [&'a str],
    binds: &'a [Bind],
    stdin: Option<OwnedFd>,
    /// With the network go the cache and the operator's package settings.
    network: bool,
    read_only: bool,
}

/// The end of what a short program printed, for its reason.
#[derive(Default)]
struct Said(Vec<u8>);

impl Said {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(2000);
        self.0.drain(..surplus);
        Ok(())
    }

    fn last(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        line.chars().filter(|c| !c.is_control()).take(300).collect()
    }
}

/// Takes the file away from the app, then reads it: what was hashed is what is sent.
fn hash(path: &Path) -> io::Result<(fs::File, [u8; 32], u64)> {
    use std::io::{Read, Seek};
    use std::os::unix::fs::{OpenOptionsExt, fchown};
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    fchown(&file, Some(0), Some(0))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
        bytes += n as u64;
    }
    file.rewind()?;
    Ok((file, digest.finalize().into(), bytes))
}
