//! `berth.toml`: what a Procfile cannot say. A table a process type:
//!
//! ```toml
//! [web]
//! health = "/healthz"     # must answer below 400; without it, a connection to $PORT is enough
//! start_timeout = 60      # seconds
//! stop_timeout = 10       # seconds between SIGTERM and SIGKILL
//! memory = "512MiB"
//! count = 2
//!
//! [release]
//! timeout = 600           # seconds
//! ```

use std::collections::BTreeMap;

use domain::wire::{ProcessSettings, Settings};
use domain::{ProcessName, Reason};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const START_SECONDS: (u64, u64) = (1, 600);
/// The balancers' drain is as long.
const STOP_SECONDS: (u64, u64) = (1, 30);
const RELEASE_SECONDS: (u64, u64) = (1, 3600);
const COUNT: (u64, u64) = (0, 32);
const PATH_BYTES_MAX: usize = 200;

/// What `text` says, or what is wrong with which line.
pub(super) fn parse(text: &str) -> Result<Settings, Reason> {
    let whole = DeTable::parse(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        wrong(text, at, &clean(e.message()), "It is TOML: `[web]`, then lines like `health = \"/healthz\"`")
    })?;
    let mut settings = Settings::default();
    for (name, value) in whole.get_ref() {
        let at = name.span().start;
        let (DeValue::Table(table), Ok(process)) = (value.get_ref(), name.get_ref().parse::<ProcessName>()) else {
            let why = format!("'{}' is no table of a process type", clean(name.get_ref()));
            return Err(wrong(text, at, &why, "Settings stand below a process type of the app: `[web]`"));
        };
        let of = process_settings(text, &process, table)?;
        settings.processes.insert(process, of);
    }
    Ok(settings)
}

/// A table of a process type that the app has not is a mistake that would go unseen.
pub(super) fn check(text: &str, settings: &Settings, has: &BTreeMap<ProcessName, String>) -> Result<(), Reason> {
    let Some(unknown) = settings.processes.keys().find(|name| !has.contains_key(*name)) else { return Ok(()) };
    let known: Vec<_> = has.keys().map(ProcessName::as_str).collect();
    let at = text.find(&format!("[{unknown}")).unwrap_or(0);
    let hint =
        format!("It runs: {}. Add a line `{unknown}: <command>` to the Procfile, or delete it", known.join(", "));
    Err(wrong(text, at, &format!("the app has no process type '{unknown}'"), &hint))
}

fn process_settings(text: &str, process: &ProcessName, table: &DeTable<'_>) -> Result<ProcessSettings, Reason> {
    let mut of = ProcessSettings::default();
    let kind = process.as_str();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let field = Field { text, name: &format!("{kind}.{name}"), value };
        match (kind, name) {
            ("web", "health") => of.health = Some(field.path()?),
            ("web", "start_timeout") => of.start_timeout_ms = Some(field.whole(START_SECONDS, "seconds")? * 1000),
            ("release", "timeout") => of.timeout_ms = Some(field.whole(RELEASE_SECONDS, "seconds")? * 1000),
            (_, "memory") => of.memory_bytes = Some(field.memory()?),
            (_, "stop_timeout") => of.stop_timeout_ms = Some(field.whole(STOP_SECONDS, "seconds")? * 1000),
            (kind, "count") if kind != "release" => {
                of.count = Some(u16::try_from(field.whole(COUNT, "instances")?).unwrap_or(0));
            }
            _ => {
                let known = match kind {
                    "web" => "health, start_timeout, stop_timeout, memory, count",
                    "release" => "timeout, stop_timeout, memory",
                    _ => "stop_timeout, memory, count",
                };
                let why = format!("[{kind}] has no setting '{}'", clean(name));
                return Err(wrong(text, key.span().start, &why, &format!("It may hold: {known}")));
            }
        }
    }
    Ok(of)
}

struct Field<'a> {
    text: &'a str,
    name: &'a str,
    value: &'a Spanned<DeValue<'a>>,
}

