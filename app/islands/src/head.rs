//! The first lines of an app's page: is it up, which version, what is going on.

use leptos::prelude::*;

use crate::live::{Notice, State, Vital};
use crate::stream::{Heard, listen};

/// A signal that holds `first`, and then what `pick` finds in what the stream says.
pub fn followed<T: PartialEq + Clone + Send + Sync + 'static>(
    first: T,
    pick: impl Fn(&crate::live::Live) -> Option<T> + 'static,
) -> ArcRwSignal<T> {
    let signal = ArcRwSignal::new(first);
    let heard_by = signal.clone();
    listen(move |heard| {
        if let Heard::Live(live) = heard
            && let Some(value) = pick(live)
            && heard_by.with_untracked(|old| *old != value)
        {
            heard_by.set(value);
        }
    });
    signal
}

#[island]
pub fn StateNow(state: State) -> impl IntoView {
    let state = followed(state, |live| live.app.as_ref().map(|app| app.state.clone()));
    let word = state.clone();
    view! {
        <span class=move || format!("state pill {}", state.read().kind) role="status">
            {move || word.read().word.clone()}
        </span>
    }
}

#[island]
pub fn ServingNow(serving: String) -> impl IntoView {
    let serving = followed(serving, |live| live.app.as_ref().map(|app| app.serving.clone()));
    view! { <span>{move || serving.get()}</span> }
}

#[island]
pub fn NoticeNow(notice: Option<Notice>) -> impl IntoView {
    let notice = followed(notice, |live| live.app.as_ref().map(|app| app.notice.clone()));
    view! {
        <div role="status">
            {move || {
                notice
                    .get()
                    .map(|notice| {
                        view! {
                            <div class=format!("notice {}", notice.kind)>
                                <div>
                                    <p>
                                        <strong>{notice.title}</strong>
                                        " "
                                        <span>{notice.text}</span>
                                    </p>
                                </div>
                                <a class="btn small" href=notice.href>
                                    {notice.link}
                                </a>
                            </div>
                        }
                    })
            }}
        </div>
    }
}

#[island]
pub fn VitalsNow(vitals: Vec<Vital>) -> impl IntoView {
    let vitals = followed(vitals, |live| live.app.as_ref().map(|app| app.vitals.clone()));
    view! {
        <dl class="sheet vitals">
            {move || {
                vitals
                    .get()
                    .into_iter()
                    .map(|vital| {
                        view! {
                            <div>
                                <dt>{vital.name}</dt>
                                <dd>
                                    <span>{vital.value}</span>
                                    " "
                                    <small>{vital.unit}</small>
                                </dd>
                                <dd class="note">{vital.note}</dd>
                            </div>
                        }
                    })
                    .collect_view()
            }}
        </dl>
    }
}
