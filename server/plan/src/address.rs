//! Free addresses. An address belongs to one generation; it rests until no balancer can have it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::Fleet;

/// A network of IPv4 addresses; its first usable one is the gateway that all instances share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    pub network: Ipv4Addr,
    pub prefix: u8,
}

impl Subnet {
    /// The addresses that instances may have: without the network's own, the gateway, and broadcast.
    fn range(self) -> std::ops::Range<u32> {
        let size = 1_u64 << (32 - u32::from(self.prefix.min(32)));
        let first = u64::from(u32::from(self.network)) + 2;
        let end = u64::from(u32::from(self.network)) + size.saturating_sub(1);
        first.min(end).min(u64::from(u32::MAX)) as u32..end.min(u64::from(u32::MAX)) as u32
    }
}

/// Free addresses, those first that were used longest ago: an address comes back as late as it can.
pub fn addresses(fleet: &Fleet) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let mut taken: BTreeSet<u32> = fleet.instances.iter().map(|i| u32::from(i.address)).collect();
    taken.extend(fleet.deploys.iter().filter_map(|d| d.builder).map(|(_, address)| u32::from(address)));
    taken.extend(fleet.strangers.iter().map(|address| u32::from(*address)));
    let range = fleet.subnet.range();
    let newest = fleet.instances.iter().max_by_key(|i| i.id).map(|i| u32::from(i.address));
    let from = newest.map_or(range.start, |a| a.saturating_add(1)).clamp(range.start, range.end);
    (from..range.end).chain(range.start..from).filter(move |a| !taken.contains(a)).map(Ipv4Addr::from)
}
