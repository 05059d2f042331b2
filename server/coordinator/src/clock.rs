//! CLOCK_BOOTTIME: leases are counted on it, since `Instant` stands still while a machine is suspended.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

pub fn boottime() -> Duration {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(now) => now.into(),
        // Linux has it since 2.6.39; without it, nothing can be counted as fresh.
        Err(_) => Duration::MAX,
    }
}
