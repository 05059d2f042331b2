//! How a known program is told where to listen.

/// What `$PORT` and an address that others reach look like in a command.
const PORT: &str = "$PORT";
const ANYWHERE: &str = "0.0.0.0";

/// The same command, listening where it is asked: on 0.0.0.0 and the port in `$PORT`. `None`: it says so already, or is
/// none that is known well enough to be changed.
pub fn listening(command: &str) -> Option<String> {
    // More than one command, or words that only a shell takes apart.
    if command.contains(['&', '|', ';', '<', '>', '`', '\\', '(', '\n']) {
        return None;
    }
    let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    let program = |word: &String| word.rsplit('/').next().map(str::to_owned).unwrap_or_default();
    // `exec`, `env A=b`, `uv run` and the like stand before it.
    let (at, name) = words.iter().enumerate().find_map(|(at, word)| {
        let name = program(word);
        let known = ["gunicorn", "hypercorn", "uvicorn", "flask", "http.server", "runserver"];
        known.contains(&name.as_str()).then_some((at, name))
    })?;
    let before = words.clone();
    let mut flags = Flags { words: &mut words, from: at + 1 };
    let both = format!("{ANYWHERE}:{PORT}");
    match name.as_str() {
        // Told nothing, it takes the port from $PORT by itself.
        "gunicorn" => flags.change(&["--bind", "-b"], &both, is_both)?,
        "hypercorn" => flags.put(&["--bind", "-b"], &both, is_both)?,
        "uvicorn" => {
            flags.put(&["--host"], ANYWHERE, is_anywhere)?;
            flags.put(&["--port"], PORT, is_port)?;
        }
        "flask" if flags.words.get(at + 1).is_some_and(|word| word == "run") => {
            flags.put(&["--host", "-h"], ANYWHERE, is_anywhere)?;
            flags.put(&["--port", "-p"], PORT, is_port)?;
        }
        "http.server" if at > 0 && flags.words.get(at - 1).is_some_and(|word| word == "-m") => {
            flags.change(&["--bind", "-b"], ANYWHERE, is_anywhere)?;
            flags.first(PORT, is_port);
        }
        "runserver" => flags.first(&both, is_both),
        _ => return None,
    }
    (words != before).then(|| words.join(" "))
}

/// A program's words, from its first argument on.
struct Flags<'a> {
    words: &'a mut Vec<String>,
    from: usize,
}

impl Flags<'_> {
    /// Gives a flag that is there its value; `None`: it is there twice, or without one.
    fn change(&mut self, names: &[&str], value: &str, is_right: fn(&str) -> bool) -> Option<()> {
        let mut places = Vec::new();
        for at in self.from..self.words.len() {
            let word = self.words.get(at)?;
            let (name, given) = word.split_once('=').map_or((word.as_str(), None), |(name, v)| (name, Some(v)));
            if names.contains(&name) {
                places.push((at, name.to_owned(), given.map(str::to_owned)));
            }
        }
        let (at, name, given) = match places.as_slice() {
            [] => return Some(()),
            [one] => one.clone(),
            _ => return None,
        };
        match given {
            Some(given) if !is_right(&given) => self.words[at] = format!("{name}={value}"),
            Some(_) => {}
            None => {
                let given = self.words.get_mut(at + 1).filter(|given| !given.starts_with('-'))?;
                if !is_right(given) {
                    *given = value.to_owned();
                }
            }
        }
        Some(())
    }

    /// The same, and adds it where it is not there.
    fn put(&mut self, names: &[&str], value: &str, is_right: fn(&str) -> bool) -> Option<()> {
        let is = |word: &String| names.iter().any(|name| word == name || word.starts_with(&format!("{name}=")));
        if !self.words.get(self.from..)?.iter().any(is) {
            self.words.push((*names.first()?).to_owned());
            self.words.push(value.to_owned());
        }
        self.change(names, value, is_right)
    }

    /// The first argument, which is no flag.
    fn first(&mut self, value: &str, is_right: fn(&str) -> bool) {
        match self.words.get_mut(self.from) {
            Some(word) if !word.starts_with('-') => {
                if !is_right(word) {
                    *word = value.to_owned();
                }
            }
            _ => self.words.insert(self.from, value.to_owned()),
        }
    }
}

