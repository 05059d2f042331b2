//! Graphs that are read: the pointer, a finger or the arrow keys show one time and its values. They are taken from the
//! table of the same graph, so both say the same. `children` holds figures, drawn by the server; they may be replaced.

use leptos::html::Div;
use leptos::prelude::*;

#[island]
pub fn Graphs(children: Children) -> impl IntoView {
    let root = NodeRef::<Div>::new();
    #[cfg(feature = "hydrate")]
    root.on_load(move |root| browser::read(&root));
    view! {
        <div class="region" node_ref=root>
            {children()}
        </div>
    }
}

#[cfg(feature = "hydrate")]
mod browser {
    use leptos::prelude::{document, set_timeout};
    use wasm_bindgen::JsCast;
    use wasm_bindgen::prelude::Closure;
    use web_sys::{Element, Event, KeyboardEvent, MouseEvent, NodeList};

    use crate::stream::{Heard, listen};

    /// The width of a drawing, in its own units.
    const WIDTH: f64 = 599.0;

    pub fn read(root: &Element) {
        prepare(root);
        let kept = root.clone();
        listen(move |heard| {
            if let Heard::Region { name: "graphs", .. } = heard {
                let root = kept.clone();
                // When it is in its place.
                set_timeout(move || prepare(&root), std::time::Duration::ZERO);
            }
        });
        for event in ["pointermove", "pointerdown", "pointerout", "keydown", "focusin", "focusout"] {
            let heard = Closure::<dyn FnMut(Event)>::new(|event: Event| hear(&event));
            let _ = root.add_event_listener_with_callback(event, heard.as_ref().unchecked_ref());
            heard.forget();
        }
    }

    fn all(of: &Element, what: &str) -> Option<NodeList> {
        of.query_selector_all(what).ok()
    }

    fn each(list: &NodeList) -> impl Iterator<Item = Element> + '_ {
        (0..list.length()).filter_map(|at| list.get(at)?.dyn_into().ok())
    }

    fn rows(plot: &Element) -> Option<NodeList> {
        all(&plot.parent_element()?, "tbody tr")
    }

    /// Without scripting there is nothing to stand on: what the keys move is made here.
    fn prepare(root: &Element) {
        // One that is read already stays where it is.
        let Some(plots) = all(root, ".plot:has(> .read[hidden])") else { return };
        for plot in each(&plots) {
            let title = plot.parent_element().and_then(|figure| figure.query_selector("h2, h3").ok().flatten());
            let title = title.and_then(|title| title.text_content()).unwrap_or_default();
            let (Some(reader), Some(rows)) = (plot.query_selector(".read").ok().flatten(), rows(&plot)) else {
                continue;
            };
            let last = rows.length().saturating_sub(1).to_string();
            for (name, value) in [
                ("role", "slider"),
                ("tabindex", "0"),
                ("aria-label", &format!("{title} at a time")),
                ("aria-valuemin", "0"),
                ("aria-valuemax", &last),
                ("aria-valuenow", &last),
                ("aria-valuetext", "arrow keys read a value"),
            ] {
                let _ = reader.set_attribute(name, value);
            }
            let _ = reader.remove_attribute("hidden");
        }
    }

    fn hear(event: &Event) {
        let Some(target) = event.target().and_then(|target| target.dyn_into::<Element>().ok()) else { return };
        let Some(plot) = target.closest(".plot").ok().flatten() else { return };
        let Some(count) = rows(&plot).map(|rows| rows.length()) else { return };
        let Some(reader) = plot.query_selector(".read").ok().flatten() else { return };
        let now = || reader.get_attribute("aria-valuenow").and_then(|now| now.parse::<u32>().ok()).unwrap_or(0);
        let last = count.saturating_sub(1);
        match event.type_().as_str() {
            "focusin" => show(&plot, &reader, now().min(last), last),
            "keydown" => {
                let Some(key) = event.dyn_ref::<KeyboardEvent>().map(KeyboardEvent::key) else { return };
                let to = match key.as_str() {
                    "ArrowLeft" | "ArrowDown" => now().saturating_sub(1),
                    "ArrowRight" | "ArrowUp" => now() + 1,
                    "PageUp" => now() + 10,
                    "PageDown" => now().saturating_sub(10),
                    "Home" => 0,
                    "End" => last,
                    _ => return,
                };
                event.prevent_default();
                show(&plot, &reader, to.min(last), last);
            }
            // To another part of the same graph: what is shown there moves under the pointer.
            "pointerout" if event.dyn_ref::<MouseEvent>().is_some_and(|event| stays(event, &plot)) => {}
            "focusout" | "pointerout" => {
                let _ = plot.class_list().remove_1("reading");
                reader.set_text_content(None);
            }
            _ => {
                let Some(x) = event.dyn_ref::<MouseEvent>().map(MouseEvent::client_x) else { return };
                let place = reader.get_bounding_client_rect();
                let part = ((f64::from(x) - place.left()) / place.width().max(1.0)).clamp(0.0, 1.0);
                show(&plot, &reader, (part * f64::from(last)).round() as u32, last);
            }
        }
    }

    fn stays(event: &MouseEvent, plot: &Element) -> bool {
        let to = event.related_target().and_then(|to| to.dyn_into::<Element>().ok());
        to.is_some_and(|to| plot.contains(Some(&to)))
    }

    /// The row `n` of the table, where the pointer is.
    fn show(plot: &Element, reader: &Element, n: u32, last: u32) {
        let row = rows(plot).and_then(|rows| rows.get(n)?.dyn_into::<Element>().ok());
        let heads = plot.parent_element().and_then(|figure| all(&figure, "thead th"));
        let (Some(row), Some(heads)) = (row, heads) else { return };
        let text = |element: Option<Element>| element.and_then(|e| e.text_content()).unwrap_or_default();
        let mut said = String::new();
        let mut cell = row.first_element_child();
        for head in each(&heads) {
            let Some(one) = cell else { break };
            cell = one.next_element_sibling();
            let value = text(Some(one));
            if said.is_empty() {
                said = value;
            } else {
                said.push_str(" · ");
                said.push_str(&text(Some(head)));
                said.push(' ');
                said.push_str(&value);
            }
        }
        reader.set_text_content(None);
        if let Ok(words) = document().create_element("span") {
            words.set_text_content(Some(&said));
            let _ = reader.append_child(&words);
        }
        let _ = reader.set_attribute("aria-valuenow", &n.to_string());
        let _ = reader.set_attribute("aria-valuetext", &said);
        let _ = plot.class_list().add_1("reading");
        if let Ok(Some(line)) = plot.query_selector(".at") {
            let x = (WIDTH * f64::from(n) / f64::from(last.max(1))).round().to_string();
            let _ = line.set_attribute("x1", &x);
            let _ = line.set_attribute("x2", &x);
        }
    }
}
