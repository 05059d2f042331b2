//! What a customer owes for a month, by meter and by app: two cuts of one sum.

use std::collections::BTreeMap;

use domain::{AppId, Meter, Money, PricePlanId};

use crate::{Segment, Use, owed, share_out};

/// Units of each meter and app in each segment of a month: what is posted, and what is computed until now.
pub type Used = BTreeMap<(PricePlanId, Meter, AppId), i64>;

/// One amount: of one meter, in the part of the month that one price holds in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub segment: Segment,
    pub meter: Meter,
    pub used: u64,
    /// What all of it costs, to the micro-unit.
    pub owed: Money,
    /// Rounded once, half away from zero: what is asked for.
    pub cents: i64,
    /// In the order of their ids.
    pub apps: Vec<AppLine>,
}

/// An app's share of a line by its part in the use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppLine {
    pub app: AppId,
    pub used: u64,
    pub owed: Money,
    pub cents: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bill {
    /// By segment, then meter. Meters that were not used have none.
    pub lines: Vec<Line>,
    pub owed: Money,
    pub cents: i64,
}

/// One customer's, for the month of `segments`. `None`: more than an amount holds.
pub fn bill(segments: &[Segment], used: &Used) -> Option<Bill> {
    let mut bill = Bill::default();
    for segment in segments {
        for meter in Meter::ALL {
            let key = |app: i64| (segment.plan, *meter, AppId(app));
            let apps = used.range(key(i64::MIN)..=key(i64::MAX));
            let apps = apps.map(|((_, _, app), used)| (*app, u64::try_from(*used).unwrap_or(0)));
            let (apps, weights): (Vec<AppId>, Vec<u64>) = apps.filter(|(_, used)| *used > 0).unzip();
            if apps.is_empty() {
                continue;
            }
            let total = weights.iter().try_fold(0_u64, |sum, used| sum.checked_add(*used))?;
            let owed = owed(segment, *meter, total)?;
            let cents = owed.cents();
            let shares = share_out(owed.micros(), &weights).into_iter().zip(share_out(cents, &weights));
            let apps = apps.into_iter().zip(weights).zip(shares);
            let apps = apps.map(|((app, used), (micros, cents))| {
                let owed = Money::from_micros(micros);
                AppLine { app, used, owed, cents }
            });
            let apps = apps.collect();
            bill.owed = bill.owed.plus(owed)?;
            bill.cents = bill.cents.checked_add(cents)?;
            bill.lines.push(Line { segment: segment.clone(), meter: *meter, used: total, owed, cents, apps });
        }
    }
    Some(bill)
}

impl Bill {
    /// By app: cents and micro-units, of all meters and prices.
    pub fn by_app(&self) -> BTreeMap<AppId, (Money, i64)> {
        let mut apps: BTreeMap<AppId, (Money, i64)> = BTreeMap::new();
        for line in self.lines.iter().flat_map(|line| &line.apps) {
            let sum = apps.entry(line.app).or_default();
            // A part of `owed`, which fits.
            *sum = (sum.0.plus(line.owed).unwrap_or(sum.0), sum.1.saturating_add(line.cents));
        }
        apps
    }

    /// By meter: cents and micro-units, of all prices.
    pub fn by_meter(&self) -> BTreeMap<Meter, (Money, i64)> {
        let mut meters: BTreeMap<Meter, (Money, i64)> = BTreeMap::new();
        for line in &self.lines {
            let sum = meters.entry(line.meter).or_default();
            *sum = (sum.0.plus(line.owed).unwrap_or(sum.0), sum.1.saturating_add(line.cents));
        }
        meters
    }
}

/// Adds units of hours to the segments that they belong to; those of other months are left out. What is posted and what
/// came since add up to what is used.
pub fn add_units(used: &mut Used, segments: &[Segment], units: impl IntoIterator<Item = (Use, i64)>) {
    for (of, units) in units {
        if let Some(segment) = segments.iter().find(|segment| segment.holds(of.hour)) {
            let sum = used.entry((segment.plan, of.meter, of.app)).or_default();
            *sum = sum.saturating_add(units);
        }
    }
}
