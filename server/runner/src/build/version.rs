//! Versions of a stack's programs, and the ranges of them that npm and Python write.

use std::fmt;

/// Major, minor, patch. What a pre-release adds is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Version([u64; 3]);

impl Version {
    /// The last word of what `--version` prints: `v20.20.2`, `Python 3.11.2`.
    pub fn printed(text: &str) -> Option<Self> {
        let version = Partial::parse(text.split_whitespace().next_back()?)?;
        (version.parts.len() >= 2 && !version.open).then(|| version.first())
    }

    pub fn minor(self) -> [u64; 2] {
        [self.0[0], self.0[1]]
    }

    fn next(self) -> Self {
        Self([self.0[0], self.0[1], self.0[2].saturating_add(1)])
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0[0], self.0[1], self.0[2])
    }
}

/// A version of which the end may be missing: `3`, `3.11`, `20.x`.
#[derive(Debug, PartialEq)]
struct Partial {
    parts: Vec<u64>,
    /// An `x` or `*` stands for the rest.
    open: bool,
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches(['v', 'V', '=']).trim_start();
        // `20.0.0-rc.1` and `3.13.0+x` are taken for what they lead to or come from.
        let text = text.split(['-', '+']).next().unwrap_or_default();
        let mut parts = Vec::new();
        for part in text.split('.') {
            if matches!(part, "x" | "X" | "*") {
                return Some(Self { parts, open: true });
            }
            parts.push(part.parse().ok().filter(|n| *n < 1 << 32)?);
        }
        (parts.len() <= 3).then_some(Self { parts, open: false })
    }

    fn first(&self) -> Version {
        let part = |at| self.parts.get(at).copied().unwrap_or(0);
        Version([part(0), part(1), part(2)])
    }

    /// The first version after all that begin with `kept` of the parts; `None`: there is none.
    fn after(&self, kept: usize) -> Option<Version> {
        let mut version = [0; 3];
        let kept = kept.min(self.parts.len());
        version[..kept].copy_from_slice(&self.parts[..kept]);
        *version[..kept].last_mut()? += 1;
        Some(Version(version))
    }
}

/// From the first on, up to but without the second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    from: Version,
    until: Option<Version>,
    /// All but these.
    not: bool,
}

const ALL: Span = Span { from: Version([0; 3]), until: None, not: false };

impl Span {
    fn holds(&self, version: Version) -> bool {
        (version >= self.from && self.until.is_none_or(|until| version < until)) != self.not
    }
}

/// Any of these, of each all.
#[derive(Debug, PartialEq)]
pub(super) struct Range(Vec<Vec<Span>>);

impl Range {
    pub fn holds(&self, version: Version) -> bool {
        self.0.iter().any(|all| all.iter().all(|span| span.holds(version)))
    }

    /// As npm writes it: `>=18 <23`, `^20.1 || 22.x`, `18 - 20`. `None`: it is no such range.
    pub fn of_npm(text: &str) -> Option<Self> {
        text.split("||").map(npm_all).collect::<Option<_>>().map(Self)
    }

    /// As Python writes it (PEP 440): `>=3.9,<3.13`, `~=3.11`, `==3.11.*`.
    pub fn of_python(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(python_one).collect::<Option<_>>().map(|all| Self(vec![all]))
    }

    /// `3.11` or `3.11.7` as a file's only word: the patch is the stack's business.
    pub fn of_python_minor(text: &str) -> Option<Self> {
        let wanted = Partial::parse(text)?;
        let until = wanted.after(2);
        let [major, minor] = wanted.first().minor();
        Some(Self(vec![vec![Span { from: Version([major, minor, 0]), until, not: false }]]))
    }
}

