//! What lives on a page: the state, the steps, the log, the copy buttons.
//!
//! Compiled twice: with `ssr` the server renders it as plain HTML, with `hydrate` the browser
//! wakes it. Whatever an island shows is finished by the server (`live`); the browser adds the
//! passing seconds and nothing else. A page without scripting shows the same.
//! Never: knows a permission, a database or another room.
//! Start reading at `live`, then `stream`: one event stream feeds all islands of a page.

mod copy;
mod deploy;
mod head;
pub mod live;
mod log;
mod rail;
mod stream;
pub mod words;

pub use self::copy::Copy;
pub use self::deploy::{BuildNow, DeployNow};
pub use self::head::{NoticeNow, ServingNow, StateNow, VitalsNow};
pub use self::log::{LogTail, StreamMark};
pub use self::rail::RailNow;
