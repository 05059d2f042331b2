//! A period of money: a month, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::{Date, Time as Clock};

use crate::{NameError, Time};

/// A UTC month of year 1 to 9999. In text `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month(Date);

impl Month {
    /// The month that a moment lies in.
    pub fn of(at: Time) -> Self {
        Self::beginning(at.utc().date())
    }

    fn beginning(day: Date) -> Self {
        Self(day.replace_day(1).unwrap_or(day))
    }

    pub fn from(self) -> Time {
        Time::from_unix_micros(
            self.0.with_time(Clock::MIDNIGHT).assume_utc().unix_timestamp().saturating_mul(1_000_000),
        )
    }

    /// The moment that it ends at, which is the next one's.
    pub fn to(self) -> Time {
        self.next().from()
    }

    pub fn next(self) -> Self {
        Self::beginning(self.0.saturating_add(time::Duration::days(31)))
    }

    pub fn before(self) -> Self {
        Self::beginning(self.0.saturating_sub(time::Duration::days(1)))
    }

    pub fn length(self) -> Duration {
        self.to().since(self.from())
    }

    pub fn holds(self, at: Time) -> bool {
        Self::of(at) == self
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), u8::from(self.0.month()))
    }
}

impl FromStr for Month {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let parsed = || {
            let (year, month) = s.split_once('-').filter(|(year, month)| year.len() == 4 && month.len() == 2)?;
            let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
            let month: u8 = Some(month).filter(|m| digits(m))?.parse().ok()?;
            let year: i32 = Some(year).filter(|y| digits(y))?.parse().ok().filter(|y| *y > 0)?;
            Date::from_calendar_date(year, month.try_into().ok()?, 1).ok()
        };
        parsed().map(Self).ok_or_else(|| NameError::Unknown { what: "month", given: s.chars().take(80).collect() })
    }
}

impl TryFrom<String> for Month {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        s.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> String {
        month.to_string()
    }
}

#[cfg(feature = "sqlx")]
mod sql {
    use sqlx::encode::IsNull;
    use sqlx::error::BoxDynError;
    use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
    use sqlx::{Decode, Encode, Postgres, Type};
    use time::Date;

    use super::Month;

    /// A `date`: its first day.
    impl Type<Postgres> for Month {
        fn type_info() -> PgTypeInfo {
            <Date as Type<Postgres>>::type_info()
        }
    }

    impl PgHasArrayType for Month {
        fn array_type_info() -> PgTypeInfo {
            <Date as PgHasArrayType>::array_type_info()
        }
    }

    impl Encode<'_, Postgres> for Month {
        fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
            <Date as Encode<Postgres>>::encode(self.0, buf)
        }
    }

    impl<'r> Decode<'r, Postgres> for Month {
        fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
            Ok(Month::beginning(<Date as Decode<Postgres>>::decode(value)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_from_its_first_moment_to_the_next_ones() {
        let at = Time::from_unix_micros(1_763_386_327_123_456); // 2025-11-17T13:32:07.123456Z
        let month = Month::of(at);
        assert_eq!(month.from().to_string(), "2025-11-01T00:00:00Z");
        assert_eq!(month.to().to_string(), "2025-12-01T00:00:00Z");
        assert_eq!((month.to_string().as_str(), month.next().next().to_string().as_str()), ("2025-11", "2026-01"));
        assert_eq!(month.length(), Duration::from_secs(30 * 86_400));
        assert!(month.holds(month.from()) && !month.holds(month.to()) && month.next().before() == month);
        assert_eq!("2024-02".parse::<Month>().map(Month::length), Ok(Duration::from_secs(29 * 86_400)));
        for refused in ["2026", "2026-13", "2026-00", "2026-1", "0000-01", "+026-01", "2026-11-01", ""] {
            assert!(refused.parse::<Month>().is_err(), "{refused}");
        }
    }
}
