//! A part of a page that changes: `children` is an element with `data-region` and `data-hash`.

use leptos::html::Div;
use leptos::prelude::*;

#[island]
pub fn Region(children: Children) -> impl IntoView {
    let root = NodeRef::<Div>::new();
    #[cfg(feature = "hydrate")]
    root.on_load(move |root| browser::follow(&root));
    view! {
        <div class="region" node_ref=root>
            {children()}
        </div>
    }
}

#[cfg(feature = "hydrate")]
mod browser {
    use leptos::prelude::document;
    use wasm_bindgen::JsCast;
    use web_sys::{Element, HtmlElement};

    use crate::stream::{Heard, listen};

    pub fn follow(root: &Element) {
        let Some(region) = root.first_element_child().and_then(|children| children.first_element_child()) else {
            return;
        };
        let own = region.get_attribute("data-region").unwrap_or_default();
        listen(move |heard| {
            let Heard::Region { name, hash, html } = heard else { return };
            if name != own || region.get_attribute("data-hash").as_deref() == Some(hash) {
                return;
            }
            // Somebody reads a value: what is drawn next comes soon.
            if region.query_selector(".reading").is_ok_and(|reading| reading.is_some()) {
                return;
            }
            let focused = document().active_element().filter(|element| region.contains(Some(element)));
            // What somebody fills in stands still; the next change draws it.
            if focused
                .as_ref()
                .is_some_and(|element| ["INPUT", "SELECT", "TEXTAREA"].contains(&element.tag_name().as_str()))
            {
                return;
            }
            let href = focused.and_then(|element| element.get_attribute("href"));
            // Drawn by the server with the functions that draw the page: strangers' bytes are text.
            region.set_inner_html(html);
            let _ = region.set_attribute("data-hash", hash);
            // Who stood on a link that is still there, stands on it again.
            if let Some(href) = href
                && let Ok(links) = region.query_selector_all("a")
            {
                let links = (0..links.length()).filter_map(|at| links.get(at)?.dyn_into::<HtmlElement>().ok());
                if let Some(link) = links.into_iter().find(|link| link.get_attribute("href").as_ref() == Some(&href)) {
                    let _ = link.focus();
                }
            }
        });
    }
}
