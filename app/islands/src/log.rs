//! A log's tail. The server renders the first lines; the browser appends, follows the end, stands
//! still while somebody reads further up, and keeps some hundreds of lines.

use leptos::html::Div;
use leptos::prelude::*;

use crate::stream::{Heard, listen};

/// `children` is the `<pre class="log">` with the lines so far. `of`: `lines` or `build`.
#[island]
pub fn LogTail(of: String, empty: bool, children: Children) -> impl IntoView {
    let root = NodeRef::<Div>::new();
    let missed = RwSignal::new(0_usize);
    let nothing = RwSignal::new(empty);

    Effect::new({
        let of = of.clone();
        move |started: Option<bool>| {
            if started == Some(true) {
                return true;
            }
            let Some(_root) = root.get() else { return false };
            #[cfg(feature = "hydrate")]
            browser::follow(&_root, of == "build", missed, nothing);
            true
        }
    });

    let to_end = move |_| {
        #[cfg(feature = "hydrate")]
        if let Some(root) = root.get_untracked() {
            browser::to_end(&root);
        }
        missed.set(0);
    };

    let waiting = if of == "build" { "The build has not printed anything yet." } else { "Nothing was printed yet." };
    view! {
        <div class="tail" node_ref=root>
            {children()}
            <p class="hint" hidden=move || !nothing.get()>{waiting}</p>
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
    let live = RwSignal::new(None);
    listen(move |heard| {
        if let Heard::Connected(yes) = heard {
            live.set(Some(*yes));
        }
    });
    view! {
        <span
            class=move || match live.get() {
                Some(true) => "state running",
                _ => "state stopped",
            }
            hidden=move || live.get().is_none()
        >
            {move || match live.get() {
                Some(true) => "live",
                _ => "not live",
            }}
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

    use crate::live::Line;
    use crate::stream::{Heard, listen};
    use crate::words::clock;

    /// Lines kept while the end is followed, and while it is not.
    const LINES_MAX: u32 = 500;
    const LINES_READ_MAX: u32 = 2_000;

    fn pre(root: &Element) -> Option<HtmlElement> {
        root.query_selector("pre").ok().flatten()?.dyn_into().ok()
    }

    pub fn to_end(root: &Element) {
        if let Some(pre) = pre(root) {
            pre.set_scroll_top(pre.scroll_height());
        }
    }

    pub fn follow(root: &Element, build: bool, missed: RwSignal<usize>, nothing: RwSignal<bool>) {
        let Some(pre) = pre(root) else { return };
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

        let deploy = Cell::new(None);
        listen(move |heard| match heard {
            // Another deploy begins: its log is its own.
            Heard::Live(live) if build => {
                let number = live.deploy.as_ref().map(|deploy| deploy.number);
                let before = deploy.replace(number.or(deploy.get()));
                if number.is_some() && before.is_some() && before != number {
                    pre.set_text_content(None);
                    nothing.set(true);
                }
            }
            Heard::Lines(lines) if !build => append(&pre, lines, &following, missed, nothing),
            Heard::Build(lines) if build => append(&pre, lines, &following, missed, nothing),
            _ => {}
        });
    }

    fn append(
        pre: &HtmlElement,
        lines: &[Line],
        following: &Cell<bool>,
        missed: RwSignal<usize>,
        nothing: RwSignal<bool>,
    ) {
        for line in lines {
            // One element a line, so that trimming is counting. Text stays text: nothing is parsed.
            let Ok(row) = document().create_element("span") else { return };
            let Ok(mark) = document().create_element("i") else { return };
            mark.set_text_content(Some(&format!("{} {} ", clock(line.at), line.source)));
            let _ = row.append_child(&mark);
            let ours = if line.source == "berth" { "em" } else { "span" };
            let Ok(text) = document().create_element(ours) else { return };
            text.set_text_content(Some(&format!("{}\n", line.text)));
            let _ = row.append_child(&text);
            let _ = pre.append_child(&row);
        }
        if !lines.is_empty() {
            nothing.set(false);
        }
        let most = if following.get() { LINES_MAX } else { LINES_READ_MAX };
        while pre.child_element_count() > most {
            match pre.first_element_child() {
                Some(first) => first.remove(),
                None => break,
            }
        }
        if following.get() {
            pre.set_scroll_top(pre.scroll_height());
        } else {
            missed.update(|n| *n += lines.len());
        }
    }
}
