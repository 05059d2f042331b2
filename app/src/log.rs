//! A log: the lines so far, and an island that goes on.

use domain::wire::LogLine;
use islands::words::clock;
use islands::{Copy, LogTail, StreamMark};
use leptos::prelude::*;

use crate::form::escaped;
use crate::when::day_year;

/// Lines as a log shows them, one element each: for the page and for the event stream. Written by
/// hand, since thousands a second may come.
pub fn rows(lines: &[LogLine]) -> String {
    let mut html = String::with_capacity(lines.iter().map(|line| line.text.len() + 80).sum());
    lines.iter().for_each(|line| row(line, &mut html));
    html
}

/// The same, with a word wherever a day begins.
pub fn rows_of_days(lines: &[LogLine]) -> String {
    let (mut html, mut day) = (String::new(), None);
    for line in lines {
        let date = line.at.utc().date();
        if day.replace(date) != Some(date) {
            html.push_str(&format!("<u>{}\n</u>", day_year(line.at)));
        }
        row(line, &mut html);
    }
    html
}

fn row(line: &LogLine, html: &mut String) {
    let mark = format!("{} {:<8} ", clock(line.at.unix_micros()), line.source);
    html.push_str("<span><i>");
    html.push_str(&escaped(&mark));
    html.push_str("</i>");
    if line.source == "berth" {
        html.push_str(&format!("<em>{}</em>", escaped(&plain(&line.text))));
    } else {
        for (ink, text) in inked(&line.text) {
            match ink {
                Some(ink) => html.push_str(&format!("<{ink}>{}</{ink}>", escaped(&text))),
                None => html.push_str(&escaped(&text)),
            }
        }
    }
    html.push_str("\n</span>");
}

/// A line as text, without colours.
pub fn plain(line: &str) -> String {
    inked(line).into_iter().map(|(_, text)| text).collect()
}

/// A line in the few inks that a log has, each the element that stands for it: `b` red, `u` green,
/// `em` yellow, `i` dim. What would turn the order of letters around is named instead.
fn inked(line: &str) -> Vec<(Option<&'static str>, String)> {
    let mut pieces = vec![(None, String::new())];
    let mut rest = line.trim_end_matches('\r');
    while let Some(c) = rest.chars().next() {
        if let Some((parameters, after)) = colour(rest) {
            rest = after;
            let now = pieces.last().and_then(|(ink, _)| *ink);
            let ink = ink(parameters, now);
            if ink != now {
                pieces.push((ink, String::new()));
            }
            continue;
        }
        rest = &rest[c.len_utf8()..];
        let Some((_, text)) = pieces.last_mut() else { break };
        match c {
            '\t' => text.push(c),
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                text.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    pieces.retain(|(_, text)| !text.is_empty());
    pieces
}

/// What a line begins with, if that is a colour (SGR, ECMA-48 §8.3.117): its parameters, and what follows.
fn colour(text: &str) -> Option<(&str, &str)> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    Some((&parameters[..end], parameters[end..].strip_prefix('m')?))
}

fn ink(parameters: &str, mut ink: Option<&'static str>) -> Option<&'static str> {
    let mut codes = parameters.split(';');
    while let Some(code) = codes.next() {
        match code.parse().unwrap_or(0_u16) {
            0 | 22 | 39 => ink = None,
            2 | 90 => ink = Some("i"),
            31 | 91 => ink = Some("b"),
            32 | 92 => ink = Some("u"),
            33 | 93 => ink = Some("em"),
            30..=37 | 94..=97 => ink = None,
            // Of 256 colours, or of all: its own numbers follow.
            38 | 48 => {
                let more = if codes.next() == Some("5") { 1 } else { 3 };
                codes.by_ref().take(more).for_each(drop);
            }
            _ => {}
        }
    }
    ink
}

/// `name`: which log of the page it is (`lines` or `build`); `number`: of the deploy, or 0;
/// `lines`: `None` when the log could not be asked.
pub fn tail(name: &'static str, number: i64, label: String, lines: Option<&[LogLine]>) -> impl IntoView + use<> {
    let some = lines.is_some_and(|lines| !lines.is_empty());
    let waiting = match (lines, name) {
        (None, _) => "The log does not answer just now. Running apps are not affected.",
        (_, "build") => "No line of the build is here.",
        _ => "Nothing was printed yet.",
    };
    tail_of(name, number, label, rows(lines.unwrap_or_default()), some, waiting)
}

/// `html`: the lines; `some`: there are any; `waiting`: what is said while there are none.
pub fn tail_of(
    name: &'static str,
    number: i64,
    label: String,
    html: String,
    some: bool,
    waiting: &'static str,
) -> impl IntoView + use<> {
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
    view! { <Copy>{lines_of(text, label)}</Copy> }
}

/// The same without its button: for a part that is drawn again, where no island stands.
pub fn lines_of(text: String, label: &'static str) -> impl IntoView {
    let lines: Vec<_> = text.lines().map(|line| view! { <code>{line.to_owned()}</code> }).collect();
    view! {
        <pre class="cmd" role="group" aria-label=label>
            {lines}
        </pre>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(source: &str, text: &str) -> LogLine {
        let at = domain::Time::from_unix_micros(1_763_386_327_123_456);
        LogLine { cursor: 1, at, source: source.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_line_is_text_whatever_it_holds() {
        assert_eq!(plain("\u{1b}[32mok\u{1b}[0m done"), "ok done");
        assert_eq!(plain("a\tb\u{7}\u{0}c\r"), "a\tbc");
        assert_eq!(plain("cut \u{1b}["), "cut [");
        assert_eq!(plain("user\u{202e}nimda"), "user\\u{202e}nimda");
        let html = rows(&[line("<b>", "<script>alert(\"1\")</script> & </pre>")]);
        let expected = "<span><i>13:32:07.123 &lt;b&gt;      </i>&lt;script&gt;alert(\"1\")&lt;/script&gt; &amp; &lt;/pre&gt;\n</span>";
        assert_eq!(html, expected);
    }

    #[test]
    fn colours_become_the_inks_of_a_log() {
        let inks = |text: &str| {
            let html = rows(&[line("web.1", text)]);
            html.split_once("</i>").map(|(_, rest)| rest.replace("\n</span>", "")).unwrap_or_default()
        };
        assert_eq!(inks("\x1b[1;31mfatal\x1b[0m: \x1b[32mok\x1b[39m"), "<b>fatal</b>: <u>ok</u>");
        assert_eq!(inks("\x1b[33mw\x1b[1m<\x1b[m\x1b[90md"), "<em>w&lt;</em><i>d</i>");
        assert_eq!(inks("\x1b[38;5;196mx\x1b[48;2;1;2;31my\x1b[34mz"), "xyz");
    }

    #[test]
    fn each_day_of_a_history_is_named() {
        let mut lines = vec![line("web.1", "a"), line("web.1", "b"), line("web.1", "c")];
        lines[2].at = lines[2].at.plus(std::time::Duration::from_secs(86_400));
        let html = rows_of_days(&lines);
        assert!(html.starts_with("<u>17 Nov 2025\n</u><span>"), "{html}");
        assert_eq!((html.matches("<u>").count(), html.matches("<u>18 Nov 2025").count()), (2, 1));
    }
}
