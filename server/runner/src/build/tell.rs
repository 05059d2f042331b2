//! A build's lines on their way to logs, in order, as they come.

use std::time::{Duration, SystemTime};

use domain::Time;
use domain::wire::{BuildSpec, Lines, LogStream, NewLine};
use link::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Waiting lines; a build that prints faster than logs takes them loses the surplus, and says so.
const QUEUE: usize = 10_000;
const BATCH: usize = 500;
const POST_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(300);
/// After its end a build waits so long for logs to be back.
const FINISH_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) struct Teller {
    lines: mpsc::Sender<NewLine>,
    task: JoinHandle<()>,
    position: std::sync::atomic::AtomicU64,
    dropped: std::sync::atomic::AtomicU64,
}

impl Teller {
    pub fn start(logs: Client, spec: &BuildSpec) -> Self {
        let (lines, queue) = mpsc::channel(QUEUE);
        let stream = LogStream::Deploy(spec.app, spec.number);
        let origin = format!("build/{}/{}", spec.deploy, spec.attempt);
        // Ends when the sender does, at the latest FINISH_TIMEOUT after it: `finish` sees to it.
        let task = tokio::spawn(carry(logs, stream, origin, queue));
        Self { lines, task, position: 0.into(), dropped: 0.into() }
    }

    pub fn say(&self, text: &str) {
        use std::sync::atomic::Ordering::Relaxed;
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 && !self.send(&format!("[{dropped} lines were printed too fast and dropped]")) {
            self.dropped.fetch_add(dropped, Relaxed);
        }
        if !self.send(text) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    fn send(&self, text: &str) -> bool {
        let Ok(place) = self.lines.try_reserve() else { return false };
        let position = self.position.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let source = "build".to_owned();
        place.send(NewLine { position, at: Time::from(SystemTime::now()), source, text: text.to_owned() });
        true
    }

    /// Until logs has all lines.
    pub async fn finish(self) {
        drop(self.lines);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(FINISH_TIMEOUT, self.task).await.is_err() {
            abort.abort();
            tracing::warn!("the end of a build's log was lost: logs did not take it");
        }
    }
}

async fn carry(logs: Client, stream: LogStream, origin: String, mut queue: mpsc::Receiver<NewLine>) {
    loop {
        let mut batch = Vec::new();
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let lines = Lines { stream, origin: origin.clone(), lines: batch };
        // Sent again until it is taken: logs drops what it has already.
        while let Err(e) = logs.post::<()>("/v1/lines", &lines, POST_TIMEOUT).await {
            tracing::debug!("logs did not take a build's lines yet: {e}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
