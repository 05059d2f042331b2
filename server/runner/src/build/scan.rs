//! Is a built tree fit to become an image? Read from `find -printf '%y %m %s %p\0'`, run in the
//! sandbox as the app: root never walks a customer's tree.

use domain::Reason;

/// Of all files together, also of holes (a sparse file of 1 TiB is an attack).
pub(super) const APPARENT_BYTES_MAX: u64 = 4 << 30;
pub(super) const ENTRIES_MAX: u64 = 300_000;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Scan {
    entries: u64,
    apparent_bytes: u64,
    /// A record that is not finished yet.
    rest: Vec<u8>,
}

impl Scan {
    /// Takes in what `find` wrote next.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.rest.extend_from_slice(bytes);
        let rest = std::mem::take(&mut self.rest);
        let mut records = rest.split(|b| *b == 0);
        let last = records.next_back().unwrap_or_default().to_vec();
        for record in records {
            self.entry(record)?;
        }
        // A path has at most 4,096 bytes.
        if last.len() > 8192 {
            return Err(Reason::new("the built tree could not be read"));
        }
        self.rest = last;
        Ok(())
    }

    fn entry(&mut self, record: &[u8]) -> Result<(), Reason> {
        let text = String::from_utf8_lossy(record);
        let mut parts = text.splitn(4, ' ');
        let (Some(kind), Some(mode), Some(size), Some(path)) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::new("the built tree could not be read"));
        };
        let refuse = |what: &str| {
            let path: String = path.chars().take(200).filter(|c| !c.is_control()).collect();
            Err(Reason::new(format!("{path} is {what}, which an image may not hold")).hint("Remove it, and push again"))
        };
        match kind {
            "f" | "d" | "l" => {}
            "s" => return refuse("a socket"),
            "p" => return refuse("a named pipe"),
            _ => return refuse("a device"),
        }
        if kind == "f" && u32::from_str_radix(mode, 8).unwrap_or(0o7777) & 0o6000 != 0 {
            return refuse("a setuid or setgid file");
        }
        self.entries += 1;
        self.apparent_bytes = self.apparent_bytes.saturating_add(size.parse().unwrap_or(u64::MAX));
        if self.entries > ENTRIES_MAX {
            return Err(Reason::new("the built app has more than 300,000 files")
                .hint("Delete what only the build needs (caches, test data)"));
        }
        if self.apparent_bytes > APPARENT_BYTES_MAX {
            return Err(Reason::new("the files of the built app have more than 4 GiB, holes counted")
                .hint("Delete what only the build needs, and put data elsewhere"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(records: &str) -> Result<Scan, Reason> {
        let mut scan = Scan::default();
        for byte in records.as_bytes() {
            scan.push(&[*byte])?;
        }
        Ok(scan)
    }

    #[test]
    fn a_tree_of_files_directories_and_links_is_fit() {
        let ok = scan("d 755 4096 /app\0f 644 12 /app/a b\nc\0l 777 3 /app/l\0d 2755 1 /app/d\0").unwrap();
        assert_eq!((ok.entries, ok.apparent_bytes), (4, 4112));
    }

    #[test]
    fn what_an_image_may_not_hold_is_refused_by_name() {
        for (record, says) in [
            ("f 4755 1 /app/su\0", "/app/su is a setuid"),
            ("s 644 0 /app/x\0", "a socket"),
            ("b 644 0 /app/x\0", "a device"),
            ("p 644 0 /app/x\0", "a named pipe"),
            ("f 644 1099511627776 /app/sparse\0", "4 GiB"),
            ("nonsense\0", "could not be read"),
        ] {
            let reason = scan(record).unwrap_err();
            assert!(reason.message.contains(says), "{record}: {reason}");
        }
    }
}
