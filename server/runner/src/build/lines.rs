//! A build's output as lines, as they come.

/// Longer ones are cut into several.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Cuts bytes into lines of UTF-8; a carriage return starts a progress bar's line anew.
#[derive(Default)]
pub(super) struct LineCutter {
    rest: Vec<u8>,
}

impl LineCutter {
    /// The lines that `bytes` completes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.rest.len() >= LINE_BYTES_MAX {
                lines.extend(self.finish());
            }
            if *byte != b'\n' {
                self.rest.push(*byte);
            }
        }
        lines
    }

    /// What stands without a line end.
    pub fn finish(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.rest);
        let shown = line.strip_suffix(b"\r").unwrap_or(&line);
        let shown = shown.rsplit(|b| *b == b'\r').next().unwrap_or_default();
        (!line.is_empty()).then(|| String::from_utf8_lossy(shown).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_however_they_arrive() {
        let mut cutter = LineCutter::default();
        assert_eq!(cutter.push(b"one\ntw"), ["one"]);
        assert_eq!(cutter.push(b"o\r\n10%\r100%\n"), ["two", "100%"]);
        assert_eq!(cutter.push(b"rest"), Vec::<String>::new());
        assert_eq!(cutter.finish().as_deref(), Some("rest"));
        assert_eq!(cutter.finish(), None);
        assert_eq!(cutter.push(&vec![b'a'; 40 << 10]).len(), 2);
    }
}
