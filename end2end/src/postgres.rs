//! One PostgreSQL a run, a database a test, made from a migrated template.
//! (A schema a test would share advisory locks and notifications.)

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use sqlx::migrate::Migrator;
use sqlx::{Connection, Executor, PgConnection};

use crate::keeper::{self, Until};

/// The owner's name, and that of everybody's password: the server is reached by its socket only.
const OWNER: &str = "berth";
/// The roles that the migrations grant to.
const ROLES: [&str; 3] = ["berth_web", "berth_receiver", "berth_control"];

/// How long a test waits for its database to go.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// A database of its own; goes when this is dropped.
pub struct Postgres {
    name: String,
    url: String,
    server: Server,
}

impl Postgres {
    /// For the owner's role.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For one of `berth_web`, `berth_receiver`, `berth_control`.
    pub fn url_as(&self, role: &str) -> String {
        self.server.url(role, &self.name)
    }

    /// One statement, as the owner: what no door of Berth can do.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut owner = PgConnection::connect(&self.url).await?;
        owner.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.with_context(|| format!("could not {sql}"))?;
        Ok(())
    }
}

/// A database that holds what the migrations make.
pub async fn postgres() -> Result<Postgres> {
    let server = Server::get().await?;
    let template = server.template().await?;
    server.database(Some(&template)).await
}

/// A database without anything, in a server that knows the roles.
pub async fn empty() -> Result<Postgres> {
    Server::get().await?.database(None).await
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let (admin, drop) =
            (self.server.url(OWNER, "postgres"), format!("drop database if exists \"{}\" with (force)", self.name));
        let (done, dropped) = std::sync::mpsc::channel();
        // A thread, since this may run inside a runtime. A failure is the keeper's to clean up.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let end = runtime.block_on(async {
                let mut admin = PgConnection::connect(&admin).await.ok()?;
                admin.execute(sqlx::AssertSqlSafe(drop)).await.ok()
            });
            let _ = done.send(());
            end
        });
        // PostgreSQL waits for every session that is just being opened. One of this thread's own runtime stands
        // still meanwhile: it gives way, and the server ends by itself what it was asked for.
        let _ = dropped.recv_timeout(DROP_WAIT);
    }
}

/// The run's server; this process holds a share of its lock until it ends.
#[derive(Clone)]
struct Server {
    directory: PathBuf,
}

impl Server {
    async fn get() -> Result<Self> {
        static HELD: OnceLock<Flock<fs::File>> = OnceLock::new();
        static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        ensure!(nix::unistd::geteuid().is_root(), "tests start PostgreSQL as another user: run them as root");

        let directory = keeper::run_directory("postgres");
        let server = Self { directory: directory.clone() };
        let _starting = STARTING.lock().await;
        if HELD.get().is_some() {
            return Ok(server);
        }
        // Outside of the directory, which goes before the lock does.
        let lock = directory.with_extension("lock");
        let held = keeper::share(&lock)?;
        // One starts it; the others wait here, and find it.
        let gate = directory.with_extension("gate");
        let _gate = {
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&gate)?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, cause)| cause).context("could not lock")?
        };
        let there = if directory.join("ready").exists() { Ok(()) } else { server.start(&lock).await };
        let _ = fs::remove_file(&gate);
        there?;
        let _ = HELD.set(held);
        Ok(server)
    }

    async fn start(&self, lock: &Path) -> Result<()> {
        let _ = fs::remove_dir_all(&self.directory);
        keeper::directory(&self.directory)?;
        let directory = self.directory.clone();
        keeper::keep(&self.directory, Until::Unlocked(lock.to_owned()), move || start(&directory))?;
        prepare(&self.directory, &self.url(OWNER, "postgres")).await
    }

    fn url(&self, role: &str, database: &str) -> String {
        let host = self.directory.join("run");
        format!("postgres://{role}:{OWNER}@localhost/{database}?host={}", host.display())
    }

    async fn admin(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url(OWNER, "postgres")).await.context("could not connect to the tests' PostgreSQL")
    }

    /// The name of the template, made once a run and set of migrations.
    async fn template(&self) -> Result<String> {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
        let migrator = Migrator::new(migrations.as_path()).await.context("could not read the migrations")?;
        // FNV-1a over the checksums: two checkouts that share a server differ by what they migrate to.
        let hash = migrator
            .iter()
            .flat_map(|migration| migration.checksum.iter())
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        let name = format!("template_{hash:016x}");

        let mut admin = self.admin().await?;
        admin.execute("select pg_advisory_lock(7)").await?;
        let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(&name)
            .fetch_one(&mut admin)
            .await?;
        if !there {
            let making = format!("{name}_new");
            admin.execute(sqlx::AssertSqlSafe(format!("drop database if exists {making} with (force)"))).await?;
            admin.execute(sqlx::AssertSqlSafe(format!("create database {making}"))).await?;
            let mut database = PgConnection::connect(&self.url(OWNER, &making)).await?;
            migrator.run(&mut database).await.context("a migration failed")?;
            database.close().await?;
            admin.execute(sqlx::AssertSqlSafe(format!("alter database {making} rename to {name}"))).await?;
        }
        admin.execute("select pg_advisory_unlock(7)").await?;
        Ok(name)
    }

    async fn database(&self, template: Option<&str>) -> Result<Postgres> {
        let name = format!("test_{:016x}", rand::random::<u64>());
        let mut admin = self.admin().await?;
        let template = template.unwrap_or("template1");
        // Two that copy one template at once disturb each other.
        admin.execute("select pg_advisory_lock(8)").await?;
        admin.execute(sqlx::AssertSqlSafe(format!("create database {name} template {template}"))).await?;
        admin.close().await?;
        Ok(Postgres { url: self.url(OWNER, &name), name, server: self.clone() })
    }
}

