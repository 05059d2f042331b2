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

/// Where the database of slice `n` is, if it is not Berth's own.
pub fn database(n: u32) -> io::Result<Option<Secret<String>>> {
    let mut stream = StdUnixStream::connect(Slice::run_of(n).join(NAME))?;
    stream.set_read_timeout(Some(DATABASE_TIMEOUT))?;
    let mut line = serde_json::to_vec(&Ask::Database)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said)?;
    match serde_json::from_str(&said)? {
        Tell::Database(url) => Ok(url),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Asks the supervisor that runs on `data`, and prints what it says.
pub fn ask(data: &Path, ask: &Ask) -> Result<(), Box<dyn Error + Send + Sync>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("this is for root on the server itself".into());
    }
    let data = data.canonicalize().map_err(|cause| format!("no Berth is at {}: {cause}", data.display()))?;
    let Some(n) = Slice::of_running(&data) else {
        return Err(format!("no `berth up` runs on {}: start it first, or say --data", data.display()).into());
    };
    let mut stream = StdUnixStream::connect(Slice::run_of(n).join(NAME))
        .map_err(|cause| format!("the supervisor takes no orders: {cause}; it may be starting, try again"))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            Tell::Say(text) => println!("{text}"),
            Tell::Database(_) => {}
            Tell::Done => return Ok(()),
            Tell::Failed(why) => return Err(why.into()),
        }
    }
    Err("the supervisor ended before it had answered; its log says why".into())
}
