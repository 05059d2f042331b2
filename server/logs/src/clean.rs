//! Strangers' bytes stay data: what an app prints becomes a line that cannot move a terminal's
//! cursor, set its title or answer in its owner's name.

/// The longest text of a line, in bytes of UTF-8 (SECURITY 'The site').
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 10;
/// The longest name of what a line came from (`web.1`).
const SOURCE_BYTES_MAX: usize = 48;
/// The longest colour escape that is let through: `ESC[38;2;255;255;255;48;2;255;255;255m` has 37.
const ESCAPE_BYTES_MAX: usize = 48;

/// A line's text as it is kept: tabs and colour escapes pass, every other control character
/// (C0, DEL and C1, whose 0x9b is an escape to some terminals) becomes `\xNN`; what is longer than
/// 16 KiB is cut and says so. A carriage return at the end was half of a line end.
pub(crate) fn text(given: &str) -> String {
    let given = given.strip_suffix('\r').unwrap_or(given);
    let mut kept = String::with_capacity(given.len().min(TEXT_BYTES_MAX));
    let mut rest = given;
    while let Some(c) = rest.chars().next() {
        let escape = if c == '\x1b' { colour(rest) } else { None };
        let length = escape.map_or(c.len_utf8(), str::len);
        let mut hex = String::new();
        let piece = match escape {
            Some(colour) => colour,
            None if c.is_control() && c != '\t' => {
                hex.push_str(&format!("\\x{:02x}", u32::from(c)));
                &hex
            }
            None => &rest[..length],
        };
        // Whole pieces only: a colour escape cut in two would take the next characters with it.
        if kept.len() + piece.len() > TEXT_BYTES_MAX - MARK_BYTES_MAX {
            if kept.len() + piece.len() <= TEXT_BYTES_MAX && rest.len() == length {
                kept.push_str(piece);
                return kept;
            }
            kept.push_str(&format!(" [cut: {} bytes]", rest.len()));
            return kept;
        }
        kept.push_str(piece);
        rest = &rest[length..];
    }
    kept
}

/// Room for ` [cut: 18446744073709551615 bytes]`.
const MARK_BYTES_MAX: usize = 40;

/// What a line came from, as one printable word.
pub(crate) fn source(given: &str) -> String {
    let printable = given.chars().filter(|c| !c.is_control() && !c.is_whitespace());
    let mut kept = String::new();
    for c in printable {
        if kept.len() + c.len_utf8() > SOURCE_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    kept
}

/// The colour escape (SGR, ECMA-48 §8.3.117) that `s` begins with.
fn colour(s: &str) -> Option<&str> {
    let parameters = s.strip_prefix("\x1b[")?;
    let end = parameters.bytes().take(ESCAPE_BYTES_MAX).position(|b| !matches!(b, b'0'..=b'9' | b';' | b':'))?;
    (parameters.as_bytes()[end] == b'm').then(|| &s[..end + 3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tabs_colours_and_any_language_pass() {
        for same in
            ["", "a\tb", "\x1b[1;32mok\x1b[0m \x1b[m", "\x1b[38;2;255;255;255;48;2;255;255;255mx", "日本語 ü 🚢"]
        {
            assert_eq!(text(same), same);
        }
    }

    #[test]
    fn what_steers_a_terminal_becomes_text() {
        for (hostile, kept) in [
            ("\x1b[2J", "\\x1b[2J"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\x1b[6n", "\\x1b[6n"),
            ("\x1b", "\\x1b"),
            ("\x1b[", "\\x1b["),
            ("\x1b[1;2", "\\x1b[1;2"),
            ("\x1b[\x1b[0m", "\\x1b[\x1b[0m"),
            ("\u{9b}2J", "\\x9b2J"),
            ("a\nb\rc", "a\\x0ab\\x0dc"),
            ("\0\x7f\x08", "\\x00\\x7f\\x08"),
            ("crlf\r", "crlf"),
            (
                "\x1b[11111111111111111111111111111111111111111111111111111111m",
                "\\x1b[11111111111111111111111111111111111111111111111111111111m",
            ),
        ] {
            assert_eq!(text(hostile), kept);
        }
        assert_eq!(source("web.1\x1b[2J\n x"), "web.1[2Jx");
        assert_eq!(source(&"ü".repeat(100)).len(), 48);
    }

    #[test]
    fn a_line_that_just_fits_is_whole_and_a_longer_one_says_how_much_is_gone() {
        let fits = "x".repeat(TEXT_BYTES_MAX - MARK_BYTES_MAX);
        assert_eq!(text(&fits), fits);
        let long = text(&"x".repeat(TEXT_BYTES_MAX * 2));
        assert!(long.len() <= TEXT_BYTES_MAX && long.ends_with(" bytes]"), "{}", &long[long.len() - 40..]);
        assert!(text(&"\0".repeat(TEXT_BYTES_MAX)).len() <= TEXT_BYTES_MAX);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_no_control_but_tab_and_colour_stays(given in "(\\PC|\\x1b\\[[0-9;]{0,3}m?|[\\x00-\\x1f\\x7f-\\x9f]){0,60}") {
            let kept = text(&given);
            let mut rest = kept.as_str();
            while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
                let escape = colour(&rest[at..]);
                proptest::prop_assert!(escape.is_some(), "{kept:?}");
                rest = &rest[at + escape.unwrap().len()..];
            }
        }
    }
}
