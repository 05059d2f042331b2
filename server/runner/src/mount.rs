//! Mounts by system call: loop devices with squashfs, tmpfs, overlays; and their end.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// linux/loop.h
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// What a loop device lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Mounts the file system in `file` at `target`. The loop device ends with its last mount.
pub fn mount_file(file: &Path, target: &Path, kind: &str, access: Access, data: Option<&str>) -> io::Result<()> {
    let backing = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(file)?;
    let (device, path) = attach(&backing, access)?;
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if access == Access::ReadOnly {
        flags |= MsFlags::MS_RDONLY;
    }
    let mounted = mount(Some(&path), target, Some(kind), flags, data).map_err(io::Error::from);
    // Autoclear waits for the last user: from here on that is the mount, or nobody.
    drop(device);
    mounted
}

fn attach(backing: &File, access: Access) -> io::Result<(File, PathBuf)> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let flags = LO_FLAGS_AUTOCLEAR | if access == Access::ReadOnly { LO_FLAGS_READ_ONLY } else { 0 };
    for _ in 0..64 {
        // SAFETY: takes no argument, gives a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(access == Access::ReadWrite).open(&path)?;
        match configure(&device, backing.as_raw_fd(), flags) {
            Ok(()) => return Ok((device, path)),
            // Somebody else was faster with this number.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other("no loop device stayed free"))
}

fn configure(device: &File, backing: RawFd, flags: u32) -> io::Result<()> {
    // SAFETY: plain numbers, all zero is a valid value.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = u32::try_from(backing).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    config.info.flags = flags;
    // SAFETY: the layout is the kernel's `struct loop_config`, which is only read.
    let code = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &config) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn mount_tmpfs(target: &Path, data: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(data))?)
}

/// What is unmounted below it goes from every copy of it too, where that is a slave: a role that
/// sees the server through a mount namespace of its own would else hold images for good.
pub fn share(target: &Path) -> io::Result<()> {
    Ok(mount(None::<&str>, target, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?)
}

pub fn mount_overlay(target: &Path, lower: &Path, upper: &Path, work: &Path) -> io::Result<()> {
    let data = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("overlay"), target, Some("overlay"), flags, Some(data.as_str()))?)
}

/// Whether something is mounted exactly there.
pub fn is_mounted(target: &Path) -> io::Result<bool> {
    Ok(below(target)?.iter().any(|m| m == target))
}

/// Mount points at or below `dir`, in the order in which they were made.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text
        .lines()
        .filter_map(|l| l.split(' ').nth(4))
        .map(|p| PathBuf::from(unescape(p)))
        .filter(|p| p.starts_with(dir))
        .collect())
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (code, is)| path.replace(code, is))
}

/// Unmounts everything at or below `dir`, the last made first; what is busy is detached.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    for target in below(dir)?.into_iter().rev() {
        unmount(&target)?;
    }
    Ok(())
}

pub fn unmount(target: &Path) -> io::Result<()> {
    let flags = MntFlags::UMOUNT_NOFOLLOW;
    match umount2(target, flags) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        Err(nix::errno::Errno::EBUSY) => Ok(umount2(target, flags | MntFlags::MNT_DETACH)?),
        Err(e) => Err(e.into()),
    }
}
