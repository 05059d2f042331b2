//! A receiver on a port of its own with what it needs; gone when it is dropped.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::wire::Uids;
use domain::{Secret, SourceHash};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::desk::{SHOP, TestDesk};
use super::runner::TestRunner;
use crate::{Config, Limits};

const UID_BASE: u32 = 3_000_000;
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) struct Ground {
    pub desk: TestDesk,
    pub runner: TestRunner,
    dir: Arc<TempDir>,
    port: u16,
    stop: CancellationToken,
    served: tokio::sync::Mutex<AbortOnDropHandle<Result<(), crate::ReceiverError>>>,
}

pub(super) async fn within(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

pub(super) async fn to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    heard
}

fn run(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn folder(path: PathBuf, mode: u32) -> PathBuf {
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn key(path: &Path) -> String {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
    let shown = run(Command::new("ssh-keygen").arg("-lf").arg(path));
    shown.split(' ').nth(1).unwrap().to_owned()
}

impl Ground {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests start git as another user: run them as root");
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let desk = TestDesk::new(key(&at("key")));
        let hook = hook(dir.path());
        let repos = folder(at("repos"), 0o711);
        repository(&repos.join(SHOP.to_string()), dir.path());
        let listener = UnixListener::bind(at("runner.sock")).unwrap();
        let runner = TestRunner::new(listener, repos, hook);
        let mut limits = Limits::default();
        change(&mut limits);
        let config = Config {
            dir: folder(at("receiver"), 0o700),
            hooks_dir: folder(at("hooks"), 0o711),
            disk_reserve_bytes: Some(0),
            objects_dir: folder(at("objects"), 0o700),
            runner_socket: at("runner.sock"),
            runner_token: Secret::new("the token".to_owned()),
            apps_uid_base: UID_BASE,
            commands: commands::Config {
                // Nobody listens there: the verbs answer that it is away.
                database_url: Secret::new("postgres://nobody@127.0.0.1:1/none".to_owned()),
                logs: None,
                urls: commands::Urls {
                    site: "http://localhost:8080".to_owned(),
                    apps_domain: "localhost".to_owned(),
                    apps_scheme: "http".to_owned(),
                    apps_port: Some(8080),
                    ssh: "berth@localhost:2222".to_owned(),
                },
                seal: None,
            },
            limits,
        };
        let commands = commands::Commands::connect(config.commands.clone()).await.unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let served = tokio::spawn(crate::run_with(
            desk.clone(),
            commands,
            config,
            vec![listener],
            || {},
            CancellationToken::new(),
            stop.clone(),
        ));
        let served = tokio::sync::Mutex::new(AbortOnDropHandle::new(served));
        Self { desk, runner, dir, port, stop, served }
    }

    pub(super) async fn stop(&self) {
        self.stop.cancel();
        let mut served = self.served.lock().await;
        tokio::time::timeout(DEADLINE, &mut *served).await.expect("it stops in time").unwrap().unwrap();
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("repos").join(SHOP.to_string())
    }

    pub(super) fn branch(&self, _app: &str, name: &str) -> Option<String> {
        let refs = self.refs("shop");
        let line = refs.lines().find_map(|line| line.strip_suffix(&format!(" refs/heads/{name}")))?;
        Some(line.to_owned())
    }

    pub(super) fn refs(&self, _app: &str) -> String {
        let mut command = Command::new("git");
        let repository = self.repository();
        command
            .args(["-c", "safe.directory=*", "-C"])
            .arg(repository)
            .args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        run(&mut command)
    }

    pub(super) fn hooks_dir_is_empty(&self) -> bool {
        std::fs::read_dir(self.dir.path().join("hooks")).unwrap().next().is_none()
    }

    pub(super) fn stored_sources(&self) -> usize {
        fn files(dir: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
            entries.flatten().map(|e| if e.path().is_dir() { files(&e.path()) } else { 1 }).sum()
        }
        files(&self.dir.path().join("objects/sources"))
    }

    /// As on a new server.
    pub(super) fn lose_repository(&self) {
        std::fs::remove_dir_all(self.repository()).unwrap();
    }

    pub(super) fn bundle(&self, hash: &domain::BundleHash) -> PathBuf {
        self.dir.path().join("objects/bundles").join(hash.as_str())
    }

    pub(super) fn unpack(&self, source: &SourceHash) -> TempDir {
        let out = tempfile::tempdir().unwrap();
        let tar = self.dir.path().join("objects/sources").join(source.as_str());
        run(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(out.path()));
        out
    }

    fn ssh_command(&self, key: &Path) -> String {
        let (key, port) = (key.display(), self.port);
        format!(
            "ssh -F /dev/null -p {port} -i {key} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
             -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        )
    }

    pub(super) fn key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    pub(super) fn stranger(&self) -> PathBuf {
        let path = self.dir.path().join("stranger");
        key(&path);
        path
    }

    pub(super) async fn ssh(&self, command: &[&str]) -> Done {
        self.ssh_as(&self.key(), command).await
    }

    pub(super) async fn ssh_as(&self, key: &Path, command: &[&str]) -> Done {
        self.ssh_run(key, command, &[]).await
    }

    pub(super) async fn ssh_with(&self, command: &[&str], input: &[u8]) -> Done {
        self.ssh_run(&self.key(), command, input).await
    }

    async fn ssh_run(&self, key: &Path, command: &[&str], input: &[u8]) -> Done {
        let words = self.ssh_command(key);
        let mut words = words.split_ascii_whitespace();
        let mut ssh = Command::new(words.next().unwrap());
        ssh.args(words);
        let options = command.iter().take_while(|word| word.starts_with('-')).count();
        ssh.args(&command[..options]).arg("git@127.0.0.1").args(&command[options..]);
        Running::spawn(ssh, input.to_vec()).done().await
    }

    /// A new work tree whose remote `berth` is the app.
    pub(super) fn work(&self, app: &str) -> Work {
        let work = Work {
            dir: tempfile::tempdir().unwrap(),
            ssh: self.ssh_command(&self.key()),
            _ground: Arc::clone(&self.dir),
        };
        work.git(&["init", "-q", "-b", "main"]);
        work.git(&["remote", "add", "berth", &self.url(app)]);
        work
    }

    fn url(&self, app: &str) -> String {
        format!("ssh://git@127.0.0.1:{}/{app}.git", self.port)
    }

    pub(super) async fn clone_of(&self, app: &str, protocol: &str, options: &str) -> (Done, Work) {
        let work = Work {
            dir: tempfile::tempdir().unwrap(),
            ssh: self.ssh_command(&self.key()),
            _ground: Arc::clone(&self.dir),
        };
        let mut clone = work.command();
        clone.env("GIT_SSH_COMMAND", format!("{} {options}", work.ssh));
        clone.args(["-c", &format!("protocol.version={protocol}"), "clone", "-q", &self.url(app), "."]);
        (Running::spawn(clone, Vec::new()).done().await, work)
    }
}

/// The hook, where other users can run it.
fn hook(dir: &Path) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let built = tests.parent().and_then(Path::parent).unwrap().join("examples/hook");
    let bin = folder(dir.join("bin"), 0o755);
    let hook = bin.join("proc-receive");
    std::fs::copy(&built, &hook).unwrap_or_else(|e| panic!("{}: {e}", built.display()));
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    hook
}