/// A server that nobody else uses, with a database `paas` of a user who may make roles and no more.
pub struct PostgresServer {
    directory: PathBuf,
    /// Never written to: its end tells the keeper.
    alive: Option<std::io::PipeWriter>,
}

impl PostgresServer {
    pub async fn start() -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("berth-test-pg-{:016x}", rand::random::<u64>()));
        keeper::directory(&directory)?;
        let (watched, alive) = std::io::pipe()?;
        keeper::keep(&directory, Until::Closed(watched.into()), {
            let directory = directory.clone();
            move || start(&directory)
        })?;
        let this = Self { directory, alive: Some(alive) };
        let admin = this.url(OWNER, "postgres");
        prepare(&this.directory, &admin).await?;
        let mut admin = PgConnection::connect(&admin).await?;
        for role in ROLES {
            admin.execute(sqlx::AssertSqlSafe(format!("drop role {role}"))).await?;
        }
        admin.execute(sqlx::AssertSqlSafe(format!("create role paas login password '{OWNER}'"))).await?;
        admin.execute("create database paas owner paas").await?;
        Ok(this)
    }

    fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}:{OWNER}@localhost/{database}?host={}", self.directory.join("run").display())
    }

    /// What an operator gives to Berth.
    pub fn given(&self) -> String {
        self.url("paas", "paas")
    }

    /// As a superuser, in that database; the first value, if there is one.
    pub async fn sql(&self, query: &str) -> Result<Option<String>> {
        let mut admin = PgConnection::connect(&self.url(OWNER, "paas")).await?;
        let row = sqlx::query(sqlx::AssertSqlSafe(query.to_owned())).fetch_optional(&mut admin).await?;
        Ok(row.and_then(|row| sqlx::Row::try_get::<String, _>(&row, 0).ok()))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        drop(self.alive.take());
        let deadline = Instant::now() + Duration::from_secs(15);
        while self.directory.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where Debian and others put the server's programs.
fn program(name: &str) -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let mut found: Vec<_> =
        versions.flatten().map(|v| v.path().join("bin").join(name)).filter(|p| p.exists()).collect();
    found.sort();
    found.pop().with_context(|| format!("PostgreSQL's {name} is not installed"))
}

