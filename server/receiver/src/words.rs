//! What the receiver says to a person at a terminal.

use commands::Urls;

/// Strangers' bytes stay data: control characters become `\xNN`, colours pass.
pub(crate) fn terminal(text: &str) -> String {
    escaped(text, |colour| colour)
}

/// The same for a pipe, a file or a table: colours are left out.
pub(crate) fn plain(text: &str) -> String {
    escaped(text, |_| "")
}

fn escaped<'a>(text: &'a str, with_colour: impl Fn(&'a str) -> &'a str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(colour) = colour(rest) {
            shown.push_str(with_colour(colour));
            rest = &rest[colour.len()..];
            continue;
        }
        if c == '\t' || !c.is_control() {
            shown.push(c);
        } else {
            shown.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
        rest = &rest[c.len_utf8()..];
    }
    shown
}

/// The colour sequence (ECMA-48 SGR: `ESC [ digits and semicolons m`) that `text` begins with.
fn colour(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    (end <= 20 && parameters[end..].starts_with('m')).then(|| &text[..end + 3])
}

/// For `ng` of git, which is one line.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.chars().take(300).collect()
}

/// Not yours and not there are the same words.
pub(crate) fn no_such_app(name: &str, urls: &Urls) -> String {
    let (name, site) = (terminal(name), &urls.site);
    format!(
        "berth: you have no app '{name}'\n  hint: look at the remote's URL with `git remote -v`; your apps are listed at {site}/apps\n"
    )
}

pub(crate) fn error(message: &str, hint: Option<&str>) -> String {
    let mut text = format!("berth: {}\n", terminal(message));
    if let Some(hint) = hint {
        text.push_str(&format!("  hint: {}\n", terminal(hint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_colours_and_no_other_control() {
        assert_eq!(terminal("\x1b[1;32mok\x1b[0m"), "\x1b[1;32mok\x1b[0m");
        assert_eq!(terminal("a\x1b]0;title\x07b"), "a\\x1b]0;title\\x07b");
        assert_eq!(terminal("a\x1b[2Jb\rc\td"), "a\\x1b[2Jb\\x0dc\td");
        assert_eq!(terminal("\x1b[31"), "\\x1b[31");
        assert_eq!(terminal("\u{9b}31mä"), "\\x9b31mä");
    }

    #[test]
    fn a_pipe_gets_no_colours_either() {
        assert_eq!(plain("\x1b[1;32mok\x1b[0m \x1b[2J\x1b"), "ok \\x1b[2J\\x1b");
        // What is left out makes no new one.
        assert_eq!(plain("\x1b\x1b[1m[31mx"), "\\x1b[31mx");
    }

    #[test]
    fn a_reason_for_git_is_one_short_line() {
        assert_eq!(one_line("a\nb\x1bc"), "a b c");
        assert_eq!(one_line(&"ä".repeat(400)).chars().count(), 300);
    }
}
