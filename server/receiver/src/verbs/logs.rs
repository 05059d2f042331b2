//! Log lines: the last ones, and with `-t` what comes. A line is held only until the client took it.

use std::time::{Duration, Instant};

use commands::{CommandError, Kind, LogTurn, LogWhat, api};
use domain::wire::LogLine;
use domain::{AppName, LogFilter};
use futures_util::StreamExt;

use super::deploys::number;
use super::{DONE, Ended, Run, Stop, show};

const LINES: usize = 100;
const LINES_MAX: usize = 10_000;
/// Of those that are looked for: logs gives no more at once.
const FOUND_MAX: usize = 1_000;
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
    let word = |name| run.args.value(name).unwrap_or_default().to_owned();
    let filter = LogFilter { source: word("source"), text: word("text"), ..LogFilter::default() };
    let tail = run.args.has("tail");
    if let Some(deploy) = run.args.value("deploy") {
        if !filter.source.is_empty() {
            return Err(Stop::Usage("A deploy's lines have no source.".to_owned()));
        }
        let number = number(deploy)?;
        run.commands.deploy(&run.actor, &app, number).await?;
        if tail && !run.json() && filter.is_empty() {
            return super::deploys::follow(run, &app, number).await;
        }
        return Log { run, app: &app, what: LogWhat::Deploy(number), filter }.last(lines).await.map(|_| DONE);
    }
    let log = Log { run, app: &app, what: LogWhat::App, filter };
    let cursor = log.last(lines).await?;
    if !tail {
        return Ok(DONE);
    }
    let renewed = log.run.until.finish.cancelled();
    tokio::select! {
        ended = log.follow(cursor) => ended,
        () = renewed => {
            let hint = "Ask once more: the newer one goes on.";
            Err(Stop::told(Kind::Away, "This server is being replaced by a newer one.", hint))
        }
    }
}

struct Log<'a, 'o> {
    run: &'a Run<'o>,
    app: &'a AppName,
    what: LogWhat,
    filter: LogFilter,
}

impl Log<'_, '_> {
    /// Shows the last `lines`; where a reader goes on.
    async fn last(&self, lines: usize) -> Result<u64, Stop> {
        let Run { commands, actor, out, .. } = self.run;
        if !self.filter.is_empty() {
            let found = lines.clamp(1, FOUND_MAX);
            let page = commands.log_page(actor, self.app, self.what, LogTurn::Last, &self.filter, found).await?;
            for line in page.lines.iter().filter(|_| lines > 0) {
                self.show(line).await?;
            }
            if let Some(at) = page.stopped.filter(|_| page.lines.len() < found) {
                out.note(&format!("(looked back to {at}, and not further)\n")).await?;
            }
            return Ok(page.end);
        }
        let mut from = commands.log(actor, self.app, self.what, None, lines.max(1), false).await?;
        let mut cursor = 0;
        while let Some(line) = from.next().await {
            let line = line?;
            cursor = line.cursor;
            if lines > 0 {
                self.show(&line).await?;
            }
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
                        if self.filter.matches(line.at, &line.source, &line.text) {
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
