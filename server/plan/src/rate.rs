//! What usage costs: for each meter a graduated function of what a customer used of it in a period (MONEY.md 'Rating').
//!
//! An amount is always of the whole usage since the period's (or its segment's) beginning, rounded to a micro-unit
//! there and nowhere else. What is posted is the difference of two, so that however a period is cut the postings add up
//! to the same.

use domain::{Meter, MeterPrice, Money};

/// How much of its period a segment is: after a new price each part counts from zero, with its share of what is
/// included and of each bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub seconds: u64,
    /// Of the whole period; not zero.
    pub of: u64,
}

impl Share {
    pub const WHOLE: Self = Self { seconds: 1, of: 1 };

    pub(crate) fn part(self, whole: u64) -> u128 {
        u128::from(whole) * u128::from(self.seconds) / u128::from(self.of.max(1))
    }
}

/// What `used` units since the segment's beginning cost. `None`: more than [`Money`] holds, which no usage that a meter
/// can have read costs at a sane price; whoever asks says which meter of whom.
pub fn rate(meter: Meter, price: &MeterPrice, share: Share, used: u64) -> Option<Money> {
    let used = u128::from(used);
    let mut from = share.part(price.included);
    let mut sum: u128 = 0;
    for (i, tier) in price.tiers.iter().enumerate() {
        let last = i + 1 == price.tiers.len();
        let to = tier.up_to.filter(|_| !last).map_or(used, |bound| share.part(bound).min(used));
        if to > from {
            sum = sum.checked_add((to - from).checked_mul(u128::from(tier.micros))?)?;
            from = to;
        }
    }
    let unit = u128::from(meter.unit());
    // Half up, which is away from zero: nothing here is negative.
    let micros = sum.checked_add(unit / 2)? / unit;
    i64::try_from(micros).ok().map(Money::from_micros)
}

/// Shares `total` out by weights so that the parts add up to it: each gets its part rounded down, and what is left goes
/// unit by unit to the largest remainders (the first of equal ones). Without any weight all goes to the first.
pub fn share_out(total: i64, weights: &[u64]) -> Vec<i64> {
    let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    if sum == 0 {
        let mut parts = vec![0; weights.len()];
        parts.iter_mut().take(1).for_each(|first| *first = total);
        return parts;
    }
    let (sign, total) = (total.signum(), u128::from(total.unsigned_abs()));
    let shares: Vec<(u128, u128)> = weights
        .iter()
        .map(|w| {
            let product = total * u128::from(*w);
            (product / sum, product % sum)
        })
        .collect();
    let given: u128 = shares.iter().map(|(part, _)| part).sum();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(shares.get(*i).map_or(0, |(_, rest)| *rest)));
    let more: Vec<usize> = order.into_iter().take(usize::try_from(total - given).unwrap_or(0)).collect();
    let whole = |i: usize, part: u128| i64::try_from(part + u128::from(more.contains(&i))).unwrap_or(i64::MAX) * sign;
    shares.iter().enumerate().map(|(i, (part, _))| whole(i, *part)).collect()
}

#[cfg(test)]
mod tests {
    use domain::Tier;
    use proptest::prelude::*;

    use super::*;

    fn price(included: u64, tiers: &[(u64, u64)]) -> MeterPrice {
        let tiers = tiers.iter().map(|(up_to, micros)| Tier { up_to: Some(*up_to), micros: *micros }).collect();
        MeterPrice { included, tiers }
    }

    #[test]
    fn each_unit_costs_what_its_own_tier_says() {
        // A unit of requests is a million of them.
        let million = 1_000_000;
        let graduated = price(100 * million, &[(200 * million, 10), (300 * million, 5), (0, 1)]);
        let cases = [(0, 0), (100, 0), (101, 10), (200, 1_000), (201, 1_005), (300, 1_500), (1_300, 2_500)];
        for (used, micros) in cases {
            let rated = rate(Meter::Requests, &graduated, Share::WHOLE, used * million);
            assert_eq!(rated, Some(Money::from_micros(micros)), "{used} million");
        }
        let half = Share { seconds: 15, of: 30 };
        let rated = rate(Meter::Requests, &graduated, half, 100 * million);
        assert_eq!(rated, Some(Money::from_micros(500)), "bounds shrink with the segment");
        let one = |used| rate(Meter::Requests, &price(0, &[(0, 1)]), Share::WHOLE, used);
        assert_eq!((one(499_999), one(500_000)), (Some(Money::ZERO), Some(Money::from_micros(1))));
        let dear = rate(Meter::Requests, &price(0, &[(0, u64::MAX)]), Share::WHOLE, u64::MAX);
        assert_eq!(dear, None, "too much is said, not wrapped");
    }

    #[test]
    fn a_unit_costs_its_price_to_the_micro_unit() {
        for meter in Meter::ALL {
            assert_eq!(rate(*meter, &price(0, &[(0, 140)]), Share::WHOLE, meter.unit()), Some(Money::from_micros(140)));
        }
    }

    fn prices() -> impl Strategy<Value = MeterPrice> {
        (0..10_000_u64, prop::collection::vec((1..20_000_u64, 0..1_000_000_000_u64), 0..5)).prop_map(
            |(included, mut tiers)| {
                tiers.sort_by_key(|tier| tier.0);
                price(included, &tiers)
            },
        )
    }

    proptest! {
        #[test]
        fn cutting_a_period_never_changes_the_total(plan in prices(), mut cuts in prop::collection::vec(0..50_000_u64, 1..20)) {
            cuts.sort_unstable();
            let whole = rate(Meter::Requests, &plan, Share::WHOLE, *cuts.last().unwrap_or(&0));
            let (mut before, mut sum) = (Money::ZERO, Some(Money::ZERO));
            for used in cuts {
                let after = rate(Meter::Requests, &plan, Share::WHOLE, used);
                let posting = after.and_then(|after| after.minus(before));
                prop_assert!(posting.is_some_and(|posting| posting >= Money::ZERO), "more use never costs less");
                sum = sum.and_then(|sum| sum.plus(posting?));
                before = after.unwrap_or_default();
            }
            prop_assert_eq!(sum, whole);
        }

        #[test]
        fn what_is_shared_out_adds_up_and_differs_from_its_share_by_less_than_one(
            total in -1_000_000_000_i64..1_000_000_000,
            weights in prop::collection::vec(0..u64::MAX, 1..40),
        ) {
            let parts = share_out(total, &weights);
            prop_assert_eq!(parts.iter().sum::<i64>(), total);
            let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
            for (part, weight) in parts.iter().zip(&weights).filter(|_| sum > 0) {
                let exact = u128::from(total.unsigned_abs()) * u128::from(*weight);
                let given = u128::from(part.unsigned_abs()) * sum;
                prop_assert!(given.abs_diff(exact) < sum);
            }
        }
    }
}
