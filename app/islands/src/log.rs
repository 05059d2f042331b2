//! A log's tail. The server renders the first lines; the browser appends, follows the end, and keeps
//! some hundreds of lines. Who reads further up keeps their place: nothing moves above them, and what
//! comes meanwhile is counted.

use leptos::html::Div;
use leptos::prelude::*;

use crate::stream::{Heard, listen};

/// `children` is a `<pre class="log" data-log=NAME data-number=N>` with the lines so far, one
/// element each, and a `<p>` that is shown while there are none.
#[island]
pub fn LogTail(children: Children) -> impl IntoView {
    let root = NodeRef::<Div>::new();
    let missed = RwSignal::new(0_usize);

    #[cfg(feature = "hydrate")]
    root.on_load(move |root| browser::follow(&root, missed));

    let to_end = move |_| {
        #[cfg(feature = "hydrate")]
        if let Some(pre) = root.get_untracked().and_then(|root| browser::pre(&root)) {
            // The rest happens where scrolling is heard.
            pre.set_scroll_top(pre.scroll_height());
        }
    };

    view! {
        <div class="tail" node_ref=root>
            {children()}
            <p class="follow" hidden=move || missed.get() == 0>
                <button type="button" class="btn small" on:click=to_end>
                    {move || match missed.get() {
                        1 => "1 new line, follow again".to_owned(),
                        n => format!("{n} new lines, follow again"),
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
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
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

    /// What came while somebody read further up, and has no room below them.
    #[derive(Default)]
    struct Held {
        chunks: VecDeque<(String, usize)>,
        lines: usize,
        left_out: usize,
    }

    impl Held {
        fn push(&mut self, html: &str, lines: usize) {
            self.chunks.push_back((html.to_owned(), lines));
            self.lines += lines;
            while self.lines > LINES_MAX as usize && self.chunks.len() > 1 {
                let gone = self.chunks.pop_front().map_or(0, |(_, lines)| lines);
                self.lines -= gone;
                self.left_out += gone;
            }
        }

        fn take(&mut self) -> String {
            let Held { chunks, left_out, .. } = std::mem::take(self);
            let mut html = String::new();
            if left_out > 0 {
                html.push_str("<span><em>");
                html.push_str(&left_out.to_string());
                html.push_str(" lines that came meanwhile are not shown here; the log has them\n</em></span>");
            }
            chunks.iter().for_each(|(chunk, _)| html.push_str(chunk));
            html
        }
    }

    struct Tail {
        pre: HtmlElement,
        following: Cell<bool>,
        held: RefCell<Held>,
        missed: RwSignal<usize>,
    }

    impl Tail {
        fn append(&self, html: &str) {
            let _ = self.pre.insert_adjacent_html("beforeend", html);
        }

        fn to_end(&self) {
            self.pre.set_scroll_top(self.pre.scroll_height());
        }

        fn trim(&self) {
            while self.pre.child_element_count() > LINES_MAX
                && let Some(first) = self.pre.first_element_child()
            {
                first.remove();
            }
        }

        fn scrolled(&self) {
            let at_end = self.pre.scroll_top() + self.pre.client_height() >= self.pre.scroll_height() - 24;
            if at_end == self.following.replace(at_end) || !at_end {
                return;
            }
            let html = self.held.borrow_mut().take();
            self.append(&html);
            self.trim();
            self.to_end();
            self.missed.set(0);
        }

        fn lines(&self, html: &str) {
            // Each line is one; within them there is none (`log::rows` of the pages).
            let new = html.matches("<span>").count();
            if self.following.get() {
                self.append(html);
                self.trim();
                self.to_end();
                return;
            }
            if self.held.borrow().chunks.is_empty() && self.pre.child_element_count() < LINES_READ_MAX {
                self.append(html);
            } else {
                self.held.borrow_mut().push(html, new);
            }
            self.missed.update(|n| *n += new);
        }

        /// Another deploy begins: its log is its own.
        fn begin(&self, number: &str) {
            self.pre.set_text_content(None);
            let _ = self.pre.dataset().set("number", number);
            self.held.take();
            self.missed.set(0);
        }
    }

    pub fn follow(root: &Element, missed: RwSignal<usize>) {
        let Some(pre) = pre(root) else { return };
        let section = root.closest("section").ok().flatten();
        let empty = root.query_selector("pre + p").ok().flatten();
        let tail = Rc::new(Tail { pre, following: Cell::new(true), held: RefCell::default(), missed });
        tail.to_end();

        let heard = Rc::clone(&tail);
        let scrolled = Closure::<dyn FnMut()>::new(move || heard.scrolled());
        let _ = tail.pre.add_event_listener_with_callback("scroll", scrolled.as_ref().unchecked_ref());
        scrolled.forget();

        let own = tail.pre.dataset().get("log").unwrap_or_default();
        listen(move |heard| {
            let Heard::Lines { log, number, html } = heard else { return };
            if log != own {
                return;
            }
            if tail.pre.dataset().get("number").as_deref() != Some(number) {
                tail.begin(number);
            }
            // Without lines it only says how far the log is.
            if html.is_empty() {
                return;
            }
            tail.lines(html);
            for shown in section.iter() {
                let _ = shown.remove_attribute("hidden");
            }
            for hidden in empty.iter() {
                let _ = hidden.set_attribute("hidden", "");
            }
        });
    }
}
