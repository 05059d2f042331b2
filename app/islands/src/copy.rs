//! A command that can be copied: `children` is the `<pre>`. Without scripting there is no button;
//! one click selects the text whole.

use leptos::html::Div;
use leptos::prelude::*;

#[island]
pub fn Copy(children: Children) -> impl IntoView {
    let root = NodeRef::<Div>::new();
    let shown = RwSignal::new(false);
    let done = RwSignal::new(false);

    // The clipboard is there only in a secure context: HTTPS, or localhost.
    Effect::new(move |_| {
        #[cfg(feature = "hydrate")]
        shown.set(window().is_secure_context());
    });

    let copy = move |_| {
        #[cfg(feature = "hydrate")]
        if let Some(text) = root.get_untracked().and_then(|root| browser::lines(&root)) {
            let _ = window().navigator().clipboard().write_text(&text);
            done.set(true);
            set_timeout(move || done.set(false), std::time::Duration::from_secs(2));
        }
    };

    view! {
        <div class="copied" node_ref=root>
            {children()}
            <button type="button" class="btn small" hidden=move || !shown.get() on:click=copy>
                {move || if done.get() { "Copied" } else { "Copy" }}
            </button>
        </div>
    }
}

#[cfg(feature = "hydrate")]
mod browser {
    use web_sys::Element;

    /// A line of the command is a `<code>`.
    pub fn lines(root: &Element) -> Option<String> {
        let all = root.query_selector_all("code").ok()?;
        let lines = (0..all.length()).filter_map(|at| all.get(at)?.text_content());
        Some(lines.collect::<Vec<_>>().join("\n"))
    }
}
