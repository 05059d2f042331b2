//! A deploy's state and steps, each with its time.

use leptos::prelude::*;

use crate::head::followed;
use crate::live::{Deploy, Mark, Step};
use crate::words::{share, so_far, took};

/// Milliseconds since the last word of the server: what runs is counted on here.
fn ticking(deploy: ArcRwSignal<Option<Deploy>>) -> RwSignal<u64> {
    let since = RwSignal::new(0);
    Effect::new(move |last: Option<Option<Deploy>>| {
        let now = deploy.get();
        if last.is_some_and(|last| last != now) {
            since.set(0);
        }
        now
    });
    #[cfg(feature = "hydrate")]
    set_interval(move || since.update(|ms| *ms += 1000), std::time::Duration::from_secs(1));
    since
}

fn steps(deploy: &Deploy, since: u64) -> impl IntoView + use<> {
    let since = if deploy.open { since } else { 0 };
    let whole = deploy.took_ms + since;
    let item = |step: &Step| {
        let so_long = step.took_ms.unwrap_or_default();
        let (ms, time) = match step.mark {
            Mark::Todo => (0, String::new()),
            Mark::Busy => (so_long + since, so_far(so_long + since)),
            _ => (so_long, took(so_long)),
        };
        let (class, spoken, drawn) = (step.mark.class(), step.mark.spoken(), step.mark != Mark::Todo);
        let (name, note) = (step.name.clone(), step.note.clone());
        let (x, width) = (share(step.from_ms, whole, 0), share(ms, whole, 10));
        view! {
            <li class=class>
                <span>
                    <span>{name}</span>
                    <span class="vh">{spoken}</span>
                </span>
                <svg aria-hidden="true">
                    <rect class="track" width="100%" height="6" rx="3"></rect>
                    {drawn.then(|| view! { <rect x=x width=width height="6" rx="3"></rect> })}
                </svg>
                <span class="n">{time}</span>
                {(!note.is_empty()).then(|| view! { <p>{note}</p> })}
            </li>
        }
    };
    let items: Vec<_> = deploy.steps.iter().map(item).collect();
    view! { <ol class="steps">{items}</ol> }
}

fn state(deploy: &Deploy, since: u64) -> impl IntoView + use<> {
    let class = format!("state pill {}", deploy.state.kind);
    let word = match deploy.open {
        true => format!("{}, {}", deploy.state.word, so_far(deploy.took_ms + since)),
        false => deploy.state.word.clone(),
    };
    view! { <span class=class>{word}</span> }
}

fn failure(deploy: &Deploy) -> impl IntoView + use<> {
    deploy.failure.clone().map(|failure| {
        let hint = failure.hint.map(|hint| view! { <p>{hint}</p> });
        let meaning = deploy.meaning.clone();
        view! {
            <div class="notice bad" role="alert">
                <div class="stack">
                    <p>
                        <strong>{failure.message}</strong>
                    </p>
                    <p>{meaning}</p>
                    {hint}
                </div>
            </div>
        }
    })
}

/// The page of one deploy: its number and state, what went wrong, its steps.
/// `children`: who pushed what, which never changes.
#[island]
pub fn DeployNow(deploy: Deploy, children: Children) -> impl IntoView {
    let number = deploy.number;
    let now = followed(Some(deploy), |live| live.deploy.clone().map(Some));
    let since = ticking(now.clone());
    let (a, b, c) = (now.clone(), now.clone(), now);
    view! {
        <section class="sheet">
            <header>
                <h2>
                    <span>{format!("v{number}")}</span>
                    " "
                    {move || a.get().map(|deploy| state(&deploy, since.get()))}
                </h2>
            </header>
            <div>{move || b.get().map(|deploy| failure(&deploy))}</div>
            {children()}
            <div>{move || c.get().map(|deploy| steps(&deploy, since.get()))}</div>
        </section>
    }
}

/// The open deploy on the app's page; not to be seen when there is none.
/// `children`: its log.
#[island]
pub fn BuildNow(deploy: Option<Deploy>, children: Children) -> impl IntoView {
    let now = followed(deploy, |live| Some(live.deploy.clone()));
    let since = ticking(now.clone());
    let (a, b, c, d) = (now.clone(), now.clone(), now.clone(), now);
    view! {
        <section class="sheet" hidden=move || a.read().is_none() aria-label="Deploy">
            <header>
                <h2>
                    <a href=move || d.get().map(|deploy| deploy.href)>
                        {
                            let now = b.clone();
                            move || now.get().map(|deploy| format!("v{}", deploy.number))
                        }
                    </a>
                    " "
                    {move || b.get().map(|deploy| state(&deploy, since.get()))}
                </h2>
            </header>
            <div>{move || c.get().map(|deploy| steps(&deploy, since.get()))}</div>
            {children()}
        </section>
    }
}
