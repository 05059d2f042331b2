//! A moment, in microseconds since 1970 (UTC): what PostgreSQL keeps and JSON carries whole.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(i64);

const MICROS_PER_HOUR: i64 = 3_600_000_000;

impl Time {
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// The full hour (UTC) that this moment lies in.
    pub const fn hour(self) -> Self {
        Self(self.0.div_euclid(MICROS_PER_HOUR) * MICROS_PER_HOUR)
    }

    /// The stretch of `step`, counted from 1970 on, that this moment lies in: when it began.
    pub const fn floor(self, step: Duration) -> Self {
        let step = step.as_micros() as i64;
        Self(self.0.div_euclid(step) * step)
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// What a form's field of date and time holds, read as UTC: `2026-11-17T14:31`, or with `:07`. The
    /// first moment of that minute or second, and the last.
    pub fn from_field(text: &str) -> Option<(Time, Time)> {
        let (date, clock) = text.trim().split_once(['T', ' '])?;
        let part = |text: &str, digits: usize| {
            (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u16>().ok())?
        };
        let mut date = date.splitn(3, '-');
        let (year, month, day) = (part(date.next()?, 4)?, part(date.next()?, 2)?, part(date.next()?, 2)?);
        let mut clock = clock.splitn(3, ':');
        let (hour, minute) = (part(clock.next()?, 2)?, part(clock.next()?, 2)?);
        let (second, long) = match clock.next() {
            // Browsers add a fraction that nobody typed.
            Some(second) => (part(second.split('.').next()?, 2)?, 1_000_000),
            None => (0, 60_000_000),
        };
        let byte = |n: u16| u8::try_from(n).ok();
        let month = time::Month::try_from(byte(month)?).ok()?;
        let date = time::Date::from_calendar_date(i32::from(year), month, byte(day)?).ok()?;
        let clock = time::Time::from_hms(byte(hour)?, byte(minute)?, byte(second)?).ok()?;
        let first = i64::try_from(date.with_time(clock).assume_utc().unix_timestamp_nanos() / 1000).ok()?;
        Some((Self(first), Self(first.saturating_add(long - 1))))
    }

    /// As a calendar date and time in UTC; moments outside year 1 to 9999 are clamped.
    pub fn utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<std::time::SystemTime> for Time {
    fn from(at: std::time::SystemTime) -> Self {
        let micros = match at.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Self(micros)
    }
}

impl fmt::Display for Time {
    /// RFC 3339, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.utc().format(&Rfc3339) {
            Ok(text) => f.write_str(&text),
            Err(_) => write!(f, "{} µs", self.0),
        }
    }
}

#[cfg(feature = "sqlx")]
mod sql {
    use sqlx::error::BoxDynError;
    use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
    use sqlx::{Decode, Encode, Postgres, Type, encode::IsNull};
    use time::OffsetDateTime;

    use super::Time;

    impl Type<Postgres> for Time {
        fn type_info() -> PgTypeInfo {
            <OffsetDateTime as Type<Postgres>>::type_info()
        }
    }

    impl PgHasArrayType for Time {
        fn array_type_info() -> PgTypeInfo {
            <OffsetDateTime as PgHasArrayType>::array_type_info()
        }
    }

    impl Encode<'_, Postgres> for Time {
        fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
            <OffsetDateTime as Encode<Postgres>>::encode(self.utc(), buf)
        }
    }

    impl<'r> Decode<'r, Postgres> for Time {
        fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
            let at = <OffsetDateTime as Decode<Postgres>>::decode(value)?;
            Ok(Time((at.unix_timestamp_nanos() / 1000).try_into()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_form_is_a_whole_minute_or_second() {
        let read = |text: &str| Time::from_field(text).map(|(a, b)| (a.to_string(), b.unix_micros() - a.unix_micros()));
        assert_eq!(read("2026-11-17T14:31"), Some(("2026-11-17T14:31:00Z".to_owned(), 59_999_999)));
        assert_eq!(read(" 2026-11-17 14:31:07.5 "), Some(("2026-11-17T14:31:07Z".to_owned(), 999_999)));
        for bad in ["", "2026-11-17", "2026-13-01T00:00", "2026-11-17T25:00", "26-11-17T14:31", "2026-11-17T+1:31", "T"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_hour_begins_where_utc_says() {
        let at = Time::from_unix_micros(1_763_386_327_123_456); // 2025-11-17T13:32:07.123456Z
        assert_eq!(at.to_string(), "2025-11-17T13:32:07.123456Z");
        assert_eq!(at.hour().to_string(), "2025-11-17T13:00:00Z");
        assert_eq!(Time::from_unix_micros(-1).hour(), Time::from_unix_micros(-MICROS_PER_HOUR));
    }
}
