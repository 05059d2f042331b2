//! The process by its socket, as runner, web and control see it.

#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use domain::wire::{Lines, LogLine, LogStream, NewLine};
use domain::{AppId, Secret, Time};
use futures_util::StreamExt;
use link::{Caller, Client, LinkError, Role};
use logs::Config;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(20);
const APP: LogStream = LogStream::App(AppId(7));

fn config(dir: &Path) -> Config {
    let uid = nix::unistd::getuid().as_raw();
    let caller = |role| Caller { role, uid, token: Secret::new(format!("{role:?}")) };
    Config {
        dir: dir.join("logs"),
        callers: [Role::Runner, Role::Web, Role::Control, Role::Balancer].map(caller).to_vec(),
        bytes_max_per_app: 8 << 20,
        days_max: 7,
        segment_bytes: 16 << 10,
        disk_reserve_bytes: Some(0),
    }
}

fn client(socket: &Path, role: Role) -> Client {
    Client::new(socket, Secret::new(format!("{role:?}")))
}

struct Served {
    dir: tempfile::TempDir,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), logs::LogsError>>,
}

impl Served {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let running = tokio::spawn(logs::run(config(dir.path()), listener, stop.clone()));
        Self { dir, stop, running }
    }

    fn client(&self, role: Role) -> Client {
        client(&self.dir.path().join("s"), role)
    }
}

fn lines(origin: &str, texts: impl IntoIterator<Item = (u64, String)>) -> Lines {
    let at = Time::from(std::time::SystemTime::now());
    let line = |(position, text)| NewLine { position, at, source: "web.1".to_owned(), text };
    Lines { stream: APP, origin: origin.to_owned(), lines: texts.into_iter().map(line).collect() }
}

fn numbered(origin: &str, positions: std::ops::Range<u64>) -> Lines {
    lines(origin, positions.map(|n| (n, n.to_string())))
}

async fn send(client: &Client, lines: &Lines) -> Result<(), LinkError> {
    client.post::<()>("/v1/lines", lines, SOON).await.map(|_| ())
}

/// The first `n` lines of an answer, or all until it ends.
async fn read(client: &Client, query: &str, n: usize) -> Result<Vec<LogLine>, LinkError> {
    let mut stream = client.get_stream(&format!("/v1/stream?stream=app/7{query}"), SOON).await?;
    let (mut bytes, mut lines) = (Vec::new(), Vec::new());
    while lines.len() < n {
        let Some(chunk) = tokio::time::timeout(SOON, stream.next()).await.expect("lines come in time") else { break };
        bytes.extend_from_slice(&chunk?);
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            if line.len() > 1 {
                lines.push(serde_json::from_slice(&line).unwrap());
            }
        }
    }
    Ok(lines)
}

fn status(error: &LinkError) -> u16 {
    match error {
        LinkError::Status { status, .. } => status.as_u16(),
        other => panic!("no status: {other}"),
    }
}

#[tokio::test]
async fn the_runner_writes_web_and_control_read_and_nobody_does_more() {
    let served = Served::new();
    let [runner, web, control, balancer] =
        [Role::Runner, Role::Web, Role::Control, Role::Balancer].map(|role| served.client(role));
    send(&runner, &numbered("a", 0..3)).await.unwrap();
    for reader in [&web, &control] {
        assert_eq!(read(reader, "", 99).await.unwrap().len(), 3);
        assert_eq!(status(&send(reader, &numbered("a", 3..4)).await.unwrap_err()), 403);
    }
    for other in [&runner, &balancer] {
        assert_eq!(status(&read(other, "", 99).await.unwrap_err()), 403);
        assert_eq!(status(&other.delete("/v1/app/7", SOON).await.unwrap_err()), 403);
    }
    assert_eq!(status(&web.delete("/v1/app/7", SOON).await.unwrap_err()), 403);
    control.delete("/v1/app/7", SOON).await.unwrap();
    assert_eq!(read(&web, "", 99).await.unwrap(), []);
    assert_eq!(status(&control.delete("/v1/app/-7", SOON).await.unwrap_err()), 400);
    assert_eq!(status(&read(&web, "/../8", 1).await.unwrap_err()), 400);
}

#[tokio::test]
async fn a_batch_that_is_too_big_or_no_batch_is_refused() {
    let served = Served::new();
    let runner = served.client(Role::Runner);
    assert_eq!(status(&send(&runner, &numbered("a", 0..10_001)).await.unwrap_err()), 413);
    assert_eq!(status(&send(&runner, &numbered("a b", 0..1)).await.unwrap_err()), 400);
    assert_eq!(status(&send(&runner, &numbered("", 0..1)).await.unwrap_err()), 400);
    let wrong = runner.post::<()>("/v1/lines", &serde_json::json!({"stream": "app/../7"}), SOON).await.unwrap_err();
    assert_eq!(status(&wrong), 400);
    send(&runner, &numbered("a", 0..10_000)).await.unwrap();
    assert_eq!(read(&served.client(Role::Web), "&limit=10000", 20_000).await.unwrap().len(), 10_000);
}

