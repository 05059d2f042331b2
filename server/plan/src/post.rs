//! What is to be posted, from what was used and what was posted of it before (MONEY.md 'Ledger').

use std::collections::BTreeMap;

use domain::{AppId, CustomerId, Meter, MeterPrice, Money, Month, PricePlanId, Time};

use crate::{PricePlan, Segment, Usage, Use, rate, segments};

/// The postings of one meter of one customer in one segment: each is rated after the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain {
    pub month: Month,
    pub plan: PricePlanId,
    pub meter: Meter,
}

/// Where a chain stands: its last posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tail {
    /// Counts from 1.
    pub place: u64,
    pub app: AppId,
    pub hour: Time,
    pub used: u64,
    /// The sum of the chain's amounts.
    pub owed: Money,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    pub chain: Chain,
    pub place: u64,
    pub app: AppId,
    pub hour: Time,
    /// Negative where they turned out to be another hour's. None: a version of the price plan was decided on meanwhile,
    /// and what is posted already is of a shorter segment than it was.
    pub units: i64,
    pub used_after: u64,
    pub amount: Money,
    /// What the chain's postings up to here add up to: `rate(used_after)`.
    pub owed_after: Money,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    #[error("{meter} of app {app} in the hour of {hour}: more than an amount holds")]
    TooMuch { app: AppId, meter: Meter, hour: Time },
    #[error("{meter} of app {app} in the hour of {hour}: less than nothing would be used")]
    Negative { app: AppId, meter: Meter, hour: Time },
}

/// What makes `posted` of one customer say what `usage` says, in the order of hours, apps and meters. `usage` and
/// `posted` are of the same hours, apps and meters; `plans` are all versions of the customer's currency; `tails` are of
/// all chains that these hours belong to. What was used before the first version costs nothing and is not posted.
///
/// However often, in whatever pieces and in whatever order it is asked: the sums of units are the usage, and of amounts
/// what it costs.
pub fn post(
    plans: &[PricePlan],
    usage: &Usage,
    posted: &BTreeMap<Use, i64>,
    tails: &BTreeMap<Chain, Tail>,
) -> Result<Vec<Posting>, PostError> {
    let mut months: BTreeMap<Month, Vec<Segment>> = BTreeMap::new();
    let mut tails = tails.clone();
    let mut postings = Vec::new();
    let uses: BTreeMap<Use, i64> = usage.keys().chain(posted.keys()).map(|of| (*of, 0)).collect();
    for of in uses.into_keys() {
        let Use { hour, app, meter } = of;
        let (too_much, negative) = (PostError::TooMuch { app, meter, hour }, PostError::Negative { app, meter, hour });
        let used = i64::try_from(usage.get(&of).copied().unwrap_or(0)).map_err(|_| too_much)?;
        let units = used.checked_sub(posted.get(&of).copied().unwrap_or(0)).ok_or(too_much)?;
        if units == 0 {
            continue;
        }
        let month = Month::of(hour);
        let parts = months.entry(month).or_insert_with(|| segments(month, plans));
        let Some(part) = parts.iter().find(|part| part.holds(hour)) else { continue };
        let chain = Chain { month, plan: part.plan, meter };
        let tail = tails.get(&chain).copied();
        let before = tail.map_or(0, |tail| tail.used);
        let used_after = before.checked_add_signed(units).ok_or(negative)?;
        let posting = next(part, chain, tail, app, hour, units, used_after).ok_or(too_much)?;
        tails.insert(chain, posting.tail());
        postings.push(posting);
    }
    // What is posted and costs something else now: its segment was cut.
    for (chain, tail) in tails {
        let Tail { app, hour, used, owed, .. } = tail;
        let parts = months.entry(chain.month).or_insert_with(|| segments(chain.month, plans));
        let Some(part) = parts.iter().find(|part| part.plan == chain.plan) else { continue };
        let too_much = PostError::TooMuch { app, meter: chain.meter, hour };
        let posting = next(part, chain, Some(tail), app, hour, 0, used).ok_or(too_much)?;
        if posting.owed_after != owed {
            postings.push(posting);
        }
    }
    Ok(postings)
}

/// What `used` units of a meter cost in a segment.
pub fn owed(part: &Segment, meter: Meter, used: u64) -> Option<Money> {
    rate(meter, part.prices.get(&meter).unwrap_or(&MeterPrice::default()), part.share, used)
}

fn next(
    part: &Segment,
    chain: Chain,
    tail: Option<Tail>,
    app: AppId,
    hour: Time,
    units: i64,
    used_after: u64,
) -> Option<Posting> {
    // In the ledger it has a sign.
    i64::try_from(used_after).ok()?;
    let owed_after = owed(part, chain.meter, used_after)?;
    let amount = owed_after.minus(tail.map_or(Money::ZERO, |tail| tail.owed))?;
    let place = tail.map_or(0, |tail| tail.place).checked_add(1)?;
    Some(Posting { chain, place, app, hour, units, used_after, amount, owed_after })
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub account: String,
    pub amount: Money,
}

impl Posting {
    /// What the customer owes, and what it was earned with; together they are nothing. None: it costs nothing.
    pub fn entries(&self, customer: CustomerId) -> Option<[Entry; 2]> {
        let earned = Money::ZERO.minus(self.amount).filter(|earned| *earned != Money::ZERO)?;
        let owes = Entry { account: format!("customer/{customer}"), amount: self.amount };
        Some([owes, Entry { account: format!("revenue/{}", self.chain.meter), amount: earned }])
    }

    /// Where its chain stands after it.
    pub fn tail(&self) -> Tail {
        Tail { place: self.place, app: self.app, hour: self.hour, used: self.used_after, owed: self.owed_after }
    }
}
