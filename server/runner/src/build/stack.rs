//! What the stack `host` offers: the server's own `/usr`, as builds and instances see it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::version::{Range, Version};

/// In the order of a sandbox's `PATH`.
const DIRS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// For one buildpack.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// What its apps run on, the newest first.
    pub programs: Vec<(String, Version)>,
    pub has_tool: bool,
}

impl Stack {
    pub fn add(&mut self, program: String, version: Version) {
        self.programs.push((program, version));
        self.programs.sort_by_key(|(_, version)| std::cmp::Reverse(*version));
    }

    /// The newest that is in all of these ranges.
    pub fn newest(&self, ranges: &[&Range]) -> Option<(&str, Version)> {
        let fits = |version: Version| ranges.iter().all(|range| range.holds(version));
        self.programs.iter().find(|(_, version)| fits(*version)).map(|(program, version)| (program.as_str(), *version))
    }

    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    /// For a person: `3.11.2 and 3.13.1`.
    pub fn listed(&self) -> String {
        let mut versions: Vec<_> = self.programs.iter().map(|(_, version)| version.to_string()).collect();
        versions.dedup();
        versions.join(" and ")
    }
}

/// Paths of the programs that `is_wanted` by their names: of each name the one that `PATH` finds.
/// One that lies outside `/usr` is not in a sandbox.
pub(super) fn programs(is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = BTreeMap::new();
    for entry in DIRS.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_wanted(&name) && lies_in_usr(&entry.path()) {
            found.entry(name).or_insert_with(|| entry.path().to_string_lossy().into_owned());
        }
    }
    found.into_values().collect()
}

fn lies_in_usr(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| path.starts_with("/usr") && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_that_fits_is_taken() {
        let mut stack = Stack::default();
        for (program, version) in [("/usr/bin/python3.9", "3.9.2"), ("/usr/bin/python3.11", "3.11.2")] {
            stack.add(program.to_owned(), Version::printed(version).unwrap());
        }
        assert_eq!(stack.newest(&[]).unwrap().0, "/usr/bin/python3.11");
        let range = Range::of_python("<3.11").unwrap();
        assert_eq!(stack.newest(&[&range]).unwrap().0, "/usr/bin/python3.9");
        assert!(stack.newest(&[&range, &Range::of_python(">3.9.2").unwrap()]).is_none());
        assert_eq!(stack.listed(), "3.11.2 and 3.9.2");
    }
}
