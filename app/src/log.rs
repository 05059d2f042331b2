//! A log: the lines so far, and an island that goes on.

use domain::wire::LogLine;
use islands::words::clock;
use islands::{Copy, LogTail, StreamMark};
use leptos::prelude::*;

/// Lines as a log shows them, one element each: for the page and for the event stream.
pub fn rows(lines: &[LogLine]) -> String {
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            let mark = format!("{} {} ", clock(line.at.unix_micros()), line.source);
            let text = format!("{}\n", plain(&line.text));
            let text = match line.source == "berth" {
                true => view! { <em>{text}</em> }.into_any(),
                false => text.into_any(),
            };
            view! {
                <span>
                    <i>{mark}</i>
                    {text}
                </span>
            }
        })
        .collect();
    rows.to_html()
}

/// A line as text: without a terminal's colours, and of what overwrote itself only the last.
fn plain(line: &str) -> String {
    let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                chars.next();
            }
            '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// `name`: which log of the page it is (`lines` or `build`); `number`: of the deploy, or 0;
/// `lines`: `None` when the log could not be asked.
pub fn tail(name: &'static str, number: i64, label: String, lines: Option<&[LogLine]>) -> impl IntoView + use<> {
    let some = lines.is_some_and(|lines| !lines.is_empty());
    let html = rows(lines.unwrap_or_default());
    let waiting = match (lines, name) {
        (None, _) => "The log does not answer just now. Running apps are not affected.",
        (_, "build") => "No line of the build is here.",
        _ => "Nothing was printed yet.",
    };
    view! {
        <LogTail>
            <pre
                class="log"
                tabindex="0"
                role="group"
                aria-label=label
                data-log=name
                data-number=number.to_string()
                inner_html=html
            ></pre>
            <p class="hint" hidden=some>
                {waiting}
            </p>
        </LogTail>
    }
}

/// "live", once the stream is open.
pub fn mark() -> impl IntoView {
    view! { <StreamMark/> }
}

/// A command that can be copied, a `<code>` a line.
pub fn command(text: String, label: &'static str) -> impl IntoView {
    let lines: Vec<_> = text.lines().map(|line| view! { <code>{line.to_owned()}</code> }).collect();
    view! {
        <Copy>
            <pre class="cmd" role="group" aria-label=label>
                {lines}
            </pre>
        </Copy>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_without_what_moves_a_terminal() {
        assert_eq!(plain("\u{1b}[32mok\u{1b}[0m done"), "ok done");
        assert_eq!(plain(" 10 %\r 50 %\r100 %\r"), "100 %");
        assert_eq!(plain("a\tb\u{7}\u{0}c"), "a\tbc");
        assert_eq!(plain("cut \u{1b}["), "cut ");
    }
}
