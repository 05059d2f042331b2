//! Moments as people read them, in UTC: "today 14:32", "yesterday 17:48", "14 Nov", "14 Nov 2025";
//! the exact value stands in the element.

use domain::{Month, Time};
use leptos::prelude::*;

pub struct Moment;

impl Moment {
    /// `at` as read at `now`.
    pub fn of(now: Time, at: Time) -> AnyView {
        view! { <time datetime=at.to_string()>{said(now, at)}</time> }.into_any()
    }

    /// The day and the time of day, to the second.
    pub fn exactly(now: Time, at: Time) -> AnyView {
        let clock = clock(at);
        let days = (now.utc().date() - at.utc().date()).whole_days();
        let text = if days < 2 {
            format!("{} {clock}", said(now, at).split(' ').next().unwrap_or_default())
        } else {
            format!("{} {clock}", said(now, at))
        };
        view! { <time datetime=at.to_string()>{text}</time> }.into_any()
    }

    /// The time of day, to the second.
    pub fn second(at: Time) -> AnyView {
        view! { <time datetime=at.to_string()>{clock(at)}</time> }.into_any()
    }
}

/// "today 14:32", "yesterday 17:48", "14 Nov", "14 Nov 2025". Stays true on a page that stands open.
pub fn said(now: Time, at: Time) -> String {
    let (today, then) = (now.utc(), at.utc());
    let days = (today.date() - then.date()).whole_days();
    match days {
        0 => format!("today {}", hour_minute(at)),
        1 => format!("yesterday {}", hour_minute(at)),
        _ if today.year() == then.year() => day(at),
        _ => day_year(at),
    }
}

/// `14:32:07`
pub fn clock(at: Time) -> String {
    format!("{}:{:02}", hour_minute(at), at.utc().second())
}

/// `14:32`
pub fn hour_minute(at: Time) -> String {
    let utc = at.utc();
    format!("{:02}:{:02}", utc.hour(), utc.minute())
}

/// `Tue`
pub fn weekday(at: Time) -> &'static str {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    DAYS.get(usize::from(at.utc().weekday().number_days_from_monday())).copied().unwrap_or("")
}

/// `17 Nov`
pub fn day(at: Time) -> String {
    let month = Month::of(at);
    format!("{} {}", month.day_of(at), month.short())
}

/// `17 Nov 2025`
pub fn day_year(at: Time) -> String {
    format!("{} {}", day(at), at.utc().year())
}

/// `17 Nov 14:32`
pub fn day_minute(at: Time) -> String {
    format!("{} {}", day(at), hour_minute(at))
}

/// `2026-11-17T14:32`, as a form's field has it.
pub fn minute_field(at: Time) -> String {
    let utc = at.utc();
    format!("{:04}-{:02}-{:02}T{}", utc.year(), u8::from(utc.month()), utc.day(), hour_minute(at))
}

/// `1 December 2026`
pub fn date(at: Time) -> String {
    let month = Month::of(at);
    format!("{} {}", month.day_of(at), month.title())
}

/// `1 December 2026, 00:00 UTC`
pub fn date_minute(at: Time) -> String {
    format!("{}, {} UTC", date(at), hour_minute(at))
}

/// A day of a month: `17`, or `17, until 14:32` while it is not over.
pub fn day_until(day: u8, until: Option<Time>) -> String {
    until.map_or_else(|| day.to_string(), |until| format!("{day}, until {}", hour_minute(until)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_moment_is_named_from_where_it_is_read() {
        let now = Time::from_unix_micros(1_763_386_327_123_456); // 2025-11-17T13:32:07Z
        let before = |hours: u64| now.minus(Duration::from_secs(hours * 3600));
        assert_eq!(said(now, before(0)), "today 13:32");
        assert_eq!(said(now, before(14)), "yesterday 23:32");
        assert_eq!(said(now, before(72)), "14 Nov");
        assert_eq!(said(now, before(24 * 365)), "17 Nov 2024");
        assert_eq!((clock(now), day_minute(now)), ("13:32:07".to_owned(), "17 Nov 13:32".to_owned()));
        assert_eq!(date_minute(now), "17 November 2025, 13:32 UTC");
        assert_eq!([None, Some(now)].map(|until| day_until(17, until)), ["17", "17, until 13:32"]);
    }
}
