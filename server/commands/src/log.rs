//! Log lines, through the logs process, after the owner was checked.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::wire::{LogLine, LogPage, LogStream};
use domain::{AppName, LogFilter};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::{Actor, CommandError, Commands, timely};

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A line as JSON: 16 KiB of text, each byte six at worst.
const LINE_BYTES_MAX: usize = 128 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogWhat {
    /// What the app's instances say.
    App,
    /// The lines of one deploy, by its number.
    Deploy(i64),
}

/// Lines in order; ends when all there was is read, or (followed) when logs goes.
pub struct LogLines {
    lines: BoxStream<'static, Result<LogLine, CommandError>>,
}

impl Stream for LogLines {
    type Item = Result<LogLine, CommandError>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_next_unpin(cx)
    }
}

/// Which way a log is turned over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTurn {
    /// The newest.
    Last,
    /// Those before this cursor.
    Before(u64),
    After(u64),
}

impl Commands {
    /// Lines after the cursor `after`, or without it the last `limit`; with `follow` it goes on with what comes.
    pub async fn log(
        &self,
        actor: &Actor,
        app: &AppName,
        what: LogWhat,
        after: Option<u64>,
        limit: usize,
        follow: bool,
    ) -> Result<LogLines, CommandError> {
        let after = after.map(|cursor| format!("&after={cursor}")).unwrap_or_default();
        let follow = if follow { "&follow=1" } else { "" };
        self.lines(actor, app, what, format!("&limit={limit}{after}{follow}")).await
    }

    /// All lines that match, oldest first, up to the present end.
    pub async fn log_whole(
        &self,
        actor: &Actor,
        app: &AppName,
        what: LogWhat,
        filter: &LogFilter,
    ) -> Result<LogLines, CommandError> {
        self.lines(actor, app, what, format!("&all=1{}", filter.query())).await
    }

    /// At most `lines` that match, in one direction.
    pub async fn log_page(
        &self,
        actor: &Actor,
        app: &AppName,
        what: LogWhat,
        turn: LogTurn,
        filter: &LogFilter,
        lines: usize,
    ) -> Result<LogPage, CommandError> {
        timely(async {
            let (stream, logs) = self.stream_of(actor, app, what).await?;
            let turn = match turn {
                LogTurn::Last => String::new(),
                LogTurn::Before(cursor) => format!("&before={cursor}"),
                LogTurn::After(cursor) => format!("&after={cursor}"),
            };
            let path = format!("/v1/page?stream={stream}&lines={lines}{turn}{}", filter.query());
            Ok(logs.get(&path, HEAD_TIMEOUT).await?)
        })
        .await
    }

    async fn lines(&self, actor: &Actor, app: &AppName, what: LogWhat, wish: String) -> Result<LogLines, CommandError> {
        timely(async {
            let (stream, logs) = self.stream_of(actor, app, what).await?;
            let bytes = logs.get_stream(&format!("/v1/stream?stream={stream}{wish}"), HEAD_TIMEOUT).await?;
            Ok(LogLines { lines: parse(bytes.map_err(CommandError::from)).boxed() })
        })
        .await
    }

    /// After the owner was checked.
    async fn stream_of(
        &self,
        actor: &Actor,
        app: &AppName,
        what: LogWhat,
    ) -> Result<(LogStream, &link::Client), CommandError> {
        let app = self.push_target(actor, app).await?.app;
        let stream = match what {
            LogWhat::App => LogStream::App(app),
            LogWhat::Deploy(number) => LogStream::Deploy(app, number),
        };
        let logs = self.logs.as_ref();
        Ok((stream, logs.ok_or_else(|| CommandError::internal("this door was not given the logs process"))?))
    }
}

/// JSON lines out of bytes cut anywhere; empty lines only say that the other side lives.
fn parse(
    bytes: impl Stream<Item = Result<impl AsRef<[u8]>, CommandError>> + Send + Unpin,
) -> impl Stream<Item = Result<LogLine, CommandError>> + Send {
    stream::unfold((bytes, Vec::new(), false), |(mut bytes, mut waiting, done)| async move {
        if done {
            return None;
        }
        loop {
            if let Some(end) = waiting.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let line = line.trim_ascii();
                if line.is_empty() {
                    continue;
                }
                let parsed = serde_json::from_slice(line).map_err(CommandError::internal);
                let failed = parsed.is_err();
                return Some((parsed, (bytes, waiting, failed)));
            }
            if waiting.len() > LINE_BYTES_MAX {
                let cause = CommandError::internal("logs sent a line without an end");
                return Some((Err(cause), (bytes, waiting, true)));
            }
            match bytes.next().await {
                Some(Ok(more)) => waiting.extend_from_slice(more.as_ref()),
                Some(Err(cause)) => return Some((Err(cause), (bytes, waiting, true))),
                None => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_however_the_bytes_are_cut() {
        let text = "{\"cursor\":1,\"at\":5,\"source\":\"web.1\",\"text\":\"ä\"}\n\n{\"cursor\":2,\"at\":6,\"source\":\"build\",\"text\":\"\"}\n";
        for size in 1..text.len() {
            let pieces: Vec<Result<Vec<u8>, CommandError>> =
                text.as_bytes().chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            let lines: Vec<LogLine> = parse(stream::iter(pieces)).try_collect().await.unwrap();
            assert_eq!(lines.iter().map(|l| (l.cursor, l.text.as_str())).collect::<Vec<_>>(), [(1, "ä"), (2, "")]);
        }
    }
}