#[tokio::test]
async fn hostile_lines_are_text() {
    let served = Served::new();
    let hostile = ["\x1b[2J\x1b[31mred\x1b[0m", "two\nlines", "\0", "tab\t|", "日本語"];
    let sent = lines("a", (0..).zip(hostile.map(str::to_owned)));
    send(&served.client(Role::Runner), &sent).await.unwrap();
    let kept: Vec<String> =
        read(&served.client(Role::Web), "", 99).await.unwrap().into_iter().map(|line| line.text).collect();
    assert_eq!(kept, ["\\x1b[2J\x1b[31mred\x1b[0m", "two\\x0alines", "\\x00", "tab\t|", "日本語"]);
}

#[tokio::test]
async fn followers_see_each_line_once_while_it_is_written_and_end_at_the_stop() {
    let served = Served::new();
    let (runner, web) = (served.client(Role::Runner), served.client(Role::Web));
    send(&runner, &numbered("a", 0..100)).await.unwrap();
    let write = async {
        for batch in 10..200 {
            send(&runner, &numbered("a", batch * 10..batch * 10 + 10)).await.unwrap();
        }
    };
    let whole = read(&web, "&after=0&follow=1", 2000);
    let tail = read(&web, "&limit=10&follow=1", 1800);
    let ((), whole, tail) = tokio::join!(write, whole, tail);
    let (whole, tail) = (whole.unwrap(), tail.unwrap());
    assert_eq!(whole.iter().map(|line| line.cursor).collect::<Vec<_>>(), (1..=2000).collect::<Vec<_>>());
    let first = tail[0].cursor;
    assert!(first >= 91, "{first}");
    assert!((first..).zip(&tail).all(|(cursor, line)| line.cursor == cursor));

    let following = read(&web, "&follow=1&limit=1", usize::MAX);
    let stop = async {
        // The first line shows that it follows.
        read(&web, "&follow=1&limit=1", 1).await.unwrap();
        served.stop.cancel();
    };
    let (ended, ()) = tokio::join!(tokio::time::timeout(SOON, following), stop);
    let _ = ended.expect("a follower ends with the process");
    tokio::time::timeout(SOON, served.running).await.expect("ends in time").unwrap().unwrap();
}

/// What the next test does in the process that it kills.
async fn be_killed(dir: &Path) {
    let stop = CancellationToken::new();
    // It ends with its parent, whatever way that ends.
    let ending = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ending.cancel();
    });
    let _ = std::fs::remove_file(dir.join("s"));
    let listener = UnixListener::bind(dir.join("s")).unwrap();
    logs::run(config(dir), listener, stop).await.unwrap();
}

struct Killed(Child);

impl Killed {
    fn started(dir: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", KILLED, "--nocapture"])
            .env("LOGS_TEST_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connected(client: &Client) {
    let deadline = std::time::Instant::now() + SOON;
    while let Err(error) = read(client, "&limit=1", 1).await {
        assert!(std::time::Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
}

const KILLED: &str = "killed_in_the_middle_of_writing_no_acknowledged_line_is_lost_and_none_is_there_twice";

#[tokio::test]
async fn killed_in_the_middle_of_writing_no_acknowledged_line_is_lost_and_none_is_there_twice() {
    if let Some(dir) = std::env::var_os("LOGS_TEST_DIR") {
        return be_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let (runner, web) = (client(&socket, Role::Runner), client(&socket, Role::Web));
    // As a runner does: a batch is sent again until it is acknowledged.
    let (mut acknowledged, batch) = (0, 200);
    for round in 0..8 {
        let process = Killed::started(dir.path());
        connected(&web).await;
        let kept = read(&web, "&after=0&limit=10000", usize::MAX).await.unwrap();
        assert!(kept.len() as u64 >= acknowledged, "round {round}: {} of {acknowledged}", kept.len());
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.0.id()).unwrap());
        let killing = tokio::task::spawn_blocking(move || {
            // Some time within the writes of this round.
            std::thread::sleep(Duration::from_millis(3 + round * 3));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        });
        while acknowledged < 9000 {
            let sent = send(&runner, &numbered("a", acknowledged..acknowledged + batch)).await;
            if sent.is_err() {
                break;
            }
            acknowledged += batch;
        }
        killing.await.unwrap();
    }
    let _process = Killed::started(dir.path());
    connected(&web).await;
    send(&runner, &numbered("a", acknowledged..acknowledged + batch)).await.unwrap();
    let all = read(&web, "&after=0&limit=10000", usize::MAX).await.unwrap();
    let expected: Vec<(u64, String)> = (0..acknowledged + batch).map(|n| (n + 1, n.to_string())).collect();
    assert_eq!(all.into_iter().map(|line| (line.cursor, line.text)).collect::<Vec<_>>(), expected);
}
