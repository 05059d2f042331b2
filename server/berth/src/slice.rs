//! A slice of the server: several installations run beside each other on one, and share only numbers.
//!
//! Slice n is held by a lock on the file `/run/berth/<n>`, which names its data directory. The lock ends
//! with the supervisor, however it ends; the file stays, so that the data directory finds its own apps again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::cgroup::Group;

const RUN: &str = "/run/berth";
/// UIDs of a slice: a block of 2²⁰ each, of which 65,536 are used.
const BLOCK: u32 = 1 << 20;
const SLICES_MAX: u32 = 1024;
/// Of a server's own installation.
pub const DEFAULT_DATA: &str = "/var/lib/berth";
/// An app's UIDs begin here; below are the platform's own.
const APPS_FROM: u32 = 100;

#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    #[error("could not {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("another `berth up` runs on {}", data.display())]
    Running { data: PathBuf },
    #[error("slice {n} belongs to {} and is in use by {}; stop that one, or remove {}/slice when nothing is deployed here", data.display(), other.display(), data.display())]
    Taken { n: u32, data: PathBuf, other: PathBuf },
    #[error("all {SLICES_MAX} slices of this server are taken: see {RUN}")]
    Full,
    #[error("no free /16 in 10.64.0.0/10 is clear of this server's routes: give one by --subnet")]
    NoSubnet,
    #[error("a UID range needs at least 1,000 numbers above 1,000, FIRST-LAST")]
    Range,
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SliceError + 'a {
    move |cause| SliceError::Io { doing, path: path.to_owned(), cause }
}

/// `FIRST-LAST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UidRange {
    pub first: u32,
    pub last: u32,
}

impl FromStr for UidRange {
    type Err = SliceError;
    fn from_str(s: &str) -> Result<Self, SliceError> {
        let (first, last) = s.split_once('-').ok_or(SliceError::Range)?;
        let number = |n: &str| n.trim().parse::<u32>().map_err(|_| SliceError::Range);
        let range = Self { first: number(first)?, last: number(last)? };
        // The highest number means "no change" to the kernel.
        if range.first < 1000 || range.last == u32::MAX || range.last.checked_sub(range.first) < Some(999) {
            return Err(SliceError::Range);
        }
        Ok(range)
    }
}

/// The platform's users and groups: numbers, without names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum User {
    Postgres = 1,
    Redis = 2,
    Migrate = 3,
    Web = 4,
    Receiver = 5,
    Control = 6,
    Logs = 7,
    Balancer = 8,
    Probe = 10,
    // Groups: each lets a socket's clients in.
    ToPostgres = 40,
    ToRedis = 41,
    ToCoordinator = 42,
    ToLogs = 43,
    ToWeb = 44,
    ToRunner = 45,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldSlice {
    pub n: u32,
    uid_first: u32,
    uid_last: u32,
    subnet: Ipv4Net,
    pub lock: i32,
}

/// Held while it lives.
pub struct Slice {
    pub n: u32,
    pub uids: UidRange,
    pub subnet: Ipv4Net,
    /// Names the data directory in `/run/berth`.
    file: PathBuf,
    _held: Flock<File>,
}

impl Slice {
    pub fn uid(&self, user: User) -> u32 {
        self.uids.first + user as u32
    }

    pub fn apps_uid_base(&self) -> u32 {
        self.uids.first + APPS_FROM
    }

    /// `/run/berth/<n>.d`: sockets, and what must not survive.
    pub fn run(&self) -> PathBuf {
        Self::run_of(self.n)
    }

    pub fn run_of(n: u32) -> PathBuf {
        Path::new(RUN).join(format!("{n}.d"))
    }

    pub fn cgroup(&self) -> String {
        cgroup_of(self.n)
    }

    /// The platform's own processes.
    pub fn platform(&self) -> Group {
        Group::new(format!("{}/platform", self.cgroup()))
    }

    /// Those who hold instances.
    pub fn shims(&self) -> Group {
        Group::new(format!("{}/apps/shims", self.cgroup()))
    }

    pub fn apps(&self) -> Group {
        Group::new(format!("{}/apps", self.cgroup()))
    }

    /// Takes a slice for `data`: the one that it had, or a free one.
    pub async fn take(data: &Path, uids: Option<UidRange>, subnet: Option<Ipv4Net>) -> Result<Self, SliceError> {
        let run = Path::new(RUN);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(run).map_err(io_error("make", run))?;
        // Short, while looking: two that start at once must not choose the same.
        let gate = run.join("lock");
        let gate = lock(&open(&gate)?, &gate, FlockArg::LockExclusive)?.ok_or(SliceError::Full)?;

        let remembered = Remembered::read(data);
        let (n, file, held) = match remembered {
            Some(Remembered { n, .. }) => claim(n, data).await?,
            None => choose(data).await?,
        };
        let uids = uids.unwrap_or_else(|| UidRange { first: BLOCK * (n + 1), last: BLOCK * (n + 1) + 65_535 });
        let subnet = match (subnet, remembered) {
            (Some(given), _) => given,
            (None, Some(known)) => known.subnet,
            (None, None) => free_subnet(n)?,
        };
        Remembered { n, subnet }.write(data)?;
        drop(gate);
        Ok(Self { n, uids, subnet, file, _held: held })
    }

