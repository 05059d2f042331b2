//! A look at what a customer committed. Root reads single small files beneath the workspace,
//! through no symbolic link and nothing but regular files, and never walks (SECURITY 'Sandboxes').

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use domain::Reason;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;

/// Larger ones say nothing that a buildpack wants to know.
const FILE_BYTES_MAX: u64 = 256 << 10;

pub(super) struct Tree {
    root: File,
}

impl Tree {
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: File::open(root)? })
    }

    /// Is there a regular file of that name at the top?
    pub fn has(&self, name: &str) -> bool {
        self.open_file(name).is_ok()
    }

    /// The text of a file at the top; `None` if there is no such regular file.
    pub fn read(&self, name: &str) -> Result<Option<String>, Reason> {
        let file = match self.open_file(name) {
            Ok(file) => file,
            Err(_) => return Ok(None),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| Reason::new(format!("{name} could not be read: {e}")))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Reason::new(format!("{name} is larger than 256 KiB")).hint("Commit a smaller one"));
        }
        String::from_utf8(bytes)
            .map(|text| Some(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
            .map_err(|_| Reason::new(format!("{name} is not UTF-8 text")).hint("Save it as UTF-8 and push again"))
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let how = OpenHow::new()
            // A FIFO must not hold us up.
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)
            .mode(Mode::empty())
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        let file = File::from(openat2(self.root.as_fd(), name, how)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_beneath_the_root_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Procfile"), "\u{feff}web: x").unwrap();
        std::fs::write(dir.path().join("big"), vec![b'a'; 300 << 10]).unwrap();
        std::fs::write(dir.path().join("latin"), [0xff, 0xfe]).unwrap();
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("Procfile", dir.path().join("inner")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        assert_eq!(tree.read("Procfile").unwrap().as_deref(), Some("web: x"));
        assert!(tree.read("big").is_err() && tree.read("latin").is_err());
        for none in ["dir", "link", "inner", "fifo", "absent", "../x", "/etc/passwd"] {
            assert!(!tree.has(none), "{none}");
            assert_eq!(tree.read(none).unwrap(), None, "{none}");
        }
    }
}
