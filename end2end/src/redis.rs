//! A Redis a test: it starts in a tenth of a second, and its settings are those of `berth up`.

use std::fs;
use std::io::{self, PipeWriter};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::keeper::{self, Until};

/// A server of its own; goes when this is dropped, or when its process ends.
pub struct Redis {
    directory: PathBuf,
    url: String,
    /// Never written to: its end tells the keeper.
    alive: Option<PipeWriter>,
}

impl Redis {
    /// `redis+unix:///…`, of a user who may do everything.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("redis.sock")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.alive.take());
        // The directory goes last: then nothing is left.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.directory.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub async fn redis() -> Result<Redis> {
    ensure!(nix::unistd::geteuid().is_root(), "tests start Redis as another user: run them as root");
    let directory = std::env::temp_dir().join(format!("berth-test-redis-{:016x}", rand::random::<u64>()));
    keeper::directory(&directory)?;
    let (watched, alive) = io::pipe()?;
    keeper::keep(&directory, Until::Closed(watched.into()), {
        let directory = directory.clone();
        move || start(&directory)
    })?;
    let url = format!("redis+unix://{}/redis.sock", directory.display());
    Ok(Redis { directory, url, alive: Some(alive) })
}

fn start(directory: &Path) -> Result<Child> {
    let uid = 900_000 + rand::random_range(0..100_000);
    let socket = directory.join("redis.sock");
    fs::write(
        directory.join("redis.conf"),
        format!(
            "port 0\nunixsocket {}\nunixsocketperm 777\ndir {}\nappendonly yes\nmaxmemory-policy noeviction\n",
            socket.display(),
            directory.display()
        ),
    )?;
    std::os::unix::fs::chown(directory, Some(uid), Some(uid))?;
    let log = fs::File::create(directory.join("log"))?;
    let mut command = Command::new("redis-server");
    command.arg(directory.join("redis.conf")).stdout(log.try_clone()?).stderr(log);
    keeper::as_user(&mut command, uid, None);
    let mut child = command.spawn().context("could not start redis-server; is it installed?")?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while UnixStream::connect(&socket).is_err() {
        if Instant::now() > deadline || !matches!(child.try_wait(), Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
            bail!("redis-server did not start: {}", fs::read_to_string(directory.join("log")).unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_answers_and_leaves_nothing() {
        let server = redis().await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let pong: String = redis::cmd("PING").query_async(&mut connection).await.unwrap();
        assert_eq!(pong, "PONG");
        let (directory, socket) = (server.directory.clone(), server.socket());
        drop((connection, server));
        assert!(!directory.exists() && UnixStream::connect(socket).is_err());
    }
}
