//! An app's log: its history, its live lines, and all of it as a file.

use app::{LogsForm, LogsPage, Typed};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Response};
use commands::{LogTurn, LogWhat};
use domain::wire::LogLine;
use domain::{AppName, LogFilter, Time};
use futures_util::{StreamExt, TryStreamExt};
use http::{StatusCode, header};
use serde::Deserialize;

use super::apps::{After, number, parse};
use crate::events::{self, Cursor, Of};
use crate::problem::{Failed, Problem};
use crate::session::SignedIn;
use crate::state::{Shared, now};

const LINES_A_PAGE: usize = 200;
/// Of what is looked for.
const TEXT_CHARS_MAX: usize = 200;
const SOURCE_CHARS_MAX: usize = 48;
/// Lines that a download formats at once.
const LINES_AT_ONCE: usize = 200;

#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    text: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
}

#[derive(Deserialize)]
pub struct Turn {
    before: Option<u64>,
    after: Option<u64>,
}

/// The filter, and the form that shows it; what was wrong stands in the form, and is then left out.
fn read(asked: &Asked) -> (LogFilter, LogsForm, bool) {
    let mut filter = LogFilter::default();
    let mut form = LogsForm::default();
    let short = |value: &str, max: usize, what: &str| match value.chars().count() > max {
        true => Err(format!("At most {max} characters {what}.")),
        false => Ok(value.trim().to_owned()),
    };
    let mut wrong = false;
    let mut field = |value: &str, parsed: Result<(), String>| {
        wrong |= parsed.is_err();
        let kept: String = value.chars().take(4 * TEXT_CHARS_MAX).collect();
        Typed { value: kept, error: parsed.err() }
    };
    form.text = field(&asked.text, short(&asked.text, TEXT_CHARS_MAX, "are looked for").map(|text| filter.text = text));
    let source = short(&asked.source, SOURCE_CHARS_MAX, "has the name of a process").map(|text| filter.source = text);
    form.source = field(&asked.source, source);
    let time = |value: &str| match value.trim() {
        "" => Ok(None),
        value => Time::from_field(value).map(Some).ok_or("Give a date and a time, such as 2026-11-17T14:31."),
    };
    let since = time(&asked.since).map(|at| filter.since = at.map(|(first, _)| first));
    form.since = field(&asked.since, since.map_err(str::to_owned));
    let until = match (time(&asked.until), filter.since) {
        (Ok(Some((_, last))), Some(since)) if last < since => Err("This is before From."),
        (read, _) => read.map(|at| filter.until = at.map(|(_, last)| last)),
    };
    form.until = field(&asked.until, until.map_err(str::to_owned));
    (filter, form, wrong)
}

pub async fn logs(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    Query(Turn { before, after }): Query<Turn>,
) -> Result<Response, Failed> {
    let name = parse(&name)?;
    let (filter, form, wrong) = read(&asked);
    let app = state.commands.app(&who.actor, &name).await?;
    if wrong {
        let shown = LogsPage { app, form, shown: None, after: None };
        return Ok(super::again(app::logs(state.page(Some(&who.user)), shown)));
    }
    let turn = match (before, after) {
        (Some(cursor), _) => LogTurn::Before(cursor),
        (None, Some(cursor)) => LogTurn::After(cursor),
        (None, None) => LogTurn::Last,
    };
    let read = state.commands.log_page(&who.actor, &name, LogWhat::App, turn, &filter, LINES_A_PAGE).await;
    let page = read.inspect_err(|cause| tracing::warn!(error = %cause, "a page goes without its log")).ok();
    // What is over does not come.
    let live = turn == LogTurn::Last && filter.until.is_none_or(|until| until > now());
    let cursor = Cursor { lines: page.as_ref().map_or(0, |page| page.end), ..Cursor::default() };
    let after = live.then(|| if page.is_some() { cursor.to_string() } else { String::new() });
    let shown = LogsPage { app, form, shown: page, after };
    Ok(Html(app::logs(state.page(Some(&who.user)), shown)).into_response())
}

pub async fn events(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    Query(after): Query<After>,
) -> Result<Response, Failed> {
    let (filter, _, wrong) = read(&asked);
    if wrong {
        return Ok(StatusCode::UNPROCESSABLE_ENTITY.into_response());
    }
    events::stream(state, who, Of::Logs(parse(&name)?, filter), after.after).await
}

