//! Names that people choose, checked at the door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("A name is needed.")]
    Empty,
    #[error("That was {given} characters. Use at most {max}.")]
    TooLong { given: usize, max: usize },
    #[error("Use lower-case letters, digits and hyphens; begin with a letter, end with a letter or a digit.")]
    NotALabel,
    #[error("'{given}' is a name Berth keeps for itself. Choose another.")]
    Reserved { given: String },
    #[error("That is not an e-mail address. It looks like name@example.com.")]
    NotAnEmail,
    #[error("'{given}' is not a {what}")]
    Unknown { what: &'static str, given: String },
}

/// Labels that must never become an app's hostname, or that look like a part of Berth.
pub const APPS_RESERVED: &[&str] = &[
    "account",
    "acme",
    "admin",
    "administrator",
    "api",
    "app",
    "apps",
    "assets",
    "auth",
    "autoconfig",
    "autodiscover",
    "berth",
    "billing",
    "blog",
    "cdn",
    "config",
    "confirm",
    "console",
    "dashboard",
    "deploy",
    "docs",
    "email",
    "events",
    "ftp",
    "git",
    "health",
    "help",
    "hg",
    "imap",
    "internal",
    "invoice",
    "localhost",
    "login",
    "logs",
    "mail",
    "metrics",
    "mx",
    "news",
    "new",
    "ns",
    "ns1",
    "ns2",
    "operator",
    "payment",
    "pop",
    "postmaster",
    "prices",
    "reset",
    "root",
    "security",
    "set",
    "shop-berth",
    "signin",
    "signout",
    "signup",
    "site",
    "smtp",
    "ssh",
    "ssl",
    "static",
    "status",
    "support",
    "system",
    "test-berth",
    "unset",
    "usage",
    "webmail",
    "wpad",
    "www",
];

fn is_label(s: &str) -> bool {
    let bytes = s.as_bytes();
    s.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<String, NameError> = $check;
                check(s).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name!(
    /// An app's name: a DNS label (RFC 1035 §2.3.1) of at most 40 characters, without `--`
    /// (which begins an internationalised name, RFC 5891 §4.2.3.1) and not reserved.
    AppName,
    |s| {
        if s.is_empty() {
            return Err(NameError::Empty);
        }
        if s.len() > 40 {
            return Err(NameError::TooLong { given: s.chars().count(), max: 40 });
        }
        if !is_label(s) || s.contains("--") {
            return Err(NameError::NotALabel);
        }
        if APPS_RESERVED.contains(&s) {
            return Err(NameError::Reserved { given: s.to_owned() });
        }
        Ok(s.to_owned())
    }
);

name!(
    /// A process type, the word before the colon in a Procfile.
    ProcessName,
    |s| {
        if s.is_empty() {
            return Err(NameError::Empty);
        }
        if s.len() > 30 {
            return Err(NameError::TooLong { given: s.chars().count(), max: 30 });
        }
        let fits = s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if fits { Ok(s.to_owned()) } else { Err(NameError::NotALabel) }
    }
);

impl ProcessName {
    /// The process type that gets the traffic.
    pub const WEB: &'static str = "web";

    pub fn web() -> Self {
        Self(Self::WEB.to_owned())
    }

    pub fn is_web(&self) -> bool {
        self.0 == Self::WEB
    }

    /// The process that runs once, before a release's others are started.
    pub const RELEASE: &'static str = "release";

    pub fn is_release(&self) -> bool {
        self.0 == Self::RELEASE
    }
}

name!(
    /// A stack: the `/usr` under an app.
    StackName,
    |s| if is_label(s) { Ok(s.to_owned()) } else { Err(NameError::NotALabel) }
);

name!(
    /// A host name without a port, in lower case, of at most 253 characters.
    Hostname,
    |s| {
        let lower = s.to_ascii_lowercase();
        let label = |l: &str| {
            (1..=63).contains(&l.len())
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if lower.len() <= 253 && lower.split('.').all(label) {
            Ok(lower)
        } else {
            Err(NameError::Unknown { what: "host name", given: s.chars().take(80).collect() })
        }
    }
);

name!(
    /// An e-mail address, its domain in lower case. Only its shape is checked: that mail arrives
    /// is known when its owner opened a link in it.
    Email,
    |s| {
        let s = s.trim();
        if s.len() > 254 {
            return Err(NameError::TooLong { given: s.chars().count(), max: 254 });
        }
        let Some((local, domain)) = s.rsplit_once('@') else { return Err(NameError::NotAnEmail) };
        let clean = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';' | '"' | '@'));
        let dotted = |part: &str| !part.starts_with('.') && !part.ends_with('.') && !part.contains("..");
        if local.len() <= 64 && clean(local) && clean(domain) && dotted(domain) && dotted(local) {
            Ok(format!("{local}@{}", domain.to_lowercase()))
        } else {
            Err(NameError::NotAnEmail)
        }
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_name_is_a_dns_label_that_is_not_ours() {
        for good in ["shop", "a", "my-app-2", "x1"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "Shop", "-a", "a-", "1a", "a.b", "a_b", "xn--80ak", "www", "api", "ä", "a b", "../x"] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
        assert!("a".repeat(41).parse::<AppName>().is_err());
    }

    #[test]
    fn an_address_keeps_its_local_part_and_loses_the_case_of_its_domain() {
        assert_eq!("Ada.L@Example.COM".parse::<Email>().unwrap().as_str(), "Ada.L@example.com");
        for bad in ["", "a", "@b", "a@", "a b@c", "a@b\nBcc: x@y", "<a@b>"] {
            assert!(bad.parse::<Email>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_parses_prints_the_same(s in "[a-z][a-z0-9-]{0,45}") {
            if let Ok(name) = s.parse::<AppName>() {
                proptest::prop_assert_eq!(name.to_string(), s);
            }
        }
    }
}
