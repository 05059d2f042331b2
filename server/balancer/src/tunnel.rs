//! After a 101: bytes both ways until both sides have ended, or nothing moved for too long.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::buffer::Buffer;
use crate::meters::Slot;
use crate::timer::Timer;

/// Once one side has ended, the other is not waited for as long as two that talk.
const HALF: Duration = Duration::from_secs(10);

struct Direction<'a> {
    buffer: Buffer,
    /// Where what goes out this way is counted.
    meter: Option<&'a Slot>,
    ended: bool,
    shut: bool,
}

impl Direction<'_> {
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.buffer.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, self.buffer.bytes()))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => {
                        self.buffer.consume(n);
                        if let Some(meter) = self.meter {
                            meter.count_bytes(n);
                        }
                    }
                }
                *moved = true;
            }
            if self.ended {
                if !self.shut {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.shut = true;
                }
                return Poll::Ready(Ok(()));
            }
            self.ended = ready!(self.buffer.poll_fill(from, cx))? == 0;
            *moved = true;
        }
    }
}

/// `to_b` and `to_a` hold what came before the tunnel began; what reaches `a` is counted.
pub async fn tunnel(
    a: &mut (impl AsyncRead + AsyncWrite + Unpin),
    b: &mut (impl AsyncRead + AsyncWrite + Unpin),
    to_b: Buffer,
    to_a: Buffer,
    meter: Option<&Slot>,
    timer: &mut Timer,
    idle: Duration,
) {
    let mut there = Direction { buffer: to_b, meter: None, ended: false, shut: false };
    let mut back = Direction { buffer: to_a, meter, ended: false, shut: false };
    timer.set(idle);
    poll_fn(|cx| {
        let mut moved = false;
        let polled = (there.poll(a, b, &mut moved, cx), back.poll(b, a, &mut moved, cx));
        match polled {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            _ => {}
        }
        if moved {
            timer.set(if there.ended || back.ended { idle.min(HALF) } else { idle });
        }
        timer.poll(cx)
    })
    .await;
}
