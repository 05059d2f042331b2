//! Pages for what went wrong: what happened, what it means, what to do.

use leptos::prelude::*;

use crate::frame::{Frame, Page};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    pub title: String,
    pub message: String,
    pub hint: Option<String>,
}

pub fn error(page: Page<'_>, problem: Problem) -> String {
    let (href, word) = if page.user.is_some() { ("/apps", "To your apps") } else { ("/", "To the start") };
    Frame::new(page, format!("{} · Berth", problem.title)).html(move || {
        view! {
            <section class="sheet stack">
                <h1>{problem.title}</h1>
                <p>{problem.message}</p>
                {problem.hint.map(|hint| view! { <p class="hint">{hint}</p> })}
                <p class="actions">
                    <a class="btn" href=href>
                        {word}
                    </a>
                </p>
            </section>
        }
    })
}
