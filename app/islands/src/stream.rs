//! One event stream a page: HTTP/1.1 allows six connections a host, and each tab needs one.
//!
//! `<main data-events=PATH data-after=CURSOR>` says where it is. It is opened by the first island
//! that listens, closed while the page is hidden, and goes on after the last cursor seen.

/// What comes over the stream.
#[cfg_attr(not(feature = "hydrate"), allow(dead_code, reason = "only a browser listens"))]
pub enum Heard<'a> {
    Live(&'a crate::live::Live),
    /// Lines of the app's log.
    Lines(&'a [crate::live::Line]),
    /// Lines of the open deploy.
    Build(&'a [crate::live::Line]),
    /// The stream was opened, or lost.
    Connected(bool),
}

#[cfg(not(feature = "hydrate"))]
pub fn listen(_on: impl Fn(&Heard<'_>) + 'static) {}

#[cfg(feature = "hydrate")]
pub use self::browser::listen;

#[cfg(feature = "hydrate")]
mod browser {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::time::Duration;

    use leptos::prelude::{document, set_timeout};
    use leptos::serde_json;
    use wasm_bindgen::JsCast;
    use wasm_bindgen::prelude::Closure;
    use web_sys::{EventSource, HtmlElement, MessageEvent, VisibilityState};

    use super::Heard;

    type Listener = Rc<dyn Fn(&Heard<'_>)>;
    type Handler = Closure<dyn FnMut(MessageEvent)>;

    #[derive(Default)]
    struct Hub {
        listeners: RefCell<Vec<Listener>>,
        path: RefCell<String>,
        cursor: RefCell<String>,
        source: RefCell<Option<EventSource>>,
        /// The server said that nothing more comes.
        ended: Cell<bool>,
        /// Failed tries in a row.
        failures: Cell<u32>,
        waiting: Cell<bool>,
        handlers: RefCell<Vec<(&'static str, Handler)>>,
    }

    thread_local! {
        static HUB: Hub = Hub::default();
    }

    /// Hears everything that comes, until the page is left.
    pub fn listen(on: impl Fn(&Heard<'_>) + 'static) {
        HUB.with(|hub| {
            let first = hub.listeners.borrow().is_empty();
            hub.listeners.borrow_mut().push(Rc::new(on));
            if first {
                start(hub);
            }
        });
    }

    fn tell(heard: &Heard<'_>) {
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
            tell(&Heard::Connected(true));
        });
        add("error", |_| lost());
        add("live", |event| {
            if let Some(live) = read(event) {
                tell(&Heard::Live(&live));
            }
        });
        add("lines", |event| {
            if let Some(lines) = read::<Vec<_>>(event) {
                tell(&Heard::Lines(&lines));
            }
        });
        add("build", |event| {
            if let Some(lines) = read::<Vec<_>>(event) {
                tell(&Heard::Build(&lines));
            }
        });
        add("end", |_| {
            HUB.with(|hub| hub.ended.set(true));
            close();
            tell(&Heard::Connected(false));
        });

        let seen = Closure::<dyn FnMut()>::new(|| match document().visibility_state() {
            VisibilityState::Hidden => close(),
            _ => open(),
        });
        let _ = document().add_event_listener_with_callback("visibilitychange", seen.as_ref().unchecked_ref());
        seen.forget();
        // After the other islands of the page have begun to listen.
        set_timeout(open, Duration::ZERO);
    }

    fn read<T: serde::de::DeserializeOwned>(event: &MessageEvent) -> Option<T> {
        let id = event.last_event_id();
        if !id.is_empty() {
            HUB.with(|hub| *hub.cursor.borrow_mut() = id);
        }
        serde_json::from_str(&event.data().as_string()?).ok()
    }

    fn open() {
        HUB.with(|hub| {
            let hidden = document().visibility_state() == VisibilityState::Hidden;
            if hub.ended.get() || hidden || hub.source.borrow().is_some() || hub.path.borrow().is_empty() {
                return;
            }
            let url = format!("{}?after={}", hub.path.borrow(), hub.cursor.borrow());
            let Ok(source) = EventSource::new(&url) else { return };
            for (name, handler) in hub.handlers.borrow().iter() {
                let _ = source.add_event_listener_with_callback(name, handler.as_ref().unchecked_ref());
            }
            *hub.source.borrow_mut() = Some(source);
        });
    }

    fn close() {
        HUB.with(|hub| {
            if let Some(source) = hub.source.borrow_mut().take() {
                source.close();
            }
        });
    }

    /// A browser gives up after an answer other than 200, and asks for the old cursor after a cut:
    /// so we come again ourselves, later each time.
    fn lost() {
        close();
        tell(&Heard::Connected(false));
        HUB.with(|hub| {
            if hub.waiting.replace(true) {
                return;
            }
            let failures = hub.failures.get();
            hub.failures.set(failures.saturating_add(1));
            let after = Duration::from_secs(1 << failures.min(5));
            set_timeout(
                || {
                    HUB.with(|hub| hub.waiting.set(false));
                    open();
                },
                after,
            );
        });
    }
}
