//! How a command is cut into words. OpenSSH joins its arguments by spaces, so a command is one line whoever typed
//! it, and the quotation marks of the person's own shell are gone: a value with spaces is quoted once more, as for
//! any remote command.
//!
//! Words are separated by blanks and line ends. Between `'…'` all is as it is; between `"…"` a backslash takes the
//! meaning of `"`, `\`, `$` and `` ` ``; elsewhere it takes that of any character. Pieces that touch are one word.
//! That is a shell's quoting and all there is of one: `$HOME`, `*`, `;`, `|`, `>` are characters like others.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    Quote(char),
    Backslash,
}

impl Unfinished {
    pub(crate) fn message(self) -> String {
        match self {
            Self::Quote(mark) => format!("A quotation mark ({mark}) is not closed."),
            Self::Backslash => "There is nothing after the last backslash.".to_owned(),
        }
    }
}

pub(crate) fn words(line: &str) -> Result<Vec<String>, Unfinished> {
    let mut words = Vec::new();
    // `None`: between two words.
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unfinished::Quote(c))? {
                        '\'' => break,
                        within => word.push(within),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or(Unfinished::Quote(c))? {
                        '"' => break,
                        '\\' => match chars.next().ok_or(Unfinished::Quote(c))? {
                            taken @ ('"' | '\\' | '$' | '`') => word.push(taken),
                            other => word.extend(['\\', other]),
                        },
                        within => word.push(within),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or(Unfinished::Backslash)?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_as_by_a_shell_and_nothing_is_expanded() {
        let check = |line: &str, expected: &[&str]| assert_eq!(words(line).unwrap(), expected, "{line}");
        check("", &[]);
        check(" logs  shop\t-t\n", &["logs", "shop", "-t"]);
        check("config set shop 'K=a  b' L=\"c d\" M=e\\ f", &["config", "set", "shop", "K=a  b", "L=c d", "M=e f"]);
        check(r#"K='it'\''s' L="say \"hi\" \\ \n" M=''"#, &["K=it's", r#"L=say "hi" \ \n"#, "M="]);
        check("'' \"\"", &["", ""]);
        check(
            "K=$HOME;id | cat > `x` * ~ $(id) # no",
            &["K=$HOME;id", "|", "cat", ">", "`x`", "*", "~", "$(id)", "#", "no"],
        );
        check("K='two\nlines'", &["K=two\nlines"]);
    }

    #[test]
    fn what_is_not_closed_is_said() {
        assert_eq!(words("create it's"), Err(Unfinished::Quote('\'')));
        assert_eq!(words("a \"b\\\""), Err(Unfinished::Quote('"')));
        assert_eq!(words("a\\"), Err(Unfinished::Backslash));
    }

    proptest::proptest! {
        /// As the function of `help completion` quotes.
        #[test]
        fn what_is_quoted_comes_as_it_was(given in proptest::collection::vec(".*", 0..5)) {
            let quoted: Vec<String> = given.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            assert_eq!(words(&quoted.join(" ")).unwrap(), given);
        }

        #[test]
        fn any_line_is_cut_or_refused(line in ".*") {
            let _ = words(&line);
        }
    }
}
