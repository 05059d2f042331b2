//! A deploy's log lines, each once and in order, also when logs is away for a while.

use std::time::Duration;

use commands::Actor;
use domain::AppName;
use domain::wire::LogLine;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::desk::Desk;

/// Lines that wait for a slow terminal; more wait at logs.
const WAITING_MAX: usize = 256;
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// For the lines that are left when a deploy has ended.
const REST_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Lines {
    waiting: mpsc::Receiver<LogLine>,
    /// The last one handed out.
    cursor: u64,
    _reader: AbortOnDropHandle<()>,
}

impl Lines {
    pub(super) fn follow<D: Desk>(desk: &D, actor: &Actor, app: &AppName, number: i64) -> Self {
        let (to, waiting) = mpsc::channel(WAITING_MAX);
        let (desk, actor, app) = (desk.clone(), actor.clone(), app.clone());
        let reader = tokio::spawn(async move {
            let mut cursor = 0;
            loop {
                if let Ok(mut lines) = desk.deploy_log(&actor, &app, number, cursor, true).await {
                    while let Some(Ok(line)) = lines.next().await {
                        cursor = line.cursor;
                        if to.send(line).await.is_err() {
                            return;
                        }
                    }
                }
                tokio::time::sleep(RETRY_AFTER).await;
            }
        });
        Self { waiting, cursor: 0, _reader: AbortOnDropHandle::new(reader) }
    }

    /// The next line, whenever it comes.
    pub(super) async fn next(&mut self) -> String {
        match self.waiting.recv().await {
            Some(line) => {
                self.cursor = line.cursor;
                line.text
            }
            None => std::future::pending().await,
        }
    }

    /// What came before the deploy's end and was not handed out yet: a runner reports a build's end
    /// after its last line was taken.
    pub(super) async fn rest<D: Desk>(self, desk: &D, actor: &Actor, app: &AppName, number: i64) -> Vec<String> {
        let mut rest = Vec::new();
        let read = async {
            let mut lines = desk.deploy_log(actor, app, number, self.cursor, false).await.ok()?;
            while let Some(Ok(line)) = lines.next().await {
                rest.push(line.text);
            }
            Some(())
        };
        let whole = tokio::time::timeout(REST_TIMEOUT, read).await.ok().flatten();
        if whole.is_none() {
            rest.push("(the last lines are in the deploy's log)".to_owned());
        }
        rest
    }
}
