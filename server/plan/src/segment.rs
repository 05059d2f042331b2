//! The parts of a month: each version of the price plan that holds in it cuts it.

use domain::{Month, PricePlanId, Prices, Time};

use crate::Share;

/// A version of the price plan of one currency: it holds from `since`, a full hour, until the next one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PricePlan {
    pub id: PricePlanId,
    pub since: Time,
    pub prices: Prices,
}

/// The part of a month that one version holds in. It counts from zero, with its share of what is included and of the
/// tiers' bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub month: Month,
    pub plan: PricePlanId,
    pub prices: Prices,
    pub from: Time,
    pub to: Time,
    pub share: Share,
}

impl Segment {
    pub fn holds(&self, at: Time) -> bool {
        self.from <= at && at < self.to
    }
}

/// The parts of `month`, in order, by all versions of a currency. What is before the first of them has no price.
pub fn segments(month: Month, versions: &[PricePlan]) -> Vec<Segment> {
    let mut versions: Vec<&PricePlan> = versions.iter().collect();
    versions.sort_by_key(|version| (version.since, version.id));
    let ends = versions.iter().skip(1).map(|next| next.since).chain([month.to()]);
    let parts = versions.iter().zip(ends).map(|(version, end)| {
        let (from, to) = (version.since.max(month.from()), end.min(month.to()));
        let share = Share { seconds: to.since(from).as_secs(), of: month.length().as_secs() };
        Segment { month, plan: version.id, prices: version.prices.clone(), from, to, share }
    });
    parts.filter(|part| part.from < part.to).collect()
}
