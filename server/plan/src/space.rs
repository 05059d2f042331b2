//! Room on a disk: how much must stay free for what may never fail (PostgreSQL, readings on their way), and
//! what is refused meanwhile.

use domain::wire::Space;

const GIB: u64 = 1 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    Plenty,
    /// Caches go, and fewer releases are kept.
    Tight,
    /// Nothing new is taken in: no push, no build, no instance that is not here yet.
    Short,
}

/// What stays free of a disk of `bytes`: 5 % and at least 1 GiB, of a small one a quarter.
pub fn reserve(bytes: u64) -> u64 {
    (bytes / 20).max(GIB).min(bytes / 4)
}

pub fn room(space: &Space) -> Room {
    let Space { free_bytes: free, reserve_bytes: reserve, .. } = *space;
    match () {
        () if free < reserve => Room::Short,
        () if free < reserve.saturating_mul(2) => Room::Tight,
        () => Room::Plenty,
    }
}

/// Why nothing new is taken in, if that is so: "the server has 300 MiB of disk free, and 1024 MiB must stay free".
pub fn refuses(space: &Space) -> Option<String> {
    (room(space) == Room::Short).then(|| {
        let (free, reserve) = (space.free_bytes >> 20, space.reserve_bytes >> 20);
        format!("the server has {free} MiB of disk free, and {reserve} MiB must stay free")
    })
}

/// For whoever reads [`refuses`].
pub const SPACE_HINT: &str =
    "Running apps are not affected. It goes on by itself when there is room again; tell the operator";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_tight_before_it_is_short_and_says_how_much_is_missing() {
        let space = |free_bytes| Space { bytes: 100 * GIB, free_bytes, reserve_bytes: reserve(100 * GIB) };
        assert_eq!(reserve(100 * GIB), 5 * GIB);
        assert_eq!(reserve(10 * GIB), GIB);
        assert_eq!(reserve(2 * GIB), GIB / 2);
        assert_eq!(room(&space(50 * GIB)), Room::Plenty);
        assert_eq!(room(&space(9 * GIB)), Room::Tight);
        assert_eq!(room(&space(4 * GIB)), Room::Short);
        assert_eq!(refuses(&space(9 * GIB)), None);
        let said = refuses(&space(300 << 20)).unwrap_or_default();
        assert_eq!(said, "the server has 300 MiB of disk free, and 5120 MiB must stay free");
    }
}