fn bare(value: &str) -> &str {
    value.trim_matches(['"', '\''])
}

fn is_port(value: &str) -> bool {
    matches!(bare(value), "$PORT" | "${PORT}" | "${PORT:-8000}" | "${PORT:-8080}" | "${PORT:-5000}")
}

fn is_anywhere(value: &str) -> bool {
    matches!(bare(value), "0.0.0.0" | "::" | "[::]" | "*")
}

fn is_both(value: &str) -> bool {
    let value = bare(value);
    value.rsplit_once(':').is_some_and(|(host, _)| host.is_empty() || is_anywhere(host))
        && value.find("$PORT").or(value.find("${PORT")).is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_programs_are_told_where_to_listen() {
        for (command, expected) in [
            ("gunicorn notes.wsgi --bind 127.0.0.1:8000", "gunicorn notes.wsgi --bind 0.0.0.0:$PORT"),
            ("gunicorn -b localhost:5000 app:app -w 2", "gunicorn -b 0.0.0.0:$PORT app:app -w 2"),
            ("exec venv/bin/gunicorn --bind=127.0.0.1:$PORT app", "exec venv/bin/gunicorn --bind=0.0.0.0:$PORT app"),
            ("uvicorn main:app", "uvicorn main:app --host 0.0.0.0 --port $PORT"),
            ("uvicorn main:app --port $PORT", "uvicorn main:app --port $PORT --host 0.0.0.0"),
            ("uv run uvicorn main:app --host ::1", "uv run uvicorn main:app --host 0.0.0.0 --port $PORT"),
            ("hypercorn main:app", "hypercorn main:app --bind 0.0.0.0:$PORT"),
            ("flask run -p 5000", "flask run -p $PORT --host 0.0.0.0"),
            ("python -m http.server 8000 --bind 127.0.0.1", "python -m http.server $PORT --bind 0.0.0.0"),
            ("python3 -m http.server", "python3 -m http.server $PORT"),
            ("python manage.py runserver", "python manage.py runserver 0.0.0.0:$PORT"),
            ("python manage.py runserver 8000 --noreload", "python manage.py runserver 0.0.0.0:$PORT --noreload"),
        ] {
            assert_eq!(listening(command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn what_is_right_or_not_known_is_left_alone() {
        for command in [
            "gunicorn app:app",
            "gunicorn --bind :$PORT app:app",
            "gunicorn --bind \"0.0.0.0:${PORT}\" app:app",
            "gunicorn -b a:1 -b b:2 app:app",
            "gunicorn app:app --bind",
            "uvicorn --port --host",
            "uvicorn main:app --host 0.0.0.0 --port ${PORT:-8000}",
            "python server.py",
            "npm start",
            "flask db upgrade",
            "python manage.py migrate && python manage.py runserver",
            "",
        ] {
            assert_eq!(listening(command), None, "{command}");
        }
    }

    proptest! {
        #[test]
        fn what_was_changed_is_right(words in prop::collection::vec(prop::sample::select(vec![
            "gunicorn", "uvicorn", "flask", "run", "python", "-m", "http.server", "runserver", "hypercorn", "--bind", "-b",
            "--host", "--port", "-p", "127.0.0.1", "127.0.0.1:80", "8000", "$PORT", ":$PORT", "--bind=x", "app:app", "=",
        ]), 0..8)) {
            if let Some(changed) = listening(&words.join(" ")) {
                prop_assert_eq!(listening(&changed), None, "{}", changed);
                prop_assert!(changed.contains("$PORT") || changed.contains("0.0.0.0"), "{}", changed);
            }
        }
    }
}
