//! One event stream a page: HTTP/1.1 allows six connections a host, and each tab needs one.
//!
//! `<main data-events=PATH data-after=CURSOR>` says where it is. It is opened by the first island
//! that listens, closed while the page is hidden, and goes on after the last cursor seen.
//!
//! | event | data: the first line, then HTML |
//! | --- | --- |
//! | `region` | `NAME HASH`: what now stands in the region |
//! | `lines` | `LOG NUMBER`: lines to append to a log; another number begins it anew |
//! | `end` | nothing more comes |

/// What comes over the stream.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "hydrate"), allow(dead_code, reason = "only a browser listens"))]
pub enum Heard<'a> {
    Region {
        name: &'a str,
        hash: &'a str,
        html: &'a str,
    },
    Lines {
        log: &'a str,
        number: &'a str,
        html: &'a str,
    },
    /// The stream was opened, or lost.
    Connected(bool),
    /// Nothing more comes.
    Ended,
}

#[cfg(not(feature = "hydrate"))]
pub fn listen(_on: impl Fn(Heard<'_>) + 'static) {}

#[cfg(feature = "hydrate")]
pub use self::browser::listen;

#[cfg(feature = "hydrate")]
mod browser {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::time::Duration;

    use leptos::prelude::{document, set_interval, set_timeout};
    use wasm_bindgen::JsCast;
    use wasm_bindgen::prelude::Closure;
    use web_sys::{EventSource, HtmlElement, MessageEvent, VisibilityState};

    use super::Heard;
    use crate::words::so_far;

    type Handler = Closure<dyn FnMut(MessageEvent)>;
    type Listener = Rc<dyn Fn(Heard<'_>)>;

    #[derive(Default)]
    struct Hub {
        listeners: RefCell<Vec<Listener>>,
        path: RefCell<String>,
        cursor: RefCell<String>,
        source: RefCell<Option<EventSource>>,
        handlers: RefCell<Vec<(&'static str, Handler)>>,
        /// The server said that nothing more comes.
        ended: Cell<bool>,
        /// Failed tries in a row, and whether the next one is set.
        failures: Cell<u32>,
        waiting: Cell<bool>,
    }

    thread_local! {
        static HUB: Hub = Hub::default();
    }

    /// Hears everything that comes, until the page is left.
    pub fn listen(on: impl Fn(Heard<'_>) + 'static) {
        HUB.with(|hub| {
            let first = hub.listeners.borrow().is_empty();
            hub.listeners.borrow_mut().push(Rc::new(on));
            if first {
                start(hub);
            }
        });
    }

    fn tell(heard: Heard<'_>) {
        let listeners = HUB.with(|hub| hub.listeners.borrow().clone());
        for listener in listeners {
            listener(heard);
        }
    }

    fn start(hub: &Hub) {
        let main = document().query_selector("[data-events]").ok().flatten();
        let Some(main) = main.and_then(|e| e.dyn_into::<HtmlElement>().ok()) else { return };
        *hub.path.borrow_mut() = main.dataset().get("events").unwrap_or_default();
        *hub.cursor.borrow_mut() = main.dataset().get("after").unwrap_or_default();

        let add = |name: &'static str, on: fn(&MessageEvent)| {
            let handler = Closure::new(move |event: MessageEvent| on(&event));
            hub.handlers.borrow_mut().push((name, handler));
        };
        add("open", |_| {
            HUB.with(|hub| hub.failures.set(0));
            tell(Heard::Connected(true));
        });
        add("error", |_| lost());
        add("region", |event| read(event, |name, hash, html| Heard::Region { name, hash, html }));
        add("lines", |event| read(event, |log, number, html| Heard::Lines { log, number, html }));
        add("end", |_| {
            HUB.with(|hub| hub.ended.set(true));
            close();
            tell(Heard::Ended);
        });

        let seen = Closure::<dyn FnMut()>::new(|| match document().visibility_state() {
            VisibilityState::Hidden => close(),
            _ => open(),
        });
        let _ = document().add_event_listener_with_callback("visibilitychange", seen.as_ref().unchecked_ref());
        seen.forget();
        set_interval(tick, Duration::from_secs(1));
        // After the other islands of the page have begun to listen.
        set_timeout(open, Duration::ZERO);
    }

    fn read(event: &MessageEvent, heard: for<'a> fn(&'a str, &'a str, &'a str) -> Heard<'a>) {
        let id = event.last_event_id();
        if !id.is_empty() {
            HUB.with(|hub| *hub.cursor.borrow_mut() = id);
        }
        let Some(data) = event.data().as_string() else { return };
        let (first, html) = data.split_once('\n').unwrap_or((&data, ""));
        let (name, rest) = first.split_once(' ').unwrap_or((first, ""));
        tell(heard(name, rest, html));
    }

    fn open() {
        HUB.with(|hub| {
            let hidden = document().visibility_state() == VisibilityState::Hidden;
            if hub.ended.get() || hidden || hub.source.borrow().is_some() || hub.path.borrow().is_empty() {
                return;
            }
            // The path of a filtered log has a question of its own.
            let mark = if hub.path.borrow().contains('?') { '&' } else { '?' };
            let url = format!("{}{mark}after={}", hub.path.borrow(), hub.cursor.borrow());
            let Ok(source) = EventSource::new(&url) else { return };
            for (name, handler) in hub.handlers.borrow().iter() {
                let _ = source.add_event_listener_with_callback(name, handler.as_ref().unchecked_ref());
            }
            *hub.source.borrow_mut() = Some(source);
        });
    }

    fn close() {
        if let Some(source) = HUB.with(|hub| hub.source.borrow_mut().take()) {
            source.close();
        }
    }

    /// A browser gives up after an answer other than 200, and after a cut it asks for the address
    /// with the old cursor: so we come again ourselves, later each time.
    fn lost() {
        close();
        tell(Heard::Connected(false));
        HUB.with(|hub| {
            if hub.waiting.replace(true) {
                return;
            }
            let failures = hub.failures.get();
            hub.failures.set(failures.saturating_add(1));
            let again = || {
                HUB.with(|hub| hub.waiting.set(false));
                open();
            };
            set_timeout(again, Duration::from_secs(1 << failures.min(5)));
        });
    }

    /// What runs is counted on: `data-ticks` holds milliseconds.
    fn tick() {
        let Ok(all) = document().query_selector_all("[data-ticks]") else { return };
        for at in 0..all.length() {
            let Some(element) = all.get(at).and_then(|node| node.dyn_into::<HtmlElement>().ok()) else { continue };
            let ms: u64 = element.dataset().get("ticks").and_then(|ms| ms.parse().ok()).unwrap_or(0) + 1000;
            let _ = element.dataset().set("ticks", &ms.to_string());
            element.set_text_content(Some(&so_far(ms)));
        }
    }
}
