//! Procfile: a process type, a colon, a command line; one a line.

use std::collections::BTreeMap;

use domain::{ProcessName, Reason};

/// What `text` says, or what is wrong with which line.
pub(super) fn parse(text: &str) -> Result<BTreeMap<ProcessName, String>, Reason> {
    let mut processes = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: String| {
            Err(Reason::new(format!("Procfile line {}: {why}", at + 1))
                .hint("A line looks like this: `web: gunicorn app:app`"))
        };
        let Some((name, command)) = line.split_once(':') else {
            return wrong("there is no colon after the process type".to_owned());
        };
        let Ok(name) = name.trim().parse::<ProcessName>() else {
            let name: String = name.chars().take(40).collect();
            return wrong(format!("'{name}' is not a process type; use letters, digits, - and _, at most 30"));
        };
        let command = command.trim();
        if command.is_empty() {
            return wrong(format!("{name} has no command"));
        }
        if command.len() > 4096 || command.contains('\0') {
            return wrong(format!("the command of {name} is longer than 4,096 bytes or holds a NUL"));
        }
        if processes.insert(name.clone(), command.to_owned()).is_some() {
            return wrong(format!("{name} was there already"));
        }
    }
    if processes.is_empty() {
        return Err(Reason::new("Procfile names no process type").hint("Write `web: <command>` into it, or delete it"));
    }
    Ok(processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_process_types() {
        let got = parse("# ours\n\nweb: gunicorn app:app --bind :$PORT\nworker:python w.py\r\n").unwrap();
        let got: Vec<_> = got.iter().map(|(name, command)| (name.as_str(), command.as_str())).collect();
        assert_eq!(got, [("web", "gunicorn app:app --bind :$PORT"), ("worker", "python w.py")]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, says) in [
            ("web gunicorn", "line 1: there is no colon"),
            ("\nweb:", "line 2: web has no command"),
            ("web: a\nweb: b", "line 2: web was there already"),
            ("we b: a", "line 1: 'we b' is not a process type"),
            ("# nothing\n", "names no process type"),
        ] {
            let reason = parse(text).unwrap_err();
            assert!(reason.message.contains(says), "{text:?}: {reason}");
            assert!(reason.hint.is_some());
        }
    }
}
