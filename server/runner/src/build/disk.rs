//! A file system of limited size in a sparse file: a build cannot fill the server's disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use tokio::process::Command;

use crate::mount::{Access, mount_file, unmount};
use crate::sandbox::make_dir;

const MKFS_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Disk {
    pub image: PathBuf,
    pub mount: PathBuf,
}

impl Disk {
    /// A new, empty one with one directory in it that belongs to `owner`.
    pub async fn make(&self, bytes: u64, owner: u32, dir: &str) -> io::Result<()> {
        let file = fs::File::create(&self.image)?;
        file.set_len(bytes)?;
        drop(file);
        mkfs(&self.image).await?;
        self.mount_it()?;
        make_dir(&self.mount.join(dir), 0o755)?;
        std::os::unix::fs::chown(self.mount.join(dir), Some(owner), Some(owner))
    }

    /// The one of before, if it was closed properly; else a new one. (It has no journal, so one
    /// that was cut off is not trusted.)
    pub async fn open(&self, bytes: u64, owner: u32, dir: &str) -> io::Result<()> {
        match fs::remove_file(self.closed_mark()) {
            Ok(()) if self.mount_it().is_ok() && self.mount.join(dir).is_dir() => Ok(()),
            Ok(()) => {
                unmount(&self.mount)?;
                self.make(bytes, owner, dir).await
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make(bytes, owner, dir).await,
            Err(e) => Err(e),
        }
    }

    pub fn close(&self) -> io::Result<()> {
        unmount(&self.mount)?;
        fs::write(self.closed_mark(), "")
    }

    pub fn make_read_only(&self) -> io::Result<()> {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        Ok(mount(None::<&Path>, &self.mount, None::<&str>, flags, None::<&str>)?)
    }

    fn mount_it(&self) -> io::Result<()> {
        make_dir(&self.mount, 0o700)?;
        mount_file(&self.image, &self.mount, "ext4", Access::ReadWrite, None)
    }

    fn closed_mark(&self) -> PathBuf {
        self.image.with_extension("closed")
    }
}

async fn mkfs(image: &Path) -> io::Result<()> {
    let program = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].into_iter().find(|path| Path::new(path).exists());
    let program = program.ok_or_else(|| io::Error::other("mkfs.ext4 is not installed (Debian: e2fsprogs)"))?;
    let run = Command::new(program)
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"])
        .arg(image)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output =
        tokio::time::timeout(MKFS_TIMEOUT, run).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
