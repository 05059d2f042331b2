//! One timer a connection, for the phase it is in. It is armed anew only when it has to ring
//! earlier than it is armed for, or when it rang too early: a busy connection hardly touches it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Timer {
    pub fn new(after: Duration) -> Self {
        let deadline = Instant::now() + after;
        Self { sleep: Box::pin(sleep_until(deadline)), deadline }
    }

    /// Rings `after` from now.
    pub fn set(&mut self, after: Duration) {
        self.deadline = Instant::now() + after;
        if self.deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.deadline);
        }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn it_rings_when_it_was_last_set_for_be_that_earlier_or_later() {
        let begun = Instant::now();
        let mut timer = Timer::new(Duration::from_secs(3600));
        timer.set(Duration::from_millis(10));
        timer.set(Duration::from_millis(60));
        poll_fn(|cx| timer.poll(cx)).await;
        assert!((60..10_000).contains(&begun.elapsed().as_millis()));
    }
}