impl Field<'_> {
    fn wrong(&self, allowed: &str) -> Reason {
        let span = self.value.span();
        let given = clean(self.text.get(span.clone()).unwrap_or_default());
        wrong(self.text, span.start, &format!("{} cannot be {given}", self.name), allowed)
    }

    fn whole(&self, (min, max): (u64, u64), of: &str) -> Result<u64, Reason> {
        let given = match self.value.get_ref() {
            DeValue::Integer(i) => u64::from_str_radix(i.as_str(), i.radix()).ok(),
            _ => None,
        };
        given
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| self.wrong(&format!("It is a whole number of {of}, from {min} to {max}")))
    }

    fn string(&self) -> Option<&str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// As it stands in a request's first line.
    fn path(&self) -> Result<String, Reason> {
        let fits = |p: &&str| {
            p.starts_with('/')
                && p.len() <= PATH_BYTES_MAX
                && p.bytes().all(|b| b.is_ascii_graphic())
                && !p.contains('#')
        };
        self.string().filter(fits).map(str::to_owned).ok_or_else(|| {
            self.wrong("It is a path that begins with / , without spaces, of at most 200 bytes: \"/healthz\"")
        })
    }

    fn memory(&self) -> Result<u64, Reason> {
        let sizes = plan::MEMORY_SIZES;
        self.string().and_then(|given| sizes.into_iter().find(|size| plan::memory_words(*size) == given)).ok_or_else(
            || {
                let all: Vec<_> = sizes.into_iter().map(|size| format!("\"{}\"", plan::memory_words(size))).collect();
                self.wrong(&format!("It is one of {}", all.join(", ")))
            },
        )
    }
}

fn wrong(text: &str, at: usize, why: &str, hint: &str) -> Reason {
    let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
    Reason::new(format!("berth.toml line {line}: {why}")).hint(hint)
}

fn clean(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_type_has_its_settings() {
        let text = "[web]\nhealth = \"/up?deep=1\"\nstart_timeout = 90\ncount = 2\n\n[release]\ntimeout = 60\n\
                    [worker]\nmemory = \"1GiB\"\nstop_timeout = 30\ncount = 0\n";
        let got = parse(text).unwrap();
        let web = got.of("web").unwrap();
        assert_eq!(
            (web.health.as_deref(), web.start_timeout_ms, web.count),
            (Some("/up?deep=1"), Some(90_000), Some(2))
        );
        assert_eq!(got.of("release").unwrap().timeout_ms, Some(60_000));
        let worker = got.of("worker").unwrap();
        assert_eq!((worker.memory_bytes, worker.stop_timeout_ms, worker.count), (Some(1 << 30), Some(30_000), Some(0)));
        assert_eq!(parse("# nothing yet\n").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_is_allowed() {
        for (text, says, hint) in [
            ("[web]\nheath = \"/\"", "line 2: [web] has no setting 'heath'", "health, start_timeout"),
            ("[worker]\nhealth = \"/\"", "line 2: [worker] has no setting 'health'", "stop_timeout, memory, count"),
            ("\n[release]\ncount = 2", "line 3: [release] has no setting 'count'", "timeout"),
            ("[web]\nhealth = \"up\"", "line 2: web.health cannot be \"up\"", "begins with /"),
            ("[web]\nhealth = \"/a b\"", "line 2: web.health cannot be", "without spaces"),
            ("[web]\nstart_timeout = 0", "line 2: web.start_timeout cannot be 0", "from 1 to 600"),
            ("[web]\nstart_timeout = \"60\"", "cannot be \"60\"", "whole number of seconds"),
            ("[web]\nstop_timeout = 31", "cannot be 31", "from 1 to 30"),
            ("[release]\ntimeout = -1", "cannot be -1", "from 1 to 3600"),
            ("[w]\nmemory = \"300MiB\"", "w.memory cannot be \"300MiB\"", "\"256MiB\", \"512MiB\", \"1GiB\""),
            ("[w]\ncount = 33", "w.count cannot be 33", "from 0 to 32"),
            ("health = \"/\"", "line 1: 'health' is no table", "[web]"),
            ("[web]\nhealth = /up", "line 2: ", "TOML"),
            ("[web]\ncount = 1\ncount = 2", "line 3: ", "TOML"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(
                reason.message.starts_with("berth.toml line ") && reason.message.contains(says),
                "{text:?}: {reason}"
            );
            assert!(reason.hint.as_deref().unwrap_or_default().contains(hint), "{text:?}: {reason}");
        }
    }

    #[test]
    fn a_table_of_no_process_type_is_refused() {
        let text = "[web]\ncount = 2\n[wroker]\ncount = 1\n";
        let has = ["web", "worker"].map(|p| (p.parse().unwrap(), String::new())).into();
        let reason = check(text, &parse(text).unwrap(), &has).unwrap_err();
        assert!(reason.message.contains("line 3: the app has no process type 'wroker'"), "{reason}");
    }
}
