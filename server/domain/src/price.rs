//! What meters cost: the content of one version of the price plan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Meter;

/// A price for each meter; one that is absent costs nothing.
pub type Prices = BTreeMap<Meter, MeterPrice>;

/// What one meter costs. Graduated, never volume: each unit costs what its own tier says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeterPrice {
    /// What costs nothing in a whole period, in what the meter counts (not in [`Meter::unit`]s).
    pub included: u64,
    /// In order of their bounds. None: it costs nothing.
    pub tiers: Vec<Tier>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Up to so much in a whole period, counted from zero (what is included counts); `None`, of the last one only:
    /// whatever comes.
    pub up_to: Option<u64>,
    /// Micro-units of the plan's currency for one [`Meter::unit`].
    pub micros: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    #[error("the last tier has no upper bound, and only the last")]
    Bounds,
    #[error("each tier begins where the one before ends: the bounds must grow, from more than what is included")]
    Order,
    #[error("a price is at most 1,000,000 for one unit")]
    Dear,
}

/// A million units of the currency.
const MICROS_MAX: u64 = 1_000_000_000_000;

impl MeterPrice {
    /// One price for all.
    pub fn flat(micros: u64) -> Self {
        Self { included: 0, tiers: vec![Tier { up_to: None, micros }] }
    }

    pub fn check(&self) -> Result<(), PriceError> {
        let bounds: Vec<Option<u64>> = self.tiers.iter().map(|t| t.up_to).collect();
        if let Some((last, others)) = bounds.split_last()
            && (last.is_some() || others.iter().any(Option::is_none))
        {
            return Err(PriceError::Bounds);
        }
        let mut from = self.included;
        for bound in bounds.into_iter().flatten() {
            if bound <= from {
                return Err(PriceError::Order);
            }
            from = bound;
        }
        if self.tiers.iter().any(|t| t.micros > MICROS_MAX) { Err(PriceError::Dear) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_follow_each_other_and_the_last_has_no_end() {
        let price = |included, tiers: &[(Option<u64>, u64)]| MeterPrice {
            included,
            tiers: tiers.iter().map(|(up_to, micros)| Tier { up_to: *up_to, micros: *micros }).collect(),
        };
        assert_eq!(MeterPrice::flat(5).check(), Ok(()));
        assert_eq!(price(0, &[]).check(), Ok(()));
        assert_eq!(price(5, &[(Some(10), 3), (Some(20), 2), (None, 1)]).check(), Ok(()));
        assert_eq!(price(0, &[(Some(10), 3)]).check(), Err(PriceError::Bounds));
        assert_eq!(price(0, &[(None, 3), (None, 2)]).check(), Err(PriceError::Bounds));
        assert_eq!(price(10, &[(Some(10), 3), (None, 1)]).check(), Err(PriceError::Order));
        assert_eq!(price(0, &[(Some(20), 3), (Some(10), 2), (None, 1)]).check(), Err(PriceError::Order));
        assert_eq!(MeterPrice::flat(u64::MAX).check(), Err(PriceError::Dear));
    }
}
