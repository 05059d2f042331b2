//! Berth's own PostgreSQL and Redis: the server's programs, under users of the slice, on unix sockets only.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use domain::Secret;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use crate::child::{Child, Identity, prepare};
use crate::keep::Unit;
use crate::outside::{self, Given};
use crate::process::Process;
use crate::slice::{Slice, SliceError, User, directory};

const INITDB_TIMEOUT: Duration = Duration::from_secs(120);
/// After a power cut it replays what it had written.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// The owner's role and the database.
pub const OWNER: &str = "berth";
/// What PostgreSQL calls the user of the child `migrate`, who alone is the owner.
const MIGRATE: &str = "berth_migrate";

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{what} is not installed: `cargo xtask build` installs what Berth needs, or `apt-get install {package}`")]
    Missing { what: &'static str, package: &'static str },
    #[error("could not {doing}")]
    Io {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("could not prepare PostgreSQL's data:\n{said}")]
    Initdb { said: String },
    #[error("this data was written by PostgreSQL {version}, which is not installed")]
    Version { version: String },
    #[error("{what} did not start; its log lines above say why")]
    Start { what: &'static str },
    #[error(transparent)]
    Slice(#[from] SliceError),
}

fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |cause| EngineError::Io { doing, cause }
}

/// A Redis user: who, its password, and the keys that it may touch.
#[derive(Clone, Serialize, Deserialize)]
pub struct RedisUser {
    pub name: String,
    pub password: Secret<String>,
    pub keys: Vec<String>,
}

/// Where the truth is.
#[derive(Clone)]
pub enum Database {
    Own(Postgres),
    Outside(Secret<String>),
}

impl Database {
    /// For a role with its password.
    pub fn url(&self, role: &str, password: &Secret<String>) -> Secret<String> {
        match self {
            Self::Own(own) => own.url(role, password),
            Self::Outside(url) => store::outside::url_as(url, role, password),
        }
    }

    pub fn owner_url(&self) -> Secret<String> {
        match self {
            Self::Own(own) => own.owner_url(),
            Self::Outside(url) => url.clone(),
        }
    }

    pub fn unit(&self) -> Option<Unit> {
        match self {
            Self::Own(own) => Some(Unit::Postgres(own.clone())),
            Self::Outside(_) => None,
        }
    }
}

/// Where sessions, limits and readings on their way are.
#[derive(Clone)]
pub enum Cache {
    Own(Redis),
    Outside(Secret<String>),
}

impl Cache {
    pub fn url(&self, user: &RedisUser) -> Secret<String> {
        match self {
            Self::Own(own) => own.url(user),
            Self::Outside(url) => outside::redis_url_as(url, user),
        }
    }

    pub fn unit(&self) -> Option<Unit> {
        match self {
            Self::Own(own) => Some(Unit::Redis(own.clone())),
            Self::Outside(_) => None,
        }
    }
}

/// Those that were given, or our own, prepared and not started yet.
pub async fn set_up(
    given: &Given,
    slice: &Slice,
    data: &Path,
    joins: &[PathBuf],
    users: &[RedisUser],
) -> Result<(Database, Cache), EngineError> {
    let database = match &given.database {
        Some(url) => Database::Outside(url.clone()),
        None => Database::Own(Postgres::prepare(slice, data, joins).await?),
    };
    let cache = match &given.redis {
        Some(url) => Cache::Outside(url.clone()),
        None => Cache::Own(Redis::prepare(slice, data, joins, users)?),
    };
    Ok((database, cache))
}

#[derive(Clone)]
pub struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    /// Root's, outside of what PostgreSQL may write.
    passwd: PathBuf,
    hba: PathBuf,
    ident: PathBuf,
    user: Identity,
    joins: Vec<PathBuf>,
}