    /// What a supervisor hands to itself through an `exec`: numbers, and the lock's descriptor.
    pub fn held(&self) -> HeldSlice {
        HeldSlice {
            n: self.n,
            uid_first: self.uids.first,
            uid_last: self.uids.last,
            subnet: self.subnet,
            lock: self._held.as_raw_fd(),
        }
    }

    /// The lock belongs to the open file, and so to whoever has its descriptor.
    pub fn resume(held: &HeldSlice) -> Result<Self, SliceError> {
        let path = Path::new(RUN).join(held.n.to_string());
        let file = File::from(crate::resume::take(held.lock).map_err(io_error("take over", &path))?);
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let locked = locked.map_err(|(_, cause)| io_error("lock", &path)(cause.into()))?;
        let uids = UidRange { first: held.uid_first, last: held.uid_last };
        Ok(Self { n: held.n, uids, subnet: held.subnet, file: path, _held: locked })
    }

    /// Forgets the slice: nothing of it is left on the server.
    pub fn release(self) {
        let _ = fs::remove_dir_all(self.run());
        let _ = fs::remove_file(&self.file);
    }

    /// The slice that belongs to `data`, whether anybody runs there or not.
    pub fn remembered(data: &Path) -> Option<u32> {
        Remembered::read(data).map(|known| known.n)
    }

    /// The slice and the addresses that a `berth up` on `data` would take.
    pub fn subnet_of(data: &Path, given: Option<Ipv4Net>, n: Option<u32>) -> Result<(u32, Ipv4Net), SliceError> {
        let n = n.unwrap_or(if data == Path::new(DEFAULT_DATA) { 0 } else { 1 });
        match given.or_else(|| Remembered::read(data).map(|known| known.subnet)) {
            Some(subnet) => Ok((n, subnet)),
            None => free_subnet(n).map(|subnet| (n, subnet)),
        }
    }

    /// Who holds slice `n`, as the kernel knows it.
    pub fn supervisor(n: u32) -> Option<i32> {
        use std::os::unix::fs::MetadataExt;
        let inode = fs::metadata(Path::new(RUN).join(n.to_string())).ok()?.ino();
        // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`
        fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let held = fields.get(5)?.rsplit(':').next()?.parse::<u64>().ok()?;
            (held == inode && fields.get(1) == Some(&"FLOCK")).then(|| fields.get(4)?.parse().ok()).flatten()
        })
    }

    /// The slice of a `berth up` that runs on `data`.
    pub fn of_running(data: &Path) -> Option<u32> {
        let known = Remembered::read(data)?;
        let path = Path::new(RUN).join(known.n.to_string());
        let file = File::open(&path).ok()?;
        let there = fs::read_to_string(&path).ok()? == data.to_string_lossy();
        (there && Flock::lock(file, FlockArg::LockSharedNonblock).is_err()).then_some(known.n)
    }
}

pub fn cgroup_of(n: u32) -> String {
    format!("berth-{n}")
}

/// In the data directory: a slice's numbers are in files' owners and in the database's addresses.
#[derive(Clone, Copy)]
struct Remembered {
    n: u32,
    subnet: Ipv4Net,
}

impl Remembered {
    fn read(data: &Path) -> Option<Self> {
        let text = fs::read_to_string(data.join("slice")).ok()?;
        let (n, subnet) = text.trim().split_once(' ')?;
        Some(Self { n: n.parse().ok()?, subnet: subnet.parse().ok()? })
    }

    fn write(self, data: &Path) -> Result<(), SliceError> {
        let path = data.join("slice");
        fs::write(&path, format!("{} {}\n", self.n, self.subnet)).map_err(io_error("write", &path))
    }
}

fn open(path: &Path) -> Result<File, SliceError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o644);
    options.open(path).map_err(io_error("open", path))
}

/// `None`: another holds it.
fn lock(file: &File, path: &Path, how: FlockArg) -> Result<Option<Flock<File>>, SliceError> {
    let file = file.try_clone().map_err(io_error("open", path))?;
    match Flock::lock(file, how) {
        Ok(held) => Ok(Some(held)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, cause)) => Err(io_error("lock", path)(cause.into())),
    }
}

type Claimed = (u32, PathBuf, Flock<File>);

