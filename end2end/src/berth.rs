//! A `berth up` of its own, with a data directory that goes with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{read, said};
use crate::json::Json;
use crate::left::processes_of;
use crate::stop::{asked_to_stop, end_with_this_thread, terminate, wait};
use crate::visitor::Visitor;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

pub struct Berth {
    child: RefCell<Child>,
    binary: PathBuf,
    uv: Option<PathBuf>,
    /// Further words for `berth up`.
    flags: Vec<String>,
    /// Its end was seen to, and need not be at drop.
    stopped: bool,
    /// Further variables for `berth up`.
    variables: Vec<(String, String)>,
    /// Holds all that this demo writes.
    home: PathBuf,
    pub data: PathBuf,
    pub slice: u32,
    pub uid_first: u32,
    pub http: SocketAddr,
    pub ssh: SocketAddr,
    /// `http://localhost:8080`
    pub site: String,
}

impl Berth {
    /// Starts it on free ports; `name` tells its directory from others'.
    pub fn start(binary: &Path, uv: Option<&Path>, name: &str) -> Result<Self> {
        Self::start_with(binary, uv, name, &[], &[], None)
    }

    /// With further flags and variables in its environment, and its data below `disk`.
    pub fn start_with(
        binary: &Path,
        uv: Option<&Path>,
        name: &str,
        flags: &[&str],
        variables: &[(&str, &str)],
        disk: Option<&Path>,
    ) -> Result<Self> {
        // Not below the repository: its folders may be closed to Berth's own users.
        let home = std::env::temp_dir().join(format!("berth-{name}-{}", std::process::id()));
        fs::DirBuilder::new()
            .mode(0o711)
            .create(&home)
            .with_context(|| format!("could not make {}", home.display()))?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o711))?;
        let data = disk.unwrap_or(&home).join("data");
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        // Any free ports.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables: Vec<(String, String)> = variables.iter().map(pair).collect();
        let child = RefCell::new(up(binary, uv, &home, &data, [nowhere, nowhere], (&flags, &variables))?);
        let mut berth = Self {
            child,
            binary: binary.to_owned(),
            uv: uv.map(Path::to_owned),
            flags,
            stopped: false,
            variables,
            home,
            data,
            slice: 0,
            uid_first: 0,
            http: nowhere,
            ssh: nowhere,
            site: String::new(),
        };
        if let Err(cause) = berth.ready() {
            let said = berth.last_words();
            let _ = berth.stop();
            return Err(cause.context(said));
        }
        Ok(berth)
    }

    /// After its supervisor ended: starts it on the same data and ports.
    pub fn start_again(&mut self) -> Result<()> {
        self.child.borrow_mut().wait()?;
        self.start_with_flags(self.flags.clone())
    }

    /// The same, with these further words.
    pub fn start_with_flags(&mut self, flags: Vec<String>) -> Result<()> {
        self.flags = flags;
        let _ = fs::remove_file(self.data.join("addresses.json"));
        let (at, told) = ([self.http, self.ssh], (self.flags.as_slice(), self.variables.as_slice()));
        self.child = RefCell::new(up(&self.binary, self.uv.as_deref(), &self.home, &self.data, at, told)?);
        self.ready()
    }

    fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let path = self.data.join("addresses.json");
        let text = loop {
            if let Ok(text) = fs::read_to_string(&path) {
                break text;
            }
            ensure!(self.runs()?, "berth up ended at its start");
            ensure!(Instant::now() < deadline, "berth up was not ready within {START_TIMEOUT:?}");
            ensure!(!asked_to_stop(), "stopped by a signal");
            std::thread::sleep(Duration::from_millis(20));
        };
        let json = Json::parse(&text)?;
        let number = |name: &str| match json.at(name) {
            Json::Number(number) => Ok(*number as u32),
            _ => bail!("addresses.json has no {name}"),
        };
        (self.slice, self.uid_first) = (number("slice")?, number("uid_first")?);
        self.http = json.at("http").text().parse().context("addresses.json has no address for HTTP")?;
        self.ssh = json.at("ssh").text().parse().context("addresses.json has no address for SSH")?;
        self.site = json.at("urls").at("site").text().to_owned();
        // The first page says that every role on its way runs.
        let mut visitor = Visitor::new(&self.site, self.http);
        wait(START_TIMEOUT, || {
            let answer = visitor.get("/")?;
            ensure!(answer.status == 200, "the site answered {}", answer.status);
            Ok(())
        })
    }

    pub fn runs(&self) -> Result<bool> {
        Ok(self.child.borrow_mut().try_wait()?.is_none())
    }

    pub fn app(&self, name: &str) -> String {
        format!("http://{name}.localhost:{}", self.http.port())
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn make_user(&self, email: &str, name: &str) -> Result<String> {
        self.operator().says(&["user", "create", email, "--name", name])
    }

    pub fn sign_in_link(&self, email: &str) -> Result<String> {
        self.operator().sign_in_link(email)
    }

    /// What `berth WORDS` prints on this data, whether it went well or not.
    pub fn command(&self, words: &[&str]) -> Result<(bool, String)> {
        said(Command::new(&self.binary).args(words).arg("--data").arg(&self.data))
    }

    /// Whoever types commands on its server.
    pub fn operator(&self) -> Operator {
        Operator { binary: self.binary.clone(), data: self.data.clone() }
    }

    /// Asked as the database's owner, whom the kernel names: a program under its user.
    pub fn sql(&self, query: &str) -> Result<String> {
        let (uid, group) = (self.uid_first + 3, self.uid_first + 40);
        let mut psql = Command::new("setpriv");
        psql.args([format!("--reuid={uid}"), format!("--regid={uid}"), format!("--groups={group}")]);
        psql.args(["--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "berth", "-d", "berth", "-h"]);
        psql.arg(format!("/run/berth/{}.d/pg", self.slice)).args(["-c", query]).current_dir("/");
        Ok(read(&mut psql)?.trim().to_owned())
    }

    /// The process of a role, or of `postgres` or `redis`; found by its name in the platform's control group.
    pub fn process(&self, role: &str) -> Result<u32> {
        for (pid, words) in self.platform()? {
            let is_it = match role {
                "postgres" => words.split(' ').next().is_some_and(|first| first.ends_with("/postgres")),
                "redis" => words.split(' ').next().is_some_and(|first| first.ends_with("redis-server")),
                _ => words.starts_with(&format!("berth role {role}")),
            };
            if is_it {
                return Ok(pid);
            }
        }
        bail!("no process of {role} runs")
    }

    /// The processes that hold sandboxes.
    pub fn shims(&self) -> Result<Vec<u32>> {
        Ok(processes_of(self.slice, "apps/shims")?.into_iter().collect())
    }

    /// All processes of an engine: `postgres` or `redis`.
    pub fn engine(&self, name: &str) -> Result<Vec<u32>> {
        let first = |words: &str| words.split(' ').next().unwrap_or_default().contains(name);
        Ok(self.platform()?.into_iter().filter(|(_, words)| first(words)).map(|(pid, _)| pid).collect())
    }

    /// A session of PostgreSQL's.
    pub fn backend(&self) -> Result<u32> {
        self.platform()?
            .into_iter()
            .find(|(_, words)| words.starts_with("postgres: berth_"))
            .map(|(pid, _)| pid)
            .context("nobody is connected")
    }

    /// The processes of the platform's control group, each with its command line.
    fn platform(&self) -> Result<BTreeMap<u32, String>> {
        let words = |pid: u32| {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, words.replace('\0', " ").trim().to_owned())
        };
        Ok(processes_of(self.slice, "platform")?.into_iter().map(words).collect())
    }

    /// The pid of the only running instance's first process, as the database and the kernel know it: of the
    /// processes in the apps' control group, those whose command line contains `words`.
    pub fn app_processes(&self, words: &str) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let user = self.uid_first + 100..self.uid_first + 65_536;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
            let uid: u32 = uid.split_whitespace().next().unwrap_or_default().parse().unwrap_or(0);
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " ");
            if user.contains(&uid) && line.contains(words) {
                found.push(pid);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut log = File::open(self.home.join("log"))?;
            let from = log.metadata()?.len().saturating_sub(6000);
            log.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_default()
    }

    /// Until its supervisor has ended.
    pub fn wait(&self) -> Result<()> {
        self.child.borrow_mut().wait()?;
        Ok(())
    }

    /// Its supervisor.
    pub fn pid(&self) -> u32 {
        self.child.borrow().id()
    }

    /// Ends it, and removes what it wrote.
    pub fn stop(mut self) -> Result<()> {
        self.stopped = true;
        self.end()
    }

    fn end(&self) -> Result<()> {
        let mut child = self.child.borrow_mut();
        if child.try_wait()?.is_none() {
            terminate(child.id());
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("berth up did not end within {STOP_TIMEOUT:?}; its data is in {}", self.home.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = self.last_words();
        if !self.data.starts_with(&self.home) {
            fs::remove_dir_all(&self.data).with_context(|| format!("could not remove {}", self.data.display()))?;
        }
        fs::remove_dir_all(&self.home).with_context(|| format!("could not remove {}", self.home.display()))?;
        ensure!(status.success(), "berth up ended with {status}\n{said}");
        Ok(())
    }
}

/// Types `berth ...` as root on the server; may be another thread.
#[derive(Debug, Clone)]
pub struct Operator {
    binary: PathBuf,
    data: PathBuf,
}

impl Operator {
    pub fn sign_in_link(&self, email: &str) -> Result<String> {
        self.says(&["user", "link", email])
    }

    /// What `berth WORDS --data DATA` prints.
    pub fn says(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        Ok(read(command.args(words).arg("--data").arg(&self.data))?.trim().to_owned())
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if !self.stopped {
            eprintln!("--- berth's last words\n{}", self.last_words());
            if let Err(cause) = self.end() {
                eprintln!("could not end berth up: {cause:#}");
            }
        }
    }
}

fn up(
    binary: &Path,
    uv: Option<&Path>,
    home: &Path,
    data: &Path,
    [http, ssh]: [SocketAddr; 2],
    (flags, variables): (&[String], &[(String, String)]),
) -> Result<Child> {
    let log = File::options().create(true).append(true).open(home.join("log"))?;
    let mut up = Command::new(binary);
    up.args(["up", "--http", &http.to_string(), "--ssh", &ssh.to_string(), "--data"]).arg(data).args(flags);
    up.envs(variables.iter().map(|(name, value)| (name, value)));
    if let Some(uv) = uv {
        up.arg("--uv").arg(uv);
    }
    up.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Ctrl-C is this program's to pass on, when the time has come; when it is killed, the kernel does.
    up.process_group(0);
    end_with_this_thread(&mut up);
    up.spawn().with_context(|| format!("could not start {}", binary.display()))
}
