//! A command's words after its name: arguments and options, in any order; after `--` arguments only.

use super::table::{Arg, Opt, Verb, nearest};

pub(super) const HELP: Opt = Opt { long: "help", short: Some('h'), value: None, about: "what it does" };

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Args {
    words: Vec<String>,
    options: Vec<(&'static str, Option<String>)>,
}

impl Args {
    /// Those that must be there were counted.
    pub(super) fn word(&self, at: usize) -> &str {
        self.words.get(at).map_or("", String::as_str)
    }

    pub(super) fn words_from(&self, at: usize) -> &[String] {
        self.words.get(at..).unwrap_or_default()
    }

    pub(super) fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The last one counts.
    pub(super) fn value(&self, long: &str) -> Option<&str> {
        self.options.iter().rev().find(|(name, _)| *name == long).and_then(|(_, value)| value.as_deref())
    }
}

pub(super) fn parse(verb: &Verb, words: &[String]) -> Result<Args, String> {
    let mut args = Args::default();
    let mut words = words.iter();
    let mut plain = false;
    while let Some(word) = words.next() {
        if plain || word == "-" || !word.starts_with('-') {
            args.words.push(word.clone());
        } else if word == "--" {
            plain = true;
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, given) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let option = options(verb).find(|option| option.long == name).ok_or_else(|| unknown(verb, word))?;
            let value = match (option.value, given) {
                (None, Some(_)) => return Err(format!("--{name} takes no value.")),
                (None, None) => None,
                (Some(_), Some(given)) => Some(given.to_owned()),
                (Some(what), None) => Some(words.next().ok_or_else(|| format!("--{name} needs {what}."))?.clone()),
            };
            args.options.push((option.long, value));
        } else {
            let mut letters = word[1..].chars();
            while let Some(letter) = letters.next() {
                let option = options(verb).find(|option| option.short == Some(letter));
                let option = option.ok_or_else(|| unknown(verb, word))?;
                let value = match option.value {
                    None => None,
                    Some(what) => {
                        let rest = letters.as_str().to_owned();
                        letters = "".chars();
                        match rest.is_empty() {
                            false => Some(rest),
                            true => Some(words.next().ok_or_else(|| format!("-{letter} needs {what}."))?.clone()),
                        }
                    }
                };
                args.options.push((option.long, value));
            }
        }
    }
    if !args.has(HELP.long) {
        count(verb, &args.words)?;
    }
    Ok(args)
}

fn options(verb: &Verb) -> impl Iterator<Item = &Opt> + Clone {
    verb.options.iter().chain([&HELP])
}

fn unknown(verb: &Verb, word: &str) -> String {
    let shown: String = word.chars().take(40).collect();
    let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    match nearest(name, options(verb).map(|option| option.long)) {
        Some(meant) => format!("`{}` has no option `{shown}`. Did you mean `--{meant}`?", verb.name),
        None => format!("`{}` has no option `{shown}`.", verb.name),
    }
}

fn count(verb: &Verb, words: &[String]) -> Result<(), String> {
    for (at, arg) in verb.args.iter().enumerate() {
        match arg {
            Arg::One(name) | Arg::Many(name) if words.get(at).is_none_or(|word| word.is_empty()) => {
                return Err(format!("`{}` needs {name}.", verb.name));
            }
            Arg::Many(_) | Arg::Any(_) => return Ok(()),
            Arg::One(_) | Arg::Maybe(_) => {}
        }
    }
    match words.get(verb.args.len()) {
        Some(word) => {
            let shown: String = word.chars().take(40).collect();
            Err(format!("`{shown}` is one word too many."))
        }
        None => Ok(()),
    }
}
