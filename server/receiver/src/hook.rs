//! The socket that a git sandbox's hook talks on, and its frames (the table is in the shim's `hook`).

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::CommitId;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub(crate) const FRAME_BYTES_MAX: usize = 64 << 10;

/// Listens for one hook; its path is gone when this is dropped.
pub(crate) struct HookSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl HookSocket {
    pub(crate) fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join(format!("{:016x}", rand::random::<u64>()));
        let socket = Self { listener: UnixListener::bind(&path)?, path };
        // It is bound into a sandbox whose user has nothing in common with ours. Who connects is
        // checked by UID.
        std::fs::set_permissions(&socket.path, std::fs::Permissions::from_mode(0o666))?;
        Ok(socket)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The hook, once it connects; whoever is not `uid` is turned away.
    pub(crate) async fn accept(&self, uid: u32) -> io::Result<Hook> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.uid();
            if peer == uid {
                return Ok(Hook { stream });
            }
            tracing::warn!(peer, uid, "somebody else connected to a hook's socket");
        }
    }
}

impl Drop for HookSocket {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), error = %cause, "could not remove a hook's socket");
        }
    }
}

/// Removes what an earlier receiver left; one that still finishes its pushes keeps its sockets.
pub(crate) fn empty(dir: &Path) -> io::Result<()> {
    let probe = std::os::unix::net::UnixDatagram::unbound()?;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // Of another type, it takes no connection; one that nobody holds any more refuses it.
        let held = probe.connect(&path).is_err_and(|cause| cause.raw_os_error() == Some(nix::libc::EPROTOTYPE));
        if !held {
            match std::fs::remove_file(path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                _ => {}
            }
        }
    }
    Ok(())
}

pub(crate) enum FromHook {
    /// `OLD NEW REF`
    Ref(String),
    RefsEnd,
    Subject(String),
    Tar(Bytes),
    TarEnd,
    Bundle(Bytes),
    BundleEnd,
    /// A branch was put where it should be.
    Kept,
    Failed(String),
}

pub(crate) enum ToHook<'a> {
    Line(&'a str),
    Deploy(&'a str),
    /// The commit, and those that are kept.
    History(&'a str, &'a [CommitId]),
    /// A branch, where it is put, and where it must be now.
    Keep(&'a str, Option<&'a CommitId>, Option<&'a CommitId>),
    Taken(&'a str),
    Refused(&'a str, &'a str),
    End,
}

pub(crate) fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let body = body.get(..body.len().min(FRAME_BYTES_MAX)).unwrap_or_default();
    let mut frame = Vec::with_capacity(body.len() + 5);
    frame.push(kind);
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

pub(crate) struct Hook {
    stream: UnixStream,
}

impl Hook {
    pub(crate) async fn read(&mut self) -> io::Result<FromHook> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).await?;
        let [kind, a, b, c, d] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let bad = |text| io::Error::new(io::ErrorKind::InvalidData, text);
        if length > FRAME_BYTES_MAX {
            return Err(bad("the hook's frame is too long"));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        let text = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned();
        Ok(match kind {
            b'r' => FromHook::Ref(text(body)),
            b'.' => FromHook::RefsEnd,
            b'i' => FromHook::Subject(text(body)),
            b't' => FromHook::Tar(body.into()),
            b'e' => FromHook::TarEnd,
            b'b' => FromHook::Bundle(body.into()),
            b'f' => FromHook::BundleEnd,
            b'k' => FromHook::Kept,
            b'x' => FromHook::Failed(text(body)),
            _ => return Err(bad("the hook said something unknown")),
        })
    }

    pub(crate) async fn write(&mut self, what: ToHook<'_>) -> io::Result<()> {
        let (kind, body) = match what {
            ToHook::Line(line) => (b'l', line.to_owned()),
            ToHook::Deploy(commit) => (b'd', commit.to_owned()),
            ToHook::History(commit, kept) => {
                (b'h', kept.iter().fold(commit.to_owned(), |all, one| format!("{all} {one}")))
            }
            ToHook::Keep(name, new, old) => {
                let zeros = "0".repeat(new.or(old).map_or(40, |commit| commit.as_str().len()));
                let [new, old] = [new, old].map(|commit| commit.map_or(zeros.as_str(), CommitId::as_str));
                (b'k', format!("{name} {new} {old}"))
            }
            ToHook::Taken(name) => (b'o', name.to_owned()),
            ToHook::Refused(name, reason) => (b'n', format!("{name} {reason}")),
            ToHook::End => (b'.', String::new()),
        };
        self.stream.write_all(&frame(kind, body.as_bytes())).await
    }

    /// Takes nothing more, so that the hook stops sending; it still listens.
    pub(crate) fn stop_reading(&self) {
        // Gone already is as good.
        let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.stream.as_fd()), Shutdown::Read);
    }
}
