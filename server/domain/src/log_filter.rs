//! Which lines of a log somebody wants to see: for the history, the live lines and the download alike.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Time;

/// All of it together; what is absent or empty leaves nothing out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFilter {
    /// Stands in the line, in capital or small letters (of ASCII).
    pub text: String,
    /// `web`: all of its instances; `web.1`: that one.
    pub source: String,
    pub since: Option<Time>,
    pub until: Option<Time>,
}

impl LogFilter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `&text=…&since=µs`: as the logs process reads it.
    pub fn query(&self) -> String {
        let word = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!("&{name}={}", in_query(value)),
        };
        let time =
            |name: &str, at: Option<Time>| at.map(|at| format!("&{name}={}", at.unix_micros())).unwrap_or_default();
        [word("text", &self.text), word("source", &self.source), time("since", self.since), time("until", self.until)]
            .concat()
    }

    pub fn matches(&self, at: Time, source: &str, text: &str) -> bool {
        self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at <= until)
            && self.is_of(source)
            && (self.text.is_empty() || contains(&without_colours(text), &self.text))
    }

    fn is_of(&self, source: &str) -> bool {
        self.source.is_empty()
            || source.strip_prefix(self.source.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Any text as a value in a query (RFC 3986 §2.3).
pub fn in_query(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// A word may be coloured in the middle.
fn without_colours(text: &str) -> Cow<'_, str> {
    if !text.contains('\x1b') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        plain.push_str(&rest[..at]);
        let parameters = &rest[at + 2..];
        let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'));
        match end.filter(|end| parameters[*end..].starts_with('m')) {
            Some(end) => rest = &parameters[end + 1..],
            None => {
                plain.push_str(&rest[at..at + 2]);
                rest = parameters;
            }
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

fn contains(text: &str, wanted: &str) -> bool {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    let Some(first) = wanted.first() else { return true };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| b.eq_ignore_ascii_case(first)) {
        rest = &rest[at..];
        let Some(here) = rest.get(..wanted.len()) else { return false };
        if here.eq_ignore_ascii_case(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(text: &str, wanted: &str) -> bool {
        let filter = LogFilter { text: wanted.to_owned(), ..LogFilter::default() };
        filter.matches(Time::from_unix_micros(0), "web.1", text)
    }

    #[test]
    fn text_is_found_in_any_case_through_colours_and_in_any_language() {
        assert!(has("GET /Basket 200", "get /basket") && has("KeyError", "ERR") && has("x", ""));
        assert!(has("\x1b[31mfatal\x1b[0m: no", "fatal: no") && has("open \x1b[ here", "[ here"));
        assert!(has("größer als 🚢", "größer") && !has("größer", "GRÖSSER") && !has("ab", "abc") && !has("", "a"));
        assert!(has("aaab", "aab"));
    }

    #[test]
    fn a_source_is_a_process_type_or_one_instance() {
        let of = |source: &str, line: &str| {
            let filter = LogFilter { source: source.to_owned(), ..LogFilter::default() };
            filter.matches(Time::from_unix_micros(0), line, "")
        };
        assert!(of("web", "web.1") && of("web", "web.12") && of("web.1", "web.1") && of("berth", "berth"));
        assert!(!of("web.1", "web.12") && !of("web", "webhook.1") && !of("web.1", "web"));
    }

    #[test]
    fn times_are_taken_in_both_ends() {
        let at = Time::from_unix_micros;
        let filter = LogFilter { since: Some(at(10)), until: Some(at(20)), ..LogFilter::default() };
        let seen: Vec<i64> = (8..23).filter(|n| filter.matches(at(*n), "web.1", "")).collect();
        assert_eq!((seen.first(), seen.last(), seen.len()), (Some(&10), Some(&20), 11));
    }
}
