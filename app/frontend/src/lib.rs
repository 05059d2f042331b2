//! Wakes the islands of a page. `boot.js` stands at the end of what bindgen writes and calls it.

use wasm_bindgen::prelude::wasm_bindgen;

// The islands are exported by their own crate; naming it keeps them in the file.
use islands as _;

#[wasm_bindgen]
pub fn hydrate() {
    leptos::mount::hydrate_islands();
}
