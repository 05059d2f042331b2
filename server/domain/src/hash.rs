//! Content addresses. An image or a source *is* its SHA-256; a commit is what git or hg calls it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not {what}: {length} lower-case hex digits")]
pub struct HashError {
    what: &'static str,
    length: &'static str,
    given: String,
}

fn is_hex(s: &str) -> bool {
    s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! hashes {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $length:literal, $ok:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first digits, as people see it.
            pub fn short(&self) -> &str {
                &self.0[..10]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = HashError;
            fn from_str(s: &str) -> Result<Self, HashError> {
                if is_hex(s) && $ok(s.len()) {
                    Ok(Self(s.to_owned()))
                } else {
                    let given = s.chars().take(80).collect();
                    Err(HashError { what: $what, length: $length, given })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = HashError;
            fn try_from(s: String) -> Result<Self, HashError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(hash: $name) -> String {
                hash.0
            }
        }
    )* };
}

hashes! {
    /// SHA-256 of a squashfs file: an image by its content.
    ImageHash, "an image", "64", |n| n == 64;
    /// SHA-256 of the tar of a committed tree.
    SourceHash, "a source", "64", |n| n == 64;
    /// SHA-256 of a git bundle: what one push brought.
    BundleHash, "a bundle", "64", |n| n == 64;
    /// A commit: SHA-1 or SHA-256 of git, SHA-1 of hg.
    CommitId, "a commit", "40 or 64", |n| n == 40 || n == 64;
}

impl ImageHash {
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }
}

impl SourceHash {
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }
}

impl BundleHash {
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(hex::encode(digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lower_case_hex_of_the_right_length_is_a_hash() {
        assert!("a".repeat(64).parse::<ImageHash>().is_ok());
        assert!("A".repeat(64).parse::<ImageHash>().is_err());
        assert!("a".repeat(63).parse::<ImageHash>().is_err());
        assert!("a".repeat(40).parse::<CommitId>().is_ok());
        assert!("../../../etc/passwd".parse::<SourceHash>().is_err());
        assert!(serde_json::from_str::<ImageHash>("\"../x\"").is_err());
    }
}
