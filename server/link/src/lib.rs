//! How roles call each other: HTTP/1.1 with JSON on unix sockets, one [`Client`] and one [`serve`].
//!
//! Knows: who may call (peer UID *and* token, GROUND 'Identities'). Never: what is said; that is
//! `domain::wire`.

mod client;
mod serve;

pub use self::client::{Client, LinkError};
pub use self::serve::{Caller, Peer, Role, ServeError, serve};
