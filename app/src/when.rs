//! Moments as people read them, in UTC: "today 14:32", "yesterday 17:48", "14 Nov", "14 Nov 2025";
//! the exact value stands in the element.

use domain::Time;
use leptos::prelude::*;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub struct Moment;

impl Moment {
    /// `at` as read at `now`.
    pub fn of(now: Time, at: Time) -> AnyView {
        view! { <time datetime=at.to_string()>{said(now, at)}</time> }.into_any()
    }

    /// The day and the time of day, to the second.
    pub fn exactly(now: Time, at: Time) -> AnyView {
        let utc = at.utc();
        let clock = format!("{:02}:{:02}:{:02}", utc.hour(), utc.minute(), utc.second());
        let days = (now.utc().date() - utc.date()).whole_days();
        let text = if days < 2 {
            format!("{} {clock}", said(now, at).split(' ').next().unwrap_or_default())
        } else {
            format!("{} {clock}", said(now, at))
        };
        view! { <time datetime=at.to_string()>{text}</time> }.into_any()
    }

    /// The time of day, to the second.
    pub fn second(at: Time) -> AnyView {
        let utc = at.utc();
        let text = format!("{:02}:{:02}:{:02}", utc.hour(), utc.minute(), utc.second());
        view! { <time datetime=at.to_string()>{text}</time> }.into_any()
    }
}

/// "today 14:32", "yesterday 17:48", "14 Nov", "14 Nov 2025". Stays true on a page that stands open.
pub fn said(now: Time, at: Time) -> String {
    let (today, then) = (now.utc(), at.utc());
    let clock = format!("{:02}:{:02}", then.hour(), then.minute());
    let days = (today.date() - then.date()).whole_days();
    match days {
        0 => format!("today {clock}"),
        1 => format!("yesterday {clock}"),
        _ => {
            let month = month(at);
            match today.year() == then.year() {
                true => format!("{} {month}", then.day()),
                false => format!("{} {month} {}", then.day(), then.year()),
            }
        }
    }
}

/// "Nov"
pub fn month(at: Time) -> &'static str {
    MONTHS.get(usize::from(u8::from(at.utc().month())) - 1).copied().unwrap_or("")
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
    let utc = at.utc();
    format!("{} {}", utc.day(), month(at))
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
    }
}
