//! Asks this server's runner for git sandboxes, handing over their standard descriptors.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use domain::wire::{GitAnswer, GitAsk, GitCall};
use domain::{Reason, Secret};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A sandbox starts within some 30 ms; a server under load takes longer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerError {
    #[error("could not ask the runner on {socket} for a git sandbox")]
    Ask {
        socket: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("the runner on {socket} did not answer within {after:?}")]
    Timeout { socket: PathBuf, after: Duration },
    #[error("the runner refused: {reason}")]
    Refused { reason: Reason },
    #[error("the repository is not on this server")]
    Missing,
    #[error("the runner on {socket} went away, or answered what is no answer")]
    Gone { socket: PathBuf },
    #[error("could not make a pipe")]
    Pipe {
        #[source]
        cause: io::Error,
    },
}

/// Our ends of a sandbox's standard descriptors.
pub(crate) struct Ends {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    pub stderr: pipe::Receiver,
}

#[derive(Debug, Clone)]
pub(crate) struct Runner {
    socket: PathBuf,
    token: Secret<String>,
}

/// A sandbox that runs; dropped, it is ended.
pub(crate) struct GitRun {
    answers: BufReader<UnixStream>,
    socket: PathBuf,
}

impl Runner {
    pub(crate) fn new(socket: PathBuf, token: Secret<String>) -> Self {
        Self { socket, token }
    }

    pub(crate) async fn start(&self, ask: GitAsk) -> Result<(GitRun, Ends), RunnerError> {
        let (theirs, ours) = descriptors().map_err(|cause| RunnerError::Pipe { cause })?;
        let failed = |cause| RunnerError::Ask { socket: self.socket.clone(), cause };
        let late = |after| RunnerError::Timeout { socket: self.socket.clone(), after };
        let call = GitCall { token: self.token.clone(), ask };
        let mut line = serde_json::to_vec(&call).map_err(|cause| failed(cause.into()))?;
        line.push(b'\n');
        let mut stream = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| late(CONNECT_TIMEOUT))?
            .map_err(failed)?;
        let sending = async {
            let raw: Vec<RawFd> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
            let sent = stream.async_io(Interest::WRITABLE, || {
                let rights = [ControlMessage::ScmRights(&raw)];
                sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], &rights, MsgFlags::MSG_NOSIGNAL, None)
                    .map_err(io::Error::from)
            });
            let sent = sent.await?;
            stream.write_all(line.get(sent..).unwrap_or_default()).await
        };
        tokio::time::timeout(CONNECT_TIMEOUT, sending).await.map_err(|_| late(CONNECT_TIMEOUT))?.map_err(failed)?;
        // Only the sandbox may hold its ends, or ours would never see their end.
        drop(theirs);

        let mut run = GitRun { answers: BufReader::new(stream), socket: self.socket.clone() };
        match tokio::time::timeout(START_TIMEOUT, run.answer()).await.map_err(|_| late(START_TIMEOUT))?? {
            GitAnswer::Started => Ok((run, ours)),
            GitAnswer::Refused { reason } => Err(RunnerError::Refused { reason }),
            GitAnswer::Missing => Err(RunnerError::Missing),
            GitAnswer::Exited { .. } => Err(RunnerError::Gone { socket: self.socket.clone() }),
        }
    }
}

impl GitRun {
    /// Waits for the end of git; its exit code.
    pub(crate) async fn exited(&mut self) -> Result<i32, RunnerError> {
        match self.answer().await? {
            GitAnswer::Exited { code } => Ok(code),
            GitAnswer::Refused { reason } => Err(RunnerError::Refused { reason }),
            GitAnswer::Started | GitAnswer::Missing => Err(RunnerError::Gone { socket: self.socket.clone() }),
        }
    }

    async fn answer(&mut self) -> Result<GitAnswer, RunnerError> {
        let mut line = String::new();
        let gone = || RunnerError::Gone { socket: self.socket.clone() };
        let mut limited = (&mut self.answers).take(ANSWER_BYTES_MAX);
        limited.read_line(&mut line).await.map_err(|_| gone())?;
        serde_json::from_str(&line).map_err(|_| gone())
    }
}

fn descriptors() -> io::Result<([OwnedFd; 3], Ends)> {
    let (git_in, to_git) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (from_git, git_out) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (err_from_git, git_err) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let ends = Ends {
        stdin: pipe::Sender::from_owned_fd(to_git)?,
        stdout: pipe::Receiver::from_owned_fd(from_git)?,
        stderr: pipe::Receiver::from_owned_fd(err_from_git)?,
    };
    Ok(([git_in, git_out, git_err], ends))
}
