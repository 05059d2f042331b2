//! Parts of a page that change while it is open: drawn with the page, and drawn again by the same
//! functions for the event stream.

use std::hash::{DefaultHasher, Hash, Hasher};

use leptos::prelude::*;

/// One part, finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    pub name: &'static str,
    pub html: String,
}

impl Region {
    pub fn new(name: &'static str, view: impl IntoView) -> Self {
        Self { name, html: view.to_html() }
    }

    /// Tells whether what a page shows is this.
    pub fn hash(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.html.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Its place in a page.
    pub fn view(self) -> impl IntoView {
        let hash = self.hash();
        view! {
            <islands::Region>
                <div class="region" data-region=self.name data-hash=hash inner_html=self.html></div>
            </islands::Region>
        }
    }
}