fn npm_all(text: &str) -> Option<Vec<Span>> {
    if let Some((from, to)) = text.split_once(" - ") {
        return Some(vec![npm_one(&format!(">={}", from.trim()))?, npm_one(&format!("<={}", to.trim()))?]);
    }
    // `>= 18` is one comparison.
    let mut joined = String::new();
    for word in text.split_whitespace() {
        if !joined.ends_with(['<', '>', '=', '^', '~']) {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    let all: Vec<_> = joined.split_whitespace().map(npm_one).collect::<Option<_>>()?;
    Some(if all.is_empty() { vec![ALL] } else { all })
}

fn npm_one(text: &str) -> Option<Span> {
    let digits = text.trim_start_matches(['<', '>', '=', '^', '~']);
    let version = Partial::parse(digits)?;
    let parts = version.parts.len();
    let from = version.first();
    let after_all = version.after(parts);
    let between = |until| Some(Span { from, until, not: false });
    match &text[..text.len() - digits.len()] {
        ">=" => between(None),
        // `>20` is from 21 on; `>*` is nothing.
        ">" => Some(Span { from: after_all.unwrap_or(from), until: None, not: false }),
        "<" => Some(Span { until: Some(from), ..ALL }),
        "<=" => Some(Span { until: after_all, ..ALL }),
        // What is left of the first part that is not 0 stays.
        "^" => {
            let kept = version.parts.iter().position(|part| *part != 0).map_or(parts, |at| at + 1);
            between(version.after(kept))
        }
        "~" | "~>" => between(version.after(2)),
        "" | "=" => between(after_all),
        _ => None,
    }
}

fn python_one(text: &str) -> Option<Span> {
    let digits = text.trim_start_matches(['<', '>', '=', '!', '~']);
    let version = Partial::parse(digits)?;
    let from = version.first();
    // `3.11` is 3.11.0, `3.11.*` all that begin so.
    let equal = Span { from, until: if version.open { version.after(3) } else { Some(from.next()) }, not: false };
    let operator = &text[..text.len() - digits.len()];
    if version.open && !matches!(operator, "==" | "!=") {
        return None;
    }
    match operator {
        ">=" => Some(Span { from, ..ALL }),
        ">" => Some(Span { from: from.next(), ..ALL }),
        "<" => Some(Span { until: Some(from), ..ALL }),
        "<=" => Some(Span { until: Some(from.next()), ..ALL }),
        "==" | "===" => Some(equal),
        "!=" => Some(Span { not: true, ..equal }),
        "~=" if version.parts.len() > 1 => {
            Some(Span { from, until: version.after(version.parts.len() - 1), not: false })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(range: fn(&str) -> Option<Range>, text: &str, holds: &[&str], not: &[&str]) {
        let range = range(text).unwrap_or_else(|| panic!("{text:?} is a range"));
        for (versions, is) in [(holds, true), (not, false)] {
            for version in versions {
                assert_eq!(range.holds(Version::printed(version).unwrap()), is, "{version} in {text:?}");
            }
        }
    }

    #[test]
    fn npm_ranges_mean_what_npm_means() {
        let npm = |text, holds, not| check(Range::of_npm, text, holds, not);
        npm("", &["20.1.2"], &[]);
        npm("*", &["20.1.2"], &[]);
        npm("20", &["20.0.0", "20.9.1"], &["19.9.9", "21.0.0"]);
        npm("20.x", &["20.9.1"], &["21.0.0"]);
        npm("v20.1.2", &["20.1.2"], &["20.1.3"]);
        npm(">=18", &["18.0.0", "22.1.0"], &["17.9.9"]);
        npm(">= 18.17 <21", &["18.17.0", "20.9.0"], &["18.16.9", "21.0.0"]);
        npm(">20", &["21.0.0"], &["20.9.9"]);
        npm("<=20", &["20.9.9"], &["21.0.0"]);
        npm("^20.1", &["20.1.0", "20.9.0"], &["20.0.9", "21.0.0"]);
        npm("^0.2.3", &["0.2.9"], &["0.3.0", "0.2.2"]);
        npm("~20.1.2", &["20.1.9"], &["20.2.0", "20.1.1"]);
        npm("^18.17.0 || >=20.3", &["18.20.0", "20.3.0", "22.0.0"], &["19.0.0", "20.2.9"]);
        npm("18 - 20", &["18.0.0", "20.9.9"], &["17.0.0", "21.0.0"]);
        for no in ["lts/iron", "new", ">=", "1.2.3.4", "^^2", "20,21"] {
            assert_eq!(Range::of_npm(no), None, "{no}");
        }
    }

    #[test]
    fn python_ranges_mean_what_pep_440_means() {
        let python = |text, holds, not| check(Range::of_python, text, holds, not);
        python(">=3.9", &["3.9.0", "3.13.1"], &["3.8.9"]);
        python(">=3.9, <3.13", &["3.12.9"], &["3.13.0"]);
        python("~=3.11", &["3.11.0", "3.13.0"], &["3.10.9", "4.0.0"]);
        python("~=3.11.2", &["3.11.9"], &["3.11.1", "3.12.0"]);
        python("==3.11.*", &["3.11.9"], &["3.12.0"]);
        python(">=3.9,!=3.11.*", &["3.10.1", "3.12.0"], &["3.11.2"]);
        python(">3.11", &["3.11.1"], &["3.11.0"]);
        python("==3.11", &["3.11.0"], &["3.11.2"]);
        for no in ["^3.11", "3.11", ">=3.x", "~=3", "python"] {
            assert_eq!(Range::of_python(no), None, "{no}");
        }
        check(Range::of_python_minor, "3.11.7", &["3.11.2"], &["3.12.0", "3.10.0"]);
        check(Range::of_python_minor, "3", &["3.11.2"], &["4.0.0", "2.7.0"]);
        assert_eq!(Range::of_python_minor("pypy3.10"), None);
    }

    #[test]
    fn a_version_is_read_from_what_a_program_prints() {
        assert_eq!(Version::printed("Python 3.13.0+\n").unwrap().to_string(), "3.13.0");
        assert_eq!(Version::printed("v20.20.2").unwrap().to_string(), "20.20.2");
        assert_eq!(Version::printed("it said nothing"), None);
        assert_eq!(Version::printed(""), None);
    }
}