/// All that matches, oldest first. Held in memory is what the other side has not taken of one chunk.
pub async fn download(
    State(state): State<Shared>,
    who: SignedIn,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    let name = parse(&name)?;
    let (filter, _, wrong) = read(&asked);
    if wrong {
        return Ok(StatusCode::UNPROCESSABLE_ENTITY.into_response());
    }
    let at = now().utc();
    let day = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
    let file = format!("attachment; filename=\"{name}-{day}.log\"");
    whole(&state, &who, &name, LogWhat::App, &filter, file).await
}

/// All that one deploy printed, to be read in the browser.
pub async fn of_deploy(
    State(state): State<Shared>,
    who: SignedIn,
    Path((name, n)): Path<(String, String)>,
) -> Result<Response, Failed> {
    let (name, number) = (parse(&name)?, number(&n)?);
    state.commands.deploy(&who.actor, &name, number).await?;
    let file = format!("inline; filename=\"{name}-v{number}.log\"");
    whole(&state, &who, &name, LogWhat::Deploy(number), &LogFilter::default(), file).await
}

async fn whole(
    state: &Shared,
    who: &SignedIn,
    name: &AppName,
    what: LogWhat,
    filter: &LogFilter,
    file: String,
) -> Result<Response, Failed> {
    let place = state.streams.take(who.actor.user).ok_or_else(|| Failed::Page(Problem::streams()))?;
    let lines = state.commands.log_whole(&who.actor, name, what, filter).await?;
    let text = lines.ready_chunks(LINES_AT_ONCE).map(move |chunk| {
        let _held = &place;
        let lines: Result<Vec<LogLine>, _> = chunk.into_iter().collect();
        lines.map(|lines| Bytes::from(lines.iter().map(written).collect::<String>()))
    });
    let text = text.inspect_err(|cause| tracing::warn!(error = %cause, "a download of a log broke off"));
    let heads = [(header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, file)];
    Ok((heads, Body::from_stream(text)).into_response())
}

/// `2026-11-17T14:31:58.204Z web.1 GET / 200`
fn written(line: &LogLine) -> String {
    let at = line.at.utc();
    let date = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
    let clock = format!("{:02}:{:02}:{:02}.{:03}", at.hour(), at.minute(), at.second(), at.millisecond());
    format!("{date}T{clock}Z {} {}\n", line.source, app::plain(&line.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, source: &str, since: &str, until: &str) -> Asked {
        let own = str::to_owned;
        Asked { text: own(text), source: own(source), since: own(since), until: own(until) }
    }

    #[test]
    fn what_was_asked_is_read_or_comes_back_with_what_is_wrong() {
        let (filter, form, wrong) = read(&asked(" err ", "web.1", "2026-11-17T14:31", "2026-11-17T14:31"));
        assert!(!wrong && filter.text == "err" && filter.source == "web.1" && form.text.value == " err ");
        assert_eq!(filter.until.unwrap().since(filter.since.unwrap()).as_micros(), 59_999_999);
        let long = "x".repeat(201);
        for (asked, at) in [
            (asked(&long, "", "", ""), 0),
            (asked("", &long, "", ""), 1),
            (asked("", "", "yesterday", ""), 2),
            (asked("", "", "", "<b>"), 3),
            (asked("", "", "2026-11-17T14:31", "2026-11-17T14:30"), 3),
        ] {
            let (_, form, wrong) = read(&asked);
            let all = [&form.text, &form.source, &form.since, &form.until];
            let kept = [&asked.text, &asked.source, &asked.since, &asked.until];
            assert!(wrong && all[at].error.is_some(), "{asked:?}");
            assert!(all.iter().zip(kept).all(|(field, typed)| field.value == *typed), "{asked:?}");
        }
    }

    #[test]
    fn a_downloaded_line_has_its_time_to_the_millisecond_and_no_colours() {
        let at = Time::from_unix_micros(1_763_386_327_123_456);
        let line = LogLine { cursor: 1, at, source: "web.1".to_owned(), text: "\x1b[31mno\x1b[0m".to_owned() };
        assert_eq!(written(&line), "2025-11-17T13:32:07.123Z web.1 no\n");
    }
}
