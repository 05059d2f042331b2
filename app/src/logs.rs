//! What did it say? An app's log: its history a page at a time, what matches of it, and what comes.

use commands::AppView;
use domain::in_query;
use domain::wire::LogPage;
use leptos::prelude::*;

use crate::form::{Typed, error, summary};
use crate::frame::{Alive, Events, Frame, Page, Place};
use crate::head::{Tab, head};
use crate::log;
use crate::when::said;

/// What was asked for, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct LogsForm {
    pub text: Typed,
    pub source: Typed,
    pub since: Typed,
    pub until: Typed,
}

impl LogsForm {
    fn fields(&self) -> [(&'static str, &Typed); 4] {
        [("text", &self.text), ("source", &self.source), ("since", &self.since), ("until", &self.until)]
    }

    /// `?text=…&source=…`, and what more is given; nothing when nothing is.
    pub fn query(&self, more: Option<(&str, u64)>) -> String {
        let own = self.fields().into_iter().filter(|(_, typed)| !typed.value.is_empty());
        let own = own.map(|(name, typed)| format!("{name}={}", in_query(&typed.value)));
        let all: Vec<String> = own.chain(more.map(|(name, n)| format!("{name}={n}"))).collect();
        if all.is_empty() { String::new() } else { format!("?{}", all.join("&")) }
    }

    fn is_empty(&self) -> bool {
        self.fields().iter().all(|(_, typed)| typed.value.is_empty())
    }

    fn is_wrong(&self) -> bool {
        self.fields().iter().any(|(_, typed)| typed.error.is_some())
    }
}

pub struct LogsPage {
    pub app: AppView,
    pub form: LogsForm,
    /// `None`: the log is away, or was not asked.
    pub shown: Option<LogPage>,
    /// Where the event stream goes on; `None`: these are not the newest lines.
    pub after: Option<String>,
}

pub fn logs(page: Page<'_>, shown: LogsPage) -> String {
    let LogsPage { app, form, shown, after } = shown;
    let (now, name, ssh) = (page.now, app.name.to_string(), page.site.urls.ssh.clone());
    let base = format!("/apps/{name}/logs");
    let live = after.is_some();
    let mut frame = Frame::new(page, format!("Log of {name} · Berth")).place(Place::Apps).alive(Alive::Buttons);
    if let Some(after) = after {
        let path = format!("{base}/events{}", form.query(None));
        frame = frame.alive(Alive::Moves).events(Events { path, after });
    }
    frame.html(move || {
        let (empty, wrong) = (form.is_empty(), form.is_wrong());
        let problems = summary(
            None,
            &[
                ("text", "the text", &form.text),
                ("source", "the process", &form.source),
                ("since", "from", &form.since),
                ("until", "until", &form.until),
            ],
        );
        let turn = |word: &'static str, of: &'static str, more| {
            let href = format!("{base}{}", form.query(more));
            view! { <a class="btn small" href=href>{word}<span class="vh">{of}</span></a> }
        };
        let page = shown.as_ref();
        let older = page.and_then(|page| page.before).map(|at| turn("Older", " lines", Some(("before", at))));
        let newer = page.and_then(|page| page.after).map(|at| turn("Newer", " lines", Some(("after", at))));
        let newest = (!live && !wrong).then(|| turn("Newest", " lines", None));
        let stopped = page.and_then(|page| page.stopped.map(|at| (at, page))).map(|(at, page)| {
            let found = match page.lines.len() {
                0 => "none that match".to_owned(),
                1 => "1 that matches".to_owned(),
                n => format!("{n} that match"),
            };
            let day = said(now, at);
            view! {
                <p class="hint" role="status">
                    {format!("One look reads only so much: it came to lines of {day} and found {found}. ")}
                    "Go on with Older or Newer, or name a shorter time."
                </p>
            }
        });
        let rows = page.map(|page| log::rows_of_days(&page.lines));
        let some = page.is_some_and(|page| !page.lines.is_empty());
        let waiting = match (page, empty) {
            _ if wrong => "",
            (None, _) => "The log does not answer just now. Running apps are not affected.",
            (Some(_), true) if live => {
                "Nothing was printed yet. What the app prints to stdout and stderr shows up here."
            }
            (Some(_), true) => "There are no lines here.",
            (Some(_), false) => "No line matches.",
        };
        let download = format!("{base}/download{}", form.query(None));
        let tail = log::tail_of("lines", 0, format!("Log of {name}"), rows.unwrap_or_default(), some, waiting);
        let all = (!empty).then(|| view! { <a href=base.clone()>"All lines"</a> });
        let what = if empty { "Download" } else { "Download what matches" };
        let command = format!("ssh -p PORT logs {name} -t");
        let command = match ssh.rsplit_once(':') {
            Some((whom, port)) => command.replace("-p PORT", &format!("-p {port} {whom}")),
            None => command.replace("-p PORT", &ssh),
        };
        view! {
            {head(&app, Tab::Logs)}
            {problems}
            <section class="sheet" id="filter" aria-label="What to show">
                {fields(&app, &form, base.clone(), all.into_any())}
            </section>
            <section class="sheet" id="log">
                <header>
                    <h2>"Log"</h2>
                    <span>
                        {live.then(log::mark)}
                        {(!wrong).then(|| view! { " " <a href=download>{what}</a> })}
                    </span>
                </header>
                {stopped}
                {tail}
                <nav class="actions" aria-label="Pages of the log">{older} {newer} {newest}</nav>
                <p class="hint">"The same from a terminal: " <code>{command}</code></p>
            </section>
        }
    })
}

fn fields(app: &AppView, form: &LogsForm, action: String, all: AnyView) -> AnyView {
    let mut sources: Vec<String> = app.processes.iter().map(|process| process.process.to_string()).collect();
    sources.extend(["release", "berth"].map(str::to_owned));
    if !form.source.value.is_empty() {
        sources.push(form.source.value.clone());
    }
    let mut known = std::collections::BTreeSet::new();
    sources.retain(|source| known.insert(source.clone()));
    let options: Vec<_> = sources
        .into_iter()
        .map(|source| {
            let chosen = source == form.source.value;
            view! { <option value=source.clone() selected=chosen>{source.clone()}</option> }
        })
        .collect();
    let time = |id: &'static str, label: &'static str, typed: &Typed| {
        let wrong = typed.error.is_some();
        view! {
            <div class="field">
                <label for=id>{label} <small class="hint">" UTC"</small></label>
                <input
                    id=id
                    name=id
                    // What is no time would be dropped by the browser, and not be there to be corrected.
                    type=if wrong { "text" } else { "datetime-local" }
                    value=typed.value.clone()
                    aria-invalid=wrong.then_some("true")
                    aria-describedby=wrong.then(|| format!("{id}-err"))
                />
                {error(id, typed.error.clone())}
            </div>
        }
    };
    let wrong = form.text.error.is_some();
    view! {
        <form class="row" method="get" action=action novalidate>
            <div class="field">
                <label for="text">"Text"</label>
                <input
                    id="text"
                    name="text"
                    type="search"
                    autocomplete="off"
                    spellcheck="false"
                    value=form.text.value.clone()
                    aria-invalid=wrong.then_some("true")
                    aria-describedby=wrong.then_some("text-err")
                />
                {error("text", form.text.error.clone())}
            </div>
            <div class="field">
                <label for="source">"Process"</label>
                <select id="source" name="source">
                    <option value="">"All of them"</option>
                    {options}
                </select>
                {error("source", form.source.error.clone())}
            </div>
            {time("since", "From", &form.since)}
            {time("until", "Until", &form.until)}
            <button type="submit" class="btn">
                "Show"
            </button>
        </form>
        {all}
    }
    .into_any()
}
