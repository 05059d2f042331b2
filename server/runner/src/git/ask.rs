//! An ask for a git sandbox: one JSON line, and three descriptors beside it.

use std::io::{self, ErrorKind, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use domain::wire::GitCall;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::{SFlag, fstat};
use tokio::io::Interest;
use tokio::net::UnixStream;

const LINE_BYTES_MAX: usize = 16 << 10;

pub(super) struct Asked {
    pub call: GitCall,
    pub stdio: [OwnedFd; 3],
}

pub(super) async fn read(stream: &UnixStream) -> io::Result<Asked> {
    let bad = |text: &'static str| io::Error::new(ErrorKind::InvalidData, text);
    let (mut line, mut given) = (Vec::new(), Vec::new());
    while line.last() != Some(&b'\n') {
        let n = stream.async_io(Interest::READABLE, || receive(stream, &mut line, &mut given)).await?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line.len() > LINE_BYTES_MAX || given.len() > 3 {
            return Err(bad("it is too long"));
        }
    }
    let call = serde_json::from_slice(&line).map_err(|_| bad("it is not the expected JSON"))?;
    let stdio = <[OwnedFd; 3]>::try_from(given).map_err(|_| bad("three descriptors belong to it"))?;
    Ok(Asked { call, stdio })
}

/// Takes over every descriptor at once, so that none stays open unseen.
fn receive(stream: &UnixStream, line: &mut Vec<u8>, given: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 3]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let got = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for message in got.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel has just made them in this process, for nobody else.
            given.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let n = got.bytes;
    line.extend_from_slice(buffer.get(..n).unwrap_or_default());
    Ok(n)
}

pub(super) fn is_pipe(fd: &OwnedFd) -> bool {
    fstat(fd.as_fd()).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO)
}
