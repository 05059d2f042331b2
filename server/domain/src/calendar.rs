//! A month's days, and how both are called.

use std::time::Duration;

use crate::{Month, Time};

const NAMES: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAY: Duration = Duration::from_secs(86_400);

impl Month {
    /// "November"
    pub fn name(self) -> &'static str {
        let month = u8::from(self.from().utc().month());
        NAMES.get(usize::from(month) - 1).copied().unwrap_or_default()
    }

    /// "Nov"
    pub fn short(self) -> &'static str {
        self.name().get(..3).unwrap_or_default()
    }

    /// "November 2026"
    pub fn title(self) -> String {
        format!("{} {}", self.name(), self.from().utc().year())
    }

    pub fn days(self) -> u8 {
        u8::try_from(self.length().as_secs() / DAY.as_secs()).unwrap_or(31)
    }

    /// Which of its days `at` lies in, from 1; the first or the last of one that it does not hold.
    pub fn day_of(self, at: Time) -> u8 {
        let days = at.since(self.from()).as_secs() / DAY.as_secs();
        u8::try_from(days).unwrap_or(u8::MAX).saturating_add(1).min(self.days())
    }

    /// When its day `day`, from 1, begins; that after the last is its end.
    pub fn day(self, day: u8) -> Time {
        self.from().plus(DAY * u32::from(day.max(1) - 1))
    }
}

impl Time {
    /// When its day (UTC) began.
    pub fn midnight(self) -> Self {
        let month = Month::of(self);
        month.day(month.day_of(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_has_its_days() {
        let month: Month = "2026-12".parse().unwrap();
        assert_eq!((month.days(), month.title().as_str(), month.short()), (31, "December 2026", "Dec"));
        assert_eq!("2028-02".parse::<Month>().unwrap().days(), 29);
        assert_eq!(month.day_of(month.to().minus(Duration::from_micros(1))), 31);
        assert_eq!(month.day_of(month.day(7)), 7);
        assert_eq!((month.day_of(month.from().minus(DAY)), month.day_of(month.to().plus(DAY))), (1, 31));
        assert_eq!(month.day(32), month.to());
        assert_eq!(month.day(7).plus(DAY / 2).midnight(), month.day(7));
    }
}
