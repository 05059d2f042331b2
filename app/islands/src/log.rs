//! A log's tail. The server renders the first lines; the browser appends, follows the end, stands
//! still while somebody reads further up, and keeps some hundreds of lines.

use leptos::html::Div;
use leptos::prelude::*;

use crate::stream::{Heard, listen};

/// `children` is a `<pre class="log" data-log=NAME data-number=N>` with the lines so far, one
/// element each, and a `<p>` that is shown while there are none.
#[island]
pub fn LogTail(children: Children) -> impl IntoView {
    let root = NodeRef::<Div>::new();
    let missed = RwSignal::new(0_usize);

    Effect::new(move |started: Option<bool>| {
        if started == Some(true) {
            return true;
        }
        let Some(_root) = root.get() else { return false };
        #[cfg(feature = "hydrate")]
        browser::follow(&_root, missed);
        true
    });

    let to_end = move |_| {
        #[cfg(feature = "hydrate")]
        if let Some(pre) = root.get_untracked().and_then(|root| browser::pre(&root)) {
            pre.set_scroll_top(pre.scroll_height());
        }
        missed.set(0);
    };

    view! {
        <div class="tail" node_ref=root>
            {children()}
            <p class="follow" hidden=move || missed.get() == 0>
                <button type="button" class="btn small" on:click=to_end>
                    {move || match missed.get() {
                        1 => "1 new line".to_owned(),
                        n => format!("{n} new lines"),
                    }}
                </button>
            </p>
        </div>
    }
}

/// Says whether what is shown still moves.
#[island]
pub fn StreamMark() -> impl IntoView {
    let known = RwSignal::new(false);
    let live = RwSignal::new(false);
    listen(move |heard| match heard {
        Heard::Connected(yes) => {
            live.set(yes);
            known.set(true);
        }
        Heard::Ended => known.set(false),
        _ => {}
    });
    view! {
        <span class=move || if live.get() { "state running" } else { "state stopped" } hidden=move || !known.get()>
            {move || if live.get() { "live" } else { "not live" }}
        </span>
    }
}

#[cfg(feature = "hydrate")]
mod browser {
    use std::cell::Cell;
    use std::rc::Rc;

    use leptos::prelude::*;
    use wasm_bindgen::JsCast;
    use wasm_bindgen::prelude::Closure;
    use web_sys::{Element, HtmlElement};

    use crate::stream::{Heard, listen};

    /// Lines kept while the end is followed, and while it is not.
    const LINES_MAX: u32 = 500;
    const LINES_READ_MAX: u32 = 2_000;

    pub fn pre(root: &Element) -> Option<HtmlElement> {
        root.query_selector("pre").ok().flatten()?.dyn_into().ok()
    }

    pub fn follow(root: &Element, missed: RwSignal<usize>) {
        let Some(pre) = pre(root) else { return };
        let section = root.closest("section").ok().flatten();
        let empty = root.query_selector("pre + p").ok().flatten();
        pre.set_scroll_top(pre.scroll_height());

        let following = Rc::new(Cell::new(true));
        let scrolled = Closure::<dyn FnMut()>::new({
            let (pre, following) = (pre.clone(), following.clone());
            move || {
                let at_end = pre.scroll_top() + pre.client_height() >= pre.scroll_height() - 24;
                following.set(at_end);
                if at_end {
                    missed.set(0);
                }
            }
        });
        let _ = pre.add_event_listener_with_callback("scroll", scrolled.as_ref().unchecked_ref());
        scrolled.forget();

        let own = pre.dataset().get("log").unwrap_or_default();
        listen(move |heard| {
            let Heard::Lines { log, number, html } = heard else { return };
            if log != own {
                return;
            }
            // Another deploy begins: its log is its own.
            if pre.dataset().get("number").as_deref() != Some(number) {
                pre.set_text_content(None);
                let _ = pre.dataset().set("number", number);
                missed.set(0);
            }
            let before = pre.child_element_count();
            let _ = pre.insert_adjacent_html("beforeend", html);
            let new = pre.child_element_count().saturating_sub(before);
            let most = if following.get() { LINES_MAX } else { LINES_READ_MAX };
            while pre.child_element_count() > most
                && let Some(first) = pre.first_element_child()
            {
                first.remove();
            }
            if following.get() {
                pre.set_scroll_top(pre.scroll_height());
            } else {
                missed.update(|n| *n += new as usize);
            }
            for shown in section.iter().filter(|_| new > 0) {
                let _ = shown.remove_attribute("hidden");
            }
            for hidden in empty.iter().filter(|_| new > 0) {
                let _ = hidden.set_attribute("hidden", "");
            }
        });
    }
}
