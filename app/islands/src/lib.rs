//! What lives on a page: regions that change, a log that grows, copy buttons.
//!
//! Compiled twice: with `ssr` the server renders it, with `hydrate` the browser wakes it. There is
//! one renderer, the server: the event stream brings HTML, drawn by the same functions as the page,
//! and the browser puts it where it belongs. So a page without scripting shows the same, and the
//! browser half stays small (goal: script and WASM below 80 KiB, compressed).
//! Islands take no properties but children: what they need stands in `data-` attributes, which
//! spares the browser a JSON reader.
//! Never: knows a permission, a database or another room.
//! Start reading at `stream`: one event stream feeds all islands of a page.

mod copy;
mod graphs;
mod log;
mod region;
mod stream;
pub mod words;

pub use self::copy::Copy;
pub use self::graphs::Graphs;
pub use self::log::{LogTail, StreamMark};
pub use self::region::Region;
