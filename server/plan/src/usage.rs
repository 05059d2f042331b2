//! Usage: what was counted in each hour, from the values that counters had (MONEY.md 'A meter is read, not ticked').

use std::collections::BTreeMap;

use domain::{AppId, Meter, Reading, Time};

/// Whose use of what, in which full hour (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    pub hour: Time,
    pub app: AppId,
    pub meter: Meter,
}

/// Units of each.
pub type Usage = BTreeMap<Use, u64>;

/// The difference of a life's successive values; its first counts from zero. Use between two readings belongs to the
/// hour of the later. A value below one of an earlier hour (a clock was set back) is no use, so that the sum over all
/// hours is always each life's highest value, whatever came late, twice or not at all.
pub fn usage<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Usage {
    let mut values: BTreeMap<_, u64> = BTreeMap::new();
    for reading in readings {
        let value = values.entry((&reading.life, reading.app, reading.meter, reading.hour)).or_default();
        *value = reading.value.max(*value);
    }
    let mut usage = Usage::new();
    let mut highest = (None, 0);
    for ((life, app, meter, hour), value) in values {
        let counter = Some((life, app, meter));
        if highest.0 != counter {
            highest = (counter, 0);
        }
        let units = value.saturating_sub(highest.1);
        highest.1 = highest.1.max(value);
        if units > 0 {
            let used = usage.entry(Use { hour, app, meter }).or_default();
            *used = used.saturating_add(units);
        }
    }
    usage
}
