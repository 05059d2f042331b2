//! Amounts, in micro-units (millionths) of one currency. Never a float: what is added up must be what is shown.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// An amount in micro-units of a currency that stands beside it: at most about 9 million million units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "sqlx", derive(sqlx::Type), sqlx(transparent))]
#[serde(transparent)]
pub struct Money(i64);

/// Micro-units in one cent.
const MICROS_PER_CENT: i64 = 10_000;

impl Money {
    pub const ZERO: Self = Self(0);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// `None` where the sum is beyond what the type holds.
    pub const fn plus(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    pub const fn minus(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// Whole cents, rounded once, half away from zero (design: 'Money and time').
    pub const fn cents(self) -> i64 {
        let half = if self.0 < 0 { -MICROS_PER_CENT / 2 } else { MICROS_PER_CENT / 2 };
        let (whole, rest) = (self.0 / MICROS_PER_CENT, self.0 % MICROS_PER_CENT);
        whole + (rest + half) / MICROS_PER_CENT
    }

    pub const fn from_cents(cents: i64) -> Option<Self> {
        match cents.checked_mul(MICROS_PER_CENT) {
            Some(micros) => Some(Self(micros)),
            None => None,
        }
    }
}

/// An ISO 4217 code of a currency with two decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    pub const EUR: Self = Self(*b"EUR");

    /// What amounts begin with: `€`, `$`, `£`, else the code and a space.
    pub fn sign(self) -> String {
        match &self.0 {
            b"EUR" => "€".to_owned(),
            b"USD" => "$".to_owned(),
            b"GBP" => "£".to_owned(),
            _ => format!("{self}\u{a0}"),
        }
    }
}

/// Those that have no cents, or thousandths; an amount of cents would be wrong by a factor.
const OTHER_DECIMALS: [&str; 23] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF", "BHD", "IQD", "JOD", "KWD", "OMR", "TND",
];

impl FromStr for Currency {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        match <[u8; 3]>::try_from(s.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) && !OTHER_DECIMALS.contains(&s) => Ok(Self(code)),
            _ => Err(NameError::Unknown { what: "currency", given: s.chars().take(80).collect() }),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.to_string()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_rounded_once_half_away_from_zero() {
        let cases =
            [(0, 0), (4_999, 0), (5_000, 1), (14_999, 1), (15_000, 2), (-4_999, 0), (-5_000, -1), (-15_001, -2)];
        for (micros, cents) in cases {
            assert_eq!(Money::from_micros(micros).cents(), cents, "{micros} micro-units");
        }
        assert_eq!(Money::from_micros(i64::MAX).cents(), 922_337_203_685_478);
        assert_eq!(Money::from_micros(i64::MIN).cents(), -922_337_203_685_478);
    }

    #[test]
    fn a_currency_is_a_code_with_cents() {
        assert!("EUR".parse::<Currency>().is_ok());
        for refused in ["eur", "EURO", "", "JPY", "KWD"] {
            assert!(refused.parse::<Currency>().is_err(), "{refused}");
        }
    }
}
