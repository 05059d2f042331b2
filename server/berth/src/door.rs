//! The supervisor's own socket: root alone reaches it, with a line of JSON; lines of JSON come back.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Secret;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::listeners::unix_listener;
use crate::slice::Slice;
use crate::up::{UpError, doing};

const NAME: &str = "supervisor.sock";
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_BYTES_MAX: usize = 64 << 10;
/// For an operator's terminal that does not read.
const TELL_TIMEOUT: Duration = Duration::from_secs(2);
/// One restart goes before.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(120);
/// Pushes that are under way hold the end of nothing that is waited for here.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(900);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Ask {
    Restart {
        roles: Vec<String>,
    },
    Upgrade {
        binary: Option<PathBuf>,
    },
    /// Where the database is, if it is not Berth's own.
    Database,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tell {
    Say(String),
    Database(Option<Secret<String>>),
    Done,
    Failed(String),
}

pub fn open(slice: &Slice) -> Result<UnixListener, UpError> {
    let path = slice.run().join(NAME);
    let listener = unix_listener(&path, 0, 0, 0o600)?;
    UnixListener::from_std(listener).map_err(doing(format!("listen on {}", path.display())))
}

pub fn resume(fd: OwnedFd) -> io::Result<UnixListener> {
    UnixListener::from_std(fd.into())
}

/// Who asked, where anybody still listens.
pub struct Caller(Option<UnixStream>);

impl Caller {
    pub fn nobody() -> Self {
        Self(None)
    }

    /// Of a supervisor that went on as this one.
    pub fn resume(fd: Option<RawFd>) -> Self {
        let stream = fd.and_then(|fd| {
            let stream = StdUnixStream::from(crate::resume::take(fd).ok()?);
            UnixStream::from_std(stream).ok()
        });
        Self(stream)
    }

    pub fn descriptor(&self) -> Option<RawFd> {
        self.0.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub async fn hear(mut stream: UnixStream) -> io::Result<(Self, Ask)> {
        if stream.peer_cred()?.uid() != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it was not root who asked"));
        }
        let line = async {
            let mut line = Vec::new();
            loop {
                let mut part = [0; 1024];
                let n = stream.read(&mut part).await?;
                line.extend_from_slice(part.get(..n).unwrap_or_default());
                if n == 0 || line.ends_with(b"\n") || line.len() > ASK_BYTES_MAX {
                    return Ok::<_, io::Error>(line);
                }
            }
        };
        let line = timeout(ASK_TIMEOUT, line).await.map_err(io::Error::from)??;
        let ask = serde_json::from_slice(&line)?;
        Ok((Self(Some(stream)), ask))
    }

    async fn tell(&mut self, tell: &Tell) {
        let Some(stream) = &mut self.0 else { return };
        let mut line = serde_json::to_vec(tell).unwrap_or_default();
        line.push(b'\n');
        let told = timeout(TELL_TIMEOUT, stream.write_all(&line)).await;
        if !matches!(told, Ok(Ok(()))) {
            // They left; what they asked for goes on.
            self.0 = None;
        }
    }

    pub async fn say(&mut self, text: &str) {
        self.tell(&Tell::Say(text.to_owned())).await;
    }

    pub async fn database(mut self, url: Option<Secret<String>>) {
        self.tell(&Tell::Database(url)).await;
    }

    pub async fn done(mut self) {
        self.tell(&Tell::Done).await;
    }

    pub async fn fail(mut self, why: &str) {
        self.tell(&Tell::Failed(why.to_owned())).await;
    }
}

/// Asks the supervisor of slice `n`: its answers, a line each, none later than `patience`.
fn called(n: u32, ask: &Ask, patience: Duration) -> io::Result<impl Iterator<Item = io::Result<Tell>>> {
    let mut stream = StdUnixStream::connect(Slice::run_of(n).join(NAME))?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(BufReader::new(stream).lines().map(|line| Ok(serde_json::from_str(&line?)?)))
}

/// Where the database of slice `n` is, if it is not Berth's own.
pub fn database(n: u32) -> io::Result<Option<Secret<String>>> {
    match called(n, &Ask::Database, DATABASE_TIMEOUT)?.next() {
        Some(Ok(Tell::Database(url))) => Ok(url),
        Some(Err(cause)) => Err(cause),
        Some(Ok(_)) => Err(io::ErrorKind::InvalidData.into()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Asks the supervisor that runs on `data`, and prints what it says.
pub fn ask(data: &Path, ask: &Ask) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (_, n) = running(data)?;
    let said = called(n, ask, ANSWER_TIMEOUT)
        .map_err(|cause| format!("the supervisor takes no orders: {cause}; it may be starting, try again"))?;
    for tell in said {
        match tell? {
            Tell::Say(text) => println!("{text}"),
            Tell::Database(_) => {}
            Tell::Done => return Ok(()),
            Tell::Failed(why) => return Err(why.into()),
        }
    }
    Err("the supervisor ended before it had answered; its log says why".into())
}

/// For root alone: the data directory as it is called there, and the slice of the `berth up` that runs on it.
pub fn running(data: &Path) -> Result<(PathBuf, u32), Box<dyn Error + Send + Sync>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("this is for root on the server itself".into());
    }
    let data = data.canonicalize().map_err(|cause| format!("no Berth is at {}: {cause}", data.display()))?;
    match Slice::of_running(&data) {
        Some(n) => Ok((data, n)),
        None => Err(format!("no `berth up` runs on {}: start it first, or say --data", data.display()).into()),
    }
}