impl Postgres {
    /// Makes its directories, and its data at the first start.
    pub async fn prepare(slice: &Slice, data: &Path, joins: &[PathBuf]) -> Result<Self, EngineError> {
        let data = data.join("postgres");
        let (uid, sockets) = (slice.uid(User::Postgres), slice.run().join("pg"));
        let this = Self {
            programs: programs(&data)?,
            passwd: slice.run().join("passwd"),
            hba: slice.run().join("pg_hba.conf"),
            ident: slice.run().join("pg_ident.conf"),
            user: Identity { uid, gid: uid, groups: vec![] },
            joins: joins.to_vec(),
            data,
            sockets,
        };
        directory(&this.sockets, 0o750, uid, slice.uid(User::ToPostgres))?;
        let migrate = slice.uid(User::Migrate);
        let passwd = format!(
            "root:x:0:0::/:/bin/false\nberth_postgres:x:{uid}:{uid}::/:/bin/false\n{MIGRATE}:x:{migrate}:{migrate}::/:/bin/false\n"
        );
        // Who may come in: the owner's role only as the user of `migrate`, told by the kernel; the others by password.
        let hba = format!("local {OWNER} {OWNER} peer map=owner\nlocal {OWNER} all scram-sha-256\n");
        let ident = format!("owner {MIGRATE} {OWNER}\n");
        for (path, text) in [(&this.passwd, passwd), (&this.hba, hba), (&this.ident, ident)] {
            let written = fs::write(path, text);
            let open = written.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)));
            open.map_err(doing("write who may use PostgreSQL"))?;
        }
        if !this.data.join("PG_VERSION").exists() {
            this.initdb().await?;
        }
        Ok(this)
    }

    /// For a role with its password.
    pub fn url(&self, role: &str, password: &Secret<String>) -> Secret<String> {
        Secret::new(format!(
            "postgres://{role}:{}@localhost/{OWNER}?host={}",
            password.expose(),
            self.sockets.display()
        ))
    }

    /// For the user of the child `migrate`, whom the kernel names: no password.
    pub fn owner_url(&self) -> Secret<String> {
        owner_url(&self.sockets)
    }

    async fn initdb(&self) -> Result<(), EngineError> {
        info!("preparing PostgreSQL's data, once");
        // Only what is whole gets its name.
        let new = self.data.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        directory(&new, 0o700, self.user.uid, self.user.gid)?;
        let mut initdb = self.program("initdb");
        initdb.args(["-U", OWNER, "--auth-local=peer", "--auth-host=reject", "-E", "UTF8", "--locale=C.UTF-8", "-D"]);
        initdb.arg(&new);
        self.once(initdb, "").await?;
        let mut single = self.program("postgres");
        single.args(["--single", "-D"]).arg(&new).arg("postgres");
        self.once(single, &format!("create database {OWNER}\n")).await?;
        fs::rename(&new, &self.data).map_err(doing("name PostgreSQL's data"))
    }

    async fn once(&self, mut command: Command, input: &str) -> Result<(), EngineError> {
        self.isolate(&mut command).map_err(doing("prepare initdb"))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().map_err(doing("start initdb"))?;
        if let Some(mut to) = child.stdin.take() {
            to.write_all(input.as_bytes()).await.map_err(doing("speak to initdb"))?;
        }
        let output = timeout(INITDB_TIMEOUT, child.wait_with_output()).await;
        let output =
            output.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(doing("wait for initdb"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
            return Err(EngineError::Initdb { said });
        }
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }

    /// PostgreSQL insists that its user has a name: it sees a passwd of its own.
    fn isolate(&self, command: &mut Command) -> io::Result<()> {
        let passwd = self.passwd.clone();
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(move || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                // A slave: an image that the runner unmounts must not stay mounted in here.
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
                mount(Some(passwd.as_path()), "/etc/passwd", None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
                Ok(())
            });
        }
        // SIGQUIT: it and its children leave at once, and recover at the next start.
        prepare(command, &self.joins, self.user.clone(), libc::SIGQUIT)
    }

    pub fn spawn(&self) -> io::Result<Child> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(&self.data);
        for (setting, path) in
            [("unix_socket_directories", &self.sockets), ("hba_file", &self.hba), ("ident_file", &self.ident)]
        {
            command.arg("-c").arg(format!("{setting}={}", path.display()));
        }
        for setting in [
            "listen_addresses=",
            // Who reaches the directory may ask; pg_hba.conf says who comes in.
            "unix_socket_permissions=0777",
            "shared_buffers=32MB",
            "max_connections=100",
            // The default, 1 GB, is as much as stays free of a full disk.
            "max_wal_size=256MB",
            "password_encryption=scram-sha-256",
            // One line a message, for the supervisor's log.
            "log_line_prefix=",
            "logging_collector=off",
        ] {
            command.args(["-c", setting]);
        }
        self.isolate(&mut command)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        running(child, "postgres")
    }

    pub async fn ready(&self) -> Result<(), EngineError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if self.answers().await.unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(EngineError::Start { what: "PostgreSQL" })
    }

    /// Whether it takes connections: during recovery it refuses them with an error of class 57.
    async fn answers(&self) -> io::Result<bool> {
        use tokio::io::AsyncReadExt;
        let mut stream = UnixStream::connect(self.sockets.join(".s.PGSQL.5432")).await?;
        // A start-up message of protocol 3.0 for a database that nobody may enter: any answer that is
        // not "starting up" means that it is up.
        let body = b"user\0berth_ready\0database\0none\0\0";
        let mut message = (body.len() as u32 + 8).to_be_bytes().to_vec();
        message.extend_from_slice(&196_608_u32.to_be_bytes());
        message.extend_from_slice(body);
        stream.write_all(&message).await?;
        let mut answer = Vec::new();
        timeout(Duration::from_secs(5), stream.take(4096).read_to_end(&mut answer)).await??;
        Ok(answer.first() == Some(&b'E') && !answer.windows(7).any(|part| part == b"C57P03\0"))
    }
}

