//! A connection towards an instance (TCP) or the site (a unix socket).

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where `tcpi_bytes_acked` is in the kernel's `struct tcp_info`, which only ever grows at its end.
const BYTES_ACKED: usize = 120;
const TCP_INFO_BYTES: usize = 256;

impl Socket {
    /// Whether nothing arrived on an idle connection, neither bytes nor its end. Costs no system
    /// call when the runtime has heard of nothing.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let read = match self {
            Socket::Tcp(tcp) => tcp.try_read(&mut byte),
            Socket::Unix(unix) => unix.try_read(&mut byte),
        };
        matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same, asked of the kernel: for a request that may not be sent twice.
    pub fn is_surely_quiet(&self) -> bool {
        let fd = match self {
            Socket::Tcp(tcp) => tcp.as_raw_fd(),
            Socket::Unix(unix) => unix.as_raw_fd(),
        };
        recv(fd, &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Err(nix::errno::Errno::EAGAIN)
    }

    /// How many bytes of ours the other side's kernel has taken, ever; it still says so when the
    /// connection is dead. What it has not taken, no app has seen.
    pub fn taken(&self) -> Option<u64> {
        let Socket::Tcp(tcp) = self else { return None };
        let mut info = [0u8; TCP_INFO_BYTES];
        let mut length = TCP_INFO_BYTES as nix::libc::socklen_t;
        // SAFETY: the descriptor is open as long as `self`, and the kernel writes at most `length` bytes
        // into `info`, which is that long.
        let done = unsafe {
            nix::libc::getsockopt(
                tcp.as_raw_fd(),
                nix::libc::IPPROTO_TCP,
                nix::libc::TCP_INFO,
                info.as_mut_ptr().cast(),
                &mut length,
            )
        };
        let field = info.get(BYTES_ACKED..BYTES_ACKED + 8)?;
        let known = done == 0 && length as usize >= BYTES_ACKED + 8;
        known.then(|| field.try_into().map(u64::from_ne_bytes).ok())?
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Socket::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Socket::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Socket::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Socket::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

/// Writes `first`, then `second`, in one system call; 0 written is an error.
pub fn poll_write_both(
    io: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    let written = match (first.is_empty(), second.is_empty()) {
        (false, true) => Pin::new(io).poll_write(cx, first),
        (true, false) => Pin::new(io).poll_write(cx, second),
        _ => Pin::new(io).poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)]),
    };
    written.map(|written| match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_the_other_side_took_is_known_after_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut socket = Socket::Tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (mut app, _) = listener.accept().await.unwrap();
        let fresh = socket.taken().unwrap();
        socket.write_all(b"hello").await.unwrap();
        app.read_exact(&mut [0; 5]).await.unwrap();
        // Taken and read, then no answer.
        let before = socket.taken().unwrap();
        assert_eq!(before, fresh + 5);
        drop(app);
        socket.write_all(b"too late").await.unwrap();
        let _ = socket.read(&mut [0]).await;
        let _ = socket.read(&mut [0]).await;
        assert_eq!(socket.taken(), Some(before), "a closed connection takes nothing more");
    }
}