fn start(directory: &Path) -> Result<Child> {
    // Below the first slice's users, above those that a server names.
    let uid = 900_000 + rand::random_range(0..100_000);
    let (data, run, passwd) = (directory.join("data"), directory.join("run"), directory.join("passwd"));
    fs::write(&passwd, format!("{OWNER}:x:{uid}:{uid}::/:/bin/false\n"))?;
    fs::write(directory.join("password"), OWNER)?;
    for path in [&data, &run] {
        keeper::directory(path)?;
        std::os::unix::fs::chown(path, Some(uid), Some(uid))?;
    }
    let log = fs::File::create(directory.join("log"))?;

    let mut initdb = Command::new(program("initdb")?);
    initdb.args(["-U", OWNER, "--auth-local=scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
    initdb.arg(&data).arg(format!("--pwfile={}", directory.join("password").display()));
    initdb.stdout(log.try_clone()?).stderr(log.try_clone()?);
    keeper::as_user(&mut initdb, uid, Some(&passwd));
    if !initdb.status().context("could not start initdb")?.success() {
        bail!("initdb failed: {}", said(directory));
    }

    let mut postgres = Command::new(program("postgres")?);
    postgres.arg("-D").arg(&data).arg("-c").arg(format!("unix_socket_directories={}", run.display()));
    for setting in [
        "listen_addresses=",
        "shared_buffers=32MB",
        "max_connections=200",
        // Nothing here outlives the run.
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "autovacuum=off",
    ] {
        postgres.args(["-c", setting]);
    }
    postgres.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
    keeper::as_user(&mut postgres, uid, Some(&passwd));
    postgres.spawn().context("could not start postgres")
}

/// Asks the PostgreSQL of a Berth that has stopped: what is in its files.
pub fn sql_of_stopped(berth: &crate::Berth, query: &str) -> Result<String> {
    let uid = berth.uid_first + 1;
    let passwd = berth.home().join("passwd");
    fs::write(&passwd, format!("{OWNER}:x:{uid}:{uid}::/:/bin/false\n"))?;
    let mut single = Command::new(program("postgres")?);
    single.args(["--single", "-D"]).arg(berth.data.join("postgres")).arg(OWNER).current_dir("/");
    keeper::as_user(&mut single, uid, Some(&passwd));
    single.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = single.spawn().context("could not start postgres")?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, format!("{query}\n").as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // ` 1: sum = "42" (typeid = …)`
    let value = said.split(" = \"").nth(1).and_then(|rest| rest.split('"').next());
    value.map(str::to_owned).with_context(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Waits until the server answers, and makes the roles.
async fn prepare(directory: &Path, admin: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut admin = loop {
        match PgConnection::connect(admin).await {
            Ok(connection) => break connection,
            Err(cause) if Instant::now() > deadline => {
                bail!("the tests' PostgreSQL does not answer: {cause}; {}", said(directory))
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    for role in ROLES {
        admin.execute(sqlx::AssertSqlSafe(format!("create role {role} login password '{OWNER}'"))).await?;
    }
    fs::write(directory.join("ready"), "")?;
    Ok(())
}

fn said(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn two_tests_share_a_server_and_no_database() {
        let (one, two) = (empty().await.unwrap(), empty().await.unwrap());
        let mut first = PgConnection::connect(one.url()).await.unwrap();
        first.execute("create table here (n int)").await.unwrap();
        let mut second = PgConnection::connect(two.url()).await.unwrap();
        assert!(second.execute("select * from here").await.is_err());
        let mut web = PgConnection::connect(&one.url_as("berth_web")).await.unwrap();
        assert!(web.execute("select * from here").await.is_err(), "a role has no right that was not granted");
    }

    #[tokio::test]
    async fn a_dropped_database_is_gone() {
        let one = empty().await.unwrap();
        let url = one.url().to_owned();
        drop(one);
        assert!(PgConnection::connect(&url).await.is_err());
    }

    /// PostgreSQL waits a minute for it, and so did every test beside it.
    #[tokio::test]
    async fn a_session_that_is_never_opened_holds_up_no_test() {
        let one = empty().await.unwrap();
        let url = one.url().to_owned();
        let mut half = UnixStream::connect(one.server.directory.join("run/.s.PGSQL.5432")).unwrap();
        let words = b"user\0berth\0database\0postgres\0\0";
        half.write_all(&u32::try_from(words.len() + 8).unwrap().to_be_bytes()).unwrap();
        half.write_all(&[0, 3, 0, 0]).unwrap();
        half.write_all(words).unwrap();
        half.read_exact(&mut [0]).unwrap();
        let began = Instant::now();
        drop(one);
        assert!(began.elapsed() < DROP_WAIT * 3, "it took {:?}", began.elapsed());
        drop(half);
        let deadline = Instant::now() + Duration::from_secs(20);
        while PgConnection::connect(&url).await.is_ok() {
            assert!(Instant::now() < deadline, "the database is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
