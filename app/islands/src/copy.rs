//! A command that can be copied. Without scripting there is no button: the text is selected whole
//! by one click.

use leptos::prelude::*;

#[island]
pub fn Copy(text: String, label: String) -> impl IntoView {
    let shown = RwSignal::new(false);
    let done = RwSignal::new(false);

    // The clipboard is there only in a secure context: HTTPS, or localhost.
    Effect::new(move |_| {
        #[cfg(feature = "hydrate")]
        shown.set(window().is_secure_context());
    });

    let copy = move |_| {
        #[cfg(feature = "hydrate")]
        {
            let _ = window().navigator().clipboard().write_text(&text);
            done.set(true);
            set_timeout(move || done.set(false), std::time::Duration::from_secs(2));
        }
        #[cfg(not(feature = "hydrate"))]
        let _ = (&text, done);
    };

    view! {
        <button type="button" class="btn small" hidden=move || !shown.get() on:click=copy>
            <span>{move || if done.get() { "Copied" } else { "Copy" }}</span>
            <span class="vh">{format!(" {label}")}</span>
        </button>
    }
}
