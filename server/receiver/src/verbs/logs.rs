//! Log lines: the last ones, and with `-t` what comes. A line is held only until the client took it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use commands::{CommandError, Kind, LogWhat, api};
use domain::AppName;
use domain::wire::LogLine;
use futures_util::StreamExt;

use super::deploys::number;
use super::{DONE, Ended, Run, Stop, show};

const LINES: usize = 100;
const LINES_MAX: usize = 10_000;
/// Of lines of one source that wait until the last of them are known.
const HELD_BYTES_MAX: usize = 4 << 20;
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) async fn logs(run: &mut Run<'_>) -> Ended {
    let app = run.app()?;
    let lines = match run.args.value("lines") {
        None => LINES,
        Some(given) => given.parse().ok().filter(|n| *n <= LINES_MAX).ok_or_else(|| {
            let given: String = given.chars().take(20).collect();
            Stop::Usage(format!("-n is a number up to {LINES_MAX}, and not `{given}`."))
        })?,
    };
    let source = run.args.value("source").map(str::to_owned);
    let tail = run.args.has("tail");
    if let Some(deploy) = run.args.value("deploy") {
        if source.is_some() {
            return Err(Stop::Usage("A deploy's lines have no source.".to_owned()));
        }
        let number = number(deploy)?;
        run.commands.deploy(&run.actor, &app, number).await?;
        if tail && !run.json() {
            return super::deploys::follow(run, &app, number).await;
        }
        return Log { run, app: &app, what: LogWhat::Deploy(number), source }.last(lines).await.map(|_| DONE);
    }
    let log = Log { run, app: &app, what: LogWhat::App, source };
    let cursor = log.last(lines).await?;
    if tail { log.follow(cursor).await } else { Ok(DONE) }
}

struct Log<'a, 'o> {
    run: &'a Run<'o>,
    app: &'a AppName,
    what: LogWhat,
    /// `web.1`, or `web` for all of them.
    source: Option<String>,
}

impl Log<'_, '_> {
    /// Shows the last `lines`; where a reader goes on.
    async fn last(&self, lines: usize) -> Result<u64, Stop> {
        // Those of one source are among the last of all.
        let asked = if self.source.is_some() { LINES_MAX } else { lines.max(1) };
        let Run { commands, actor, .. } = self.run;
        let mut from = commands.log(actor, self.app, self.what, None, asked, false).await?;
        let (mut cursor, mut held, mut bytes) = (0, VecDeque::new(), 0);
        while let Some(line) = from.next().await {
            let line = line?;
            cursor = line.cursor;
            if lines == 0 || !self.wanted(&line) {
                continue;
            }
            if self.source.is_none() {
                self.show(&line).await?;
                continue;
            }
            bytes += line.text.len();
            held.push_back(line);
            while held.len() > lines || bytes > HELD_BYTES_MAX {
                bytes -= held.pop_front().map_or(bytes, |first: LogLine| first.text.len());
            }
        }
        for line in &held {
            self.show(line).await?;
        }
        Ok(cursor)
    }

    /// Until the client goes.
    async fn follow(&self, mut cursor: u64) -> Ended {
        let Run { commands, actor, out, .. } = self.run;
        let mut away: Option<Instant> = None;
        loop {
            match commands.log(actor, self.app, self.what, Some(cursor), LINES_MAX, true).await {
                Ok(mut lines) => {
                    while let Some(Ok(line)) = lines.next().await {
                        away = None;
                        cursor = line.cursor;
                        if self.wanted(&line) {
                            self.show(&line).await?;
                        }
                    }
                }
                // Deleted meanwhile.
                Err(cause) if cause.kind() == Kind::NotFound => return Err(cause.into()),
                Err(CommandError::Internal { cause }) => return Err(CommandError::Internal { cause }.into()),
                Err(_) => {}
            }
            if away.is_none() {
                away = Some(Instant::now());
                out.note("(the log does not answer just now; what comes meanwhile is shown later)\n").await?;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn wanted(&self, line: &LogLine) -> bool {
        self.source.as_deref().is_none_or(|source| {
            line.source.strip_prefix(source).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    async fn show(&self, line: &LogLine) -> Result<(), Stop> {
        if self.run.json() {
            return self.run.json_line(&api::LogLine::from(line)).await;
        }
        let out = self.run.out;
        let text = out.line(&line.text);
        let text = match self.what {
            LogWhat::App => show::log_line(line.at, &line.source, &text),
            LogWhat::Deploy(_) => format!("{text}\n"),
        };
        out.say(&text).await
    }
}
