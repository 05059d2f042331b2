//! A small disk of its own, to be filled.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::read;

const PREFIX: &str = "berth-disk-";

/// An ext4 file system in a file, mounted until this is dropped.
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    pub fn new(mib: u64) -> Result<Self> {
        remove_left();
        let dir = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        let disk = Self { dir };
        fs::create_dir_all(disk.path()).with_context(|| format!("could not make {}", disk.dir.display()))?;
        let image = disk.dir.join("image");
        File::create(&image)?.set_len(mib << 20)?;
        read(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        read(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()))?;
        Ok(disk)
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("disk")
    }

    pub fn free_mib(&self) -> Result<u64> {
        let said = read(Command::new("df").args(["-BM", "--output=avail"]).arg(self.path()))?;
        let avail = said.lines().nth(1).unwrap_or_default();
        avail.trim().trim_end_matches('M').parse().context("df did not say how much is free")
    }

    /// Takes room until `mib` are free.
    pub fn leave(&self, mib: u64) -> Result<()> {
        self.free();
        let bytes = self.free_mib()?.saturating_sub(mib) << 20;
        let all = if mib == 0 { bytes + (1 << 20) } else { bytes };
        // Of a full disk it takes what there is.
        let _ = Command::new("dd")
            .args(["if=/dev/zero", "bs=1M", "status=none"])
            .arg(format!("count={}", all >> 20))
            .arg(format!("of={}", self.ballast().display()))
            .stderr(std::process::Stdio::null())
            .status()?;
        Ok(())
    }

    /// Gives the room back.
    pub fn free(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        remove(&self.dir);
    }
}

fn remove(dir: &Path) {
    let target = dir.join("disk");
    for args in [&["-q"][..], &["-q", "-l"]] {
        if Command::new("umount").args(args).arg(&target).status().is_ok_and(|status| status.success()) {
            break;
        }
    }
    // The folder of the mount is empty now; what is not is not removed.
    let _ = fs::remove_dir(target);
    let _ = fs::remove_file(dir.join("image"));
    if let Err(cause) = fs::remove_dir(dir) {
        eprintln!("could not remove {}: {cause}", dir.display());
    }
}

/// Of tests that were killed.
fn remove_left() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&entry.path());
        }
    }
}