pub fn owner_url(sockets: &Path) -> Secret<String> {
    Secret::new(format!("postgres://{OWNER}@localhost/{OWNER}?host={}", sockets.display()))
}

/// The programs of the version that wrote the data; for new data, of the newest.
pub fn programs(data: &Path) -> Result<PathBuf, EngineError> {
    let missing = || EngineError::Missing { what: "PostgreSQL", package: "postgresql" };
    let home = Path::new("/usr/lib/postgresql");
    if let Ok(version) = fs::read_to_string(data.join("PG_VERSION")) {
        let version = version.trim().to_owned();
        let programs = home.join(&version).join("bin");
        return if programs.join("postgres").exists() { Ok(programs) } else { Err(EngineError::Version { version }) };
    }
    let versions = fs::read_dir(home).map_err(|_| missing())?;
    let number = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    let newest = versions.flatten().map(|v| v.path()).filter(|p| p.join("bin/postgres").exists()).max_by_key(number);
    newest.map(|version| version.join("bin")).ok_or_else(missing)
}

#[derive(Clone)]
pub struct Redis {
    config: String,
    socket: PathBuf,
    user: Identity,
    joins: Vec<PathBuf>,
}

impl Redis {
    pub fn prepare(slice: &Slice, data: &Path, joins: &[PathBuf], users: &[RedisUser]) -> Result<Self, EngineError> {
        let (uid, data, sockets) = (slice.uid(User::Redis), data.join("redis"), slice.run().join("redis"));
        directory(&data, 0o700, uid, uid)?;
        directory(&sockets, 0o750, uid, slice.uid(User::ToRedis))?;
        let socket = sockets.join("redis.sock");
        let mut config = format!(
            "port 0\nunixsocket {}\nunixsocketperm 777\ndir {}\nappendonly yes\nsave \"\"\nmaxmemory-policy noeviction\n\
             daemonize no\nuser default off\n",
            socket.display(),
            data.display(),
        );
        for RedisUser { name, password, keys } in users {
            let keys: Vec<String> = keys.iter().map(|key| format!("~{key}")).collect();
            config.push_str(&format!(
                "user {name} on >{} resetchannels {} +@all -@admin -@dangerous\n",
                password.expose(),
                keys.join(" ")
            ));
        }
        Ok(Self { config, socket, user: Identity { uid, gid: uid, groups: vec![] }, joins: joins.to_vec() })
    }

    pub fn url(&self, user: &RedisUser) -> Secret<String> {
        let password = user.password.expose();
        Secret::new(format!("redis+unix://{}?user={}&pass={password}", self.socket.display(), user.name))
    }

    pub fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new("redis-server");
        command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut command, &self.joins, self.user.clone(), libc::SIGTERM)?;
        let mut child = command.spawn()?;
        // By its input: no password in a file, in an argument or in the environment. It fits the pipe.
        let input = child.stdin.take();
        let child = running(child, "redis")?;
        if let Some(mut input) = input {
            io::Write::write_all(&mut input, self.config.as_bytes())?;
        }
        Ok(child)
    }

    pub async fn ready(&self) -> Result<(), EngineError> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(EngineError::Start { what: "Redis" })
    }
}

/// What it says goes into the supervisor's log.
fn running(mut child: std::process::Child, name: &'static str) -> io::Result<Child> {
    let said = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    adopted(child.id(), said.into_iter().flatten().collect(), name)
}

/// Of an engine that runs already: `said` is its output.
pub fn adopted(pid: u32, said: Vec<OwnedFd>, name: &'static str) -> io::Result<Child> {
    let mut child = Child::new(Process::of_child(pid)?, None);
    for end in said {
        let flags = nix::fcntl::OFlag::from_bits_retain(nix::fcntl::fcntl(&end, nix::fcntl::FcntlArg::F_GETFL)?);
        nix::fcntl::fcntl(&end, nix::fcntl::FcntlArg::F_SETFL(flags | nix::fcntl::OFlag::O_NONBLOCK))?;
        child.listening.spawn(lines(pipe::Receiver::from_owned_fd(end.try_clone()?)?, name));
        child.said.push(end);
    }
    Ok(child)
}

async fn lines(said: impl AsyncRead + Unpin, name: &'static str) {
    let mut lines = BufReader::new(said).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let line = line.trim();
        // What is asked while it starts, and by `answers`, is no one's trouble.
        let ours = ["berth_ready", "database system is starting", "not yet accepting", "connection to client lost"]
            .iter()
            .any(|w| line.contains(w));
        let bad = !ours && ["ERROR:", "FATAL:", "PANIC:", "Can't ", "Failed ", "Bad "].iter().any(|w| line.contains(w));
        match bad {
            true => warn!(engine = name, "{line}"),
            false => debug!(engine = name, "{line}"),
        }
    }
}
