//! An app's bare repository, and what of ours lies over it in a git sandbox.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::Bind;

pub(super) const REPOSITORY: &str = "/repo";
// Directly below `/run`: what lies between would be made by the runtime, after our umask.
pub(super) const TEMPLATE: &str = "/run/template";
pub(super) const HOOK_SOCKET: &str = "/run/hook.sock";
const HOOKS: &str = "/run/hooks";
/// The shim, under the name of git's hook.
pub(super) const HOOK: &str = "/run/hooks/proc-receive";

/// Precedes what a tree says of itself: `git archive` then writes the committed bytes.
const ATTRIBUTES: &str = "* -export-ignore -export-subst -text !eol -ident -filter !working-tree-encoding\n";

/// Every ref of a push goes to the hook. `refs/berth` keeps pushed commits and is nobody's to see.
/// The three checks that only warn are failed by honest old histories.
fn config(push_bytes_max: u64) -> String {
    format!(
        "[core]\n\
         \trepositoryformatversion = 0\n\
         \tfilemode = true\n\
         \tbare = true\n\
         \thooksPath = {HOOKS}\n\
         \tlogAllRefUpdates = false\n\
         \tdeltaBaseCacheLimit = 32m\n\
         \tbigFileThreshold = 16m\n\
         \tpackedGitLimit = 256m\n\
         \tpackedGitWindowSize = 32m\n\
         [receive]\n\
         \tprocReceiveRefs = refs\n\
         \tadvertiseAtomic = false\n\
         \tadvertisePushOptions = false\n\
         \tautogc = false\n\
         \tfsckObjects = true\n\
         \tmaxInputSize = {push_bytes_max}\n\
         [receive \"fsck\"]\n\
         \tbadTimezone = warn\n\
         \tzeroPaddedFilemode = warn\n\
         \tmissingSpaceBeforeDate = warn\n\
         [transfer]\n\
         \thideRefs = refs/berth\n\
         [gc]\n\
         \tauto = 0\n\
         [maintenance]\n\
         \tauto = false\n\
         [pack]\n\
         \tthreads = 2\n\
         \twindowMemory = 64m\n\
         [tar]\n\
         \tumask = 0022\n"
    )
}

/// Files of ours, bound read-only.
pub(super) struct Ours {
    dir: PathBuf,
}

impl Ours {
    pub(super) fn make(dir: &Path, shim: &Path, push_bytes_max: u64) -> io::Result<Self> {
        let dir = dir.to_owned();
        for folder in ["", "template", "template/info", "info", "hooks"] {
            crate::sandbox::make_dir(&dir.join(folder), 0o755)?;
        }
        let files = [
            ("config", config(push_bytes_max)),
            ("info/attributes", ATTRIBUTES.to_owned()),
            ("info/exclude", String::new()),
        ];
        for (name, text) in files {
            fs::write(dir.join(name), text)?;
            fs::set_permissions(dir.join(name), Permissions::from_mode(0o644))?;
        }
        // By rename: sandboxes of a former runner may still execute the old one.
        let (new, hook) = (dir.join("shim"), dir.join("hooks/proc-receive"));
        fs::copy(shim, &new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        fs::rename(new, hook)?;
        Ok(Self { dir })
    }

    /// What `git init` copies: an `info`, to be covered by ours, and no hooks.
    pub(super) fn template(&self) -> Bind {
        Bind::read_only(self.dir.join("template"), TEMPLATE)
    }

    pub(super) fn on_top(&self) -> [Bind; 3] {
        [
            Bind::read_only(self.dir.join("config"), Path::new(REPOSITORY).join("config")),
            Bind::read_only(self.dir.join("info"), Path::new(REPOSITORY).join("info")),
            Bind::read_only(self.dir.join("hooks"), HOOKS),
        ]
    }
}

/// The folder is root's to make and the app's to fill; nobody else looks in.
pub(super) fn make_dir(path: &Path, uid: u32) -> io::Result<()> {
    match fs::DirBuilder::new().create(path) {
        Ok(()) => {}
        Err(cause) if cause.kind() == ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(cause),
    }
    // Only root writes above it, so it is what was made here.
    let found = fs::symlink_metadata(path)?;
    if found.uid() != uid || found.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        chown(path, Some(uid), Some(uid))?;
    }
    Ok(())
}

/// With all that is in it.
pub(super) async fn remove(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    // Follows no link: what is in it is the app's.
    let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await.map_err(io::Error::other)?;
    match removed {
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `git init` writes `HEAD` last but for `config`; without either it is run (again).
pub(super) fn is_made(path: &Path) -> io::Result<bool> {
    for name in ["HEAD", "config", "info"] {
        // Looked at, never followed: what is in it is the app's.
        match fs::symlink_metadata(path.join(name)) {
            Ok(_) => {}
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(cause),
        }
    }
    Ok(true)
}

/// Mounts the receiver's socket at `at`. What is checked is what is mounted, whatever its path
/// becomes meanwhile.
pub(super) fn bind_socket(socket: &Path, dir: &Path, uid: u32, at: &Path) -> io::Result<()> {
    let bad = |text: &'static str| io::Error::new(ErrorKind::PermissionDenied, text);
    if socket.parent() != Some(dir) || socket.file_name().is_none() {
        return Err(bad("it is not where the receiver's sockets are"));
    }
    let held: OwnedFd = open(socket, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&held)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK || stat.st_uid != uid {
        return Err(bad("it is no socket of the receiver"));
    }
    fs::File::create(at)?;
    let source = format!("/proc/self/fd/{}", held.as_raw_fd());
    mount(Some(source.as_str()), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}
