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
            let text = format!("{}\n", line.text);
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

/// `name`: which log of the page it is (`lines` or `build`); `number`: of the deploy, or 0.
pub fn tail(name: &'static str, number: i64, label: String, lines: &[LogLine]) -> impl IntoView + use<> {
    let (some, html) = (!lines.is_empty(), rows(lines));
    let waiting = if name == "build" { "The build has not printed anything yet." } else { "Nothing was printed yet." };
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
