//! Times as people read them. Whole-number arithmetic: formatting floats would be a tenth of
//! what the browser loads.

/// "8 ms", "0.6 s", "61.7 s", "12 min 5 s": how long a step took.
pub fn took(ms: u64) -> String {
    match ms {
        0..100 => format!("{ms} ms"),
        100..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        120_000..7_200_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// "18 s": how long something has taken so far; it still runs, so no tenths.
pub fn so_far(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{} s", ms / 1000),
        _ => took(ms),
    }
}

/// The time of day of a log line, UTC, to the millisecond.
pub fn clock(micros: i64) -> String {
    let ms = micros.div_euclid(1000).rem_euclid(86_400_000);
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// `part` of `whole` as an SVG length, at least 1 % so that it can be seen.
pub fn share(part: u64, whole: u64, least: u64) -> String {
    let mille = (part.saturating_mul(1000).checked_div(whole).unwrap_or(0)).clamp(least, 1000);
    format!("{}.{}%", mille / 10, mille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!(took(8), "8 ms");
        assert_eq!(took(640), "0.6 s");
        assert_eq!(took(61_730), "61.7 s");
        assert_eq!(took(725_000), "12 min 5 s");
        assert_eq!(took(7_380_000), "2 h 3 min");
        assert_eq!(so_far(18_900), "18 s");
        assert_eq!(clock(1_763_386_327_123_456), "13:32:07.123");
        assert_eq!(clock(-1), "23:59:59.999");
        assert_eq!(share(1, 3, 10), "33.3%");
        assert_eq!(share(0, 0, 10), "1.0%");
    }
}