/// Takes slice `n` if nobody holds it and nobody else's apps run in it.
async fn claim(n: u32, data: &Path) -> Result<Claimed, SliceError> {
    let path = Path::new(RUN).join(n.to_string());
    let mut file = open(&path)?;
    let mut owner = String::new();
    file.read_to_string(&mut owner).map_err(io_error("read", &path))?;
    let owner = PathBuf::from(owner);
    let Some(held) = lock(&file, &path, FlockArg::LockExclusiveNonblock)? else {
        return Err(if owner == data {
            SliceError::Running { data: owner }
        } else {
            SliceError::Taken { n, data: data.to_owned(), other: owner }
        });
    };
    if owner != data && !owner.as_os_str().is_empty() {
        if in_use(n, &owner) {
            return Err(SliceError::Taken { n, data: data.to_owned(), other: owner });
        }
        sweep(n, &owner).await;
        let _ = fs::remove_dir_all(Slice::run_of(n));
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(data.to_string_lossy().as_bytes())
    };
    write(&mut file).map_err(io_error("write", &path))?;
    Ok((n, path, held))
}

async fn choose(data: &Path) -> Result<Claimed, SliceError> {
    // The first one is the server's own installation's, so that no demo sits there when it comes back.
    let first = if data == Path::new(DEFAULT_DATA) { 0 } else { 1 };
    for n in first..SLICES_MAX {
        match claim(n, data).await {
            Err(SliceError::Taken { .. }) => continue,
            other => return other,
        }
    }
    Err(SliceError::Full)
}

/// Whether a slice that nobody holds is only waiting for its `berth up`: its data is there, and its apps run.
fn in_use(n: u32, owner: &Path) -> bool {
    owner.join("slice").exists() && !Group::new(cgroup_of(n)).is_empty()
}

/// Ends all of slice `n`, and removes what the kernel still holds of it. It works by names, not by memory:
/// so also after a supervisor that was killed, and will not come back.
pub async fn sweep(n: u32, data: &Path) {
    let group = Group::new(cgroup_of(n));
    group.end();
    if let Err(cause) = runner::leave_nothing(&crate::wiring::runner_of(n, data)).await {
        warn!("not everything of slice {n} could be removed: {}", crate::chain(&cause));
    }
    group.remove();
}

/// The first /16 of 10.64.0.0/10 that no route of the server touches and no other slice has, counted from
/// the slice's own.
fn free_subnet(n: u32) -> Result<Ipv4Net, SliceError> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let others: Vec<Ipv4Net> = fs::read_dir(RUN)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name() != n.to_string().as_str())
        .filter_map(|entry| Remembered::read(Path::new(&fs::read_to_string(entry.path()).ok()?)))
        .map(|other| other.subnet)
        .collect();
    (0..64)
        .filter_map(|i| Ipv4Net::new(Ipv4Addr::new(10, 64 + ((n + 36 + i) % 64) as u8, 0, 0), 16).ok())
        .find(|subnet| !touches(&routes, subnet) && !others.contains(subnet))
        .ok_or(SliceError::NoSubnet)
}

/// Whether a line of /proc/net/route (destination and mask in the server's byte order) meets `subnet`.
fn touches(routes: &str, subnet: &Ipv4Net) -> bool {
    meeting(routes, subnet).next().is_some()
}

/// The routes that meet `subnet`: each with its device.
fn meeting<'a>(routes: &'a str, subnet: &'a Ipv4Net) -> impl Iterator<Item = (&'a str, Ipv4Net)> {
    let all = routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| Some(u32::from_be(u32::from_str_radix(fields.get(at)?, 16).ok()?));
        Some((*fields.first()?, Ipv4Net::with_netmask(number(1)?.into(), number(7)?.into()).ok()?))
    });
    all.filter(move |(_, route)| route.prefix_len() > 0 && (route.contains(subnet) || subnet.contains(route)))
}

/// A route that meets `subnet` and is not of slice `n` itself.
pub fn clash(n: u32, subnet: &Ipv4Net) -> Option<String> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let own = format!("b{n}x");
    let (device, route) = meeting(&routes, subnet).find(|(device, _)| !device.starts_with(&own))?;
    Some(format!("to {} by {device}", route.network()))
}

/// A directory of one owner, made or put right.
pub fn directory(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<(), SliceError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(io_error("make", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", path))?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(io_error("give away", path))
}

/// A small file of root alone: on disk as a whole or not at all.
pub fn keep(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_range_is_two_numbers_with_room_between() {
        assert_eq!("1048576-1114111".parse::<UidRange>().unwrap(), UidRange { first: 1_048_576, last: 1_114_111 });
        for bad in ["", "5", "0-70000", "2000-1000", "2000-2100", "2000-4294967295", "a-b"] {
            assert!(bad.parse::<UidRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_subnet_keeps_clear_of_routes() {
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                      eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
                      eth1\t0000640A\t00000000\t0001\t0\t0\t0\t0000FFFF\n\
                      eth2\t0500650A\t00000000\t0001\t0\t0\t0\tFFFFFFFF\n";
        for (subnet, met) in [("10.100.0.0/16", true), ("10.101.0.0/16", true), ("10.102.0.0/16", false)] {
            assert_eq!(touches(routes, &subnet.parse().unwrap()), met, "{subnet}");
        }
    }
}