/// The bare repository of the app, as the runner makes it.
pub(super) fn repository(path: &Path, dir: &Path) {
    run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(path));
    for (key, value) in [
        ("core.hooksPath", dir.join("bin").to_str().unwrap()),
        ("receive.procReceiveRefs", "refs"),
        ("transfer.hideRefs", "refs/berth"),
        ("receive.fsckObjects", "true"),
        ("gc.auto", "0"),
        ("receive.autogc", "false"),
    ] {
        run(Command::new("git").arg("-C").arg(path).args(["config", "--add", key, value]));
    }
    let attributes = "* -export-ignore -export-subst -text !eol -ident -filter !working-tree-encoding\n";
    std::fs::write(path.join("info/attributes"), attributes).unwrap();
    let uid = Uids::of(UID_BASE, SHOP).unwrap().app;
    fn own(path: &Path, uid: u32) {
        chown(path, Some(uid), Some(uid)).unwrap();
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().flatten().for_each(|entry| own(&entry.path(), uid));
        }
    }
    own(path, uid);
}

pub(super) struct Work {
    dir: TempDir,
    ssh: String,
    _ground: Arc<TempDir>,
}

impl Work {
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.current_dir(self.dir.path());
        for name in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{name}_NAME"), "Ada").env(format!("GIT_{name}_EMAIL"), "ada@example.com");
        }
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_SSH_COMMAND", &self.ssh);
        command
    }

    pub(super) fn git(&self, args: &[&str]) -> String {
        run(self.command().args(args))
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    pub(super) fn random(&self, name: &str, bytes: usize) {
        let mut all = vec![0u8; bytes];
        rand::Rng::fill_bytes(&mut rand::rng(), &mut all);
        std::fs::write(self.dir.path().join(name), all).unwrap();
    }

    /// Its id.
    pub(super) fn commit(&self, subject: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(super) fn commit_empty(&self, subject: &str) -> String {
        self.git(&["commit", "-q", "--allow-empty", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(super) fn pull(&self) -> Push {
        let mut command = self.command();
        command.args(["fetch", "berth"]);
        Push(command)
    }

    pub(super) fn pull_branch(&self, name: &str) -> Push {
        let mut command = self.command();
        command.args(["fetch", "berth", name]);
        Push(command)
    }

    pub(super) fn push(&self, what: &str) -> Push {
        self.push_all(&[what])
    }

    pub(super) fn push_all(&self, what: &[&str]) -> Push {
        let mut command = self.command();
        command.args(["push", "berth"]).args(what);
        Push(command)
    }
}

pub(super) struct Push(Command);

impl Push {
    pub(super) fn spawn(self) -> Running {
        Running::spawn(self.0, Vec::new())
    }
}

/// A client that runs; ended when it is dropped.
pub(super) struct Running {
    child: tokio::process::Child,
    output: Arc<Mutex<Vec<u8>>>,
    reader: AbortOnDropHandle<()>,
}

#[derive(Debug)]
pub(super) struct Done {
    pub ok: bool,
    pub code: Option<i32>,
    /// Standard error and output, as they came.
    pub text: String,
}

impl Done {
    /// These, in this order.
    pub(super) fn says(&self, words: &[&str]) {
        let mut rest = self.text.as_str();
        for word in words {
            let at = rest.find(word).unwrap_or_else(|| panic!("'{word}' (in this order) in:\n{}", self.text));
            rest = &rest[at + word.len()..];
        }
    }
}

impl Running {
    fn spawn(command: Command, input: Vec<u8>) -> Self {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let mut command = tokio::process::Command::from(command);
        command
            .stdin(Stdio::piped())
            .stdout(write.try_clone().unwrap())
            .stderr(write)
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut stdin = child.stdin.take().unwrap();
        let mut from = tokio::net::unix::pipe::Receiver::from_owned_fd(read).unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&output);
        let reader = tokio::spawn(async move {
            let give = async move {
                let _ = stdin.write_all(&input).await;
                drop(stdin);
            };
            let take = async move {
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = from.read(&mut piece).await {
                    heard.lock().unwrap().extend_from_slice(&piece[..n]);
                }
            };
            tokio::join!(give, take);
        });
        Self { child, output, reader: AbortOnDropHandle::new(reader) }
    }

    pub(super) async fn done(mut self) -> Done {
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("the client ends in time").unwrap();
        self.reader.await.unwrap();
        let text = String::from_utf8_lossy(&self.output.lock().unwrap()).replace("\x1b[K", "");
        Done { ok: status.success(), code: status.code(), text }
    }

    /// Until it has said this.
    pub(super) async fn until_says(&self, words: &str) {
        within(words, || String::from_utf8_lossy(&self.output.lock().unwrap()).contains(words)).await;
    }

    /// As by a closed laptop: the client and its ssh.
    pub(super) async fn kill(mut self) {
        let group = nix::unistd::Pid::from_raw(self.child.id().unwrap() as i32);
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        self.child.wait().await.unwrap();
    }
}
