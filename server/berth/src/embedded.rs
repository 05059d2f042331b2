//! What the binary carries: the shim, and the site's files. Both are empty in a binary that was built
//! without `cargo xtask build`.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// What is missing, for a person.
pub fn missing() -> Option<&'static str> {
    match (SHIM.is_some(), SITE.is_empty()) {
        (true, false) => None,
        (false, _) => Some("the shim that holds instances, and so no app can run"),
        (true, true) => Some("the site's files, and so its pages are bare"),
    }
}
