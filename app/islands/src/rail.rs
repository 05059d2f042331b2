//! The deploys of an app, newest first, on a rail.

use leptos::prelude::*;

use crate::head::followed;
use crate::live::Entry;

#[island]
pub fn RailNow(rail: Vec<Entry>) -> impl IntoView {
    let rail = followed(rail, |live| live.app.as_ref().map(|app| app.rail.clone()));
    view! {
        <ol class="rail">
            {move || {
                rail.get()
                    .into_iter()
                    .map(|entry| {
                        let lines = entry.lines.into_iter().map(|line| view! { <p>{line}</p> }).collect_view();
                        view! {
                            <li class=entry.mark.class()>
                                <b>
                                    <a href=entry.href>{format!("v{}", entry.number)}</a>
                                </b>
                                " "
                                <span>{entry.word}</span>
                                {lines}
                            </li>
                        }
                    })
                    .collect_view()
            }}
        </ol>
    }
}
