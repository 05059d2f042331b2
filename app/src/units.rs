//! Figures as people read them: 84 ms, 1.67 GiB, 38 %, 1.445 million.

use std::time::Duration;

use domain::grouped;

/// `84`, `1,204`, `1.445 million`
pub fn count(n: u64) -> String {
    match n {
        1_000_000_000.. => format!("{:.3} billion", n as f64 / 1e9),
        1_000_000.. => format!("{:.3} million", n as f64 / 1e6),
        _ => grouped(n.into()),
    }
}

/// Three digits that say something: `0`, `0.02`, `1.67`, `29.4`, `1,204`.
pub fn figure(n: f64) -> String {
    match n {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 0.005 => "<0.01".to_owned(),
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => grouped(n.round() as u128),
    }
}

/// `0.4`, `84`, `1,204`
pub fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 9.95 { format!("{ms:.1}") } else { grouped(ms.round() as u128) }
}

/// `84 ms`, `1.3 s`
pub fn took(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.9995 { format!("{} ms", millis(time)) } else { format!("{} s", figure(seconds)) }
}

/// `213 MiB`, `1.67 GiB`
pub fn bytes(n: u64) -> String {
    let n = n as f64;
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| n >= 2_f64.powi(*bits)) {
        Some((unit, bits)) if bits < 30 => format!("{} {unit}", (n / 2_f64.powi(bits)).round()),
        Some((unit, bits)) => format!("{:.2} {unit}", n / 2_f64.powi(bits)),
        None => format!("{n} B"),
    }
}

/// From 0 to 1: `0 %`, `<0.01 %`, `0.02 %`, `38 %`
pub fn percent(part: f64) -> String {
    let n = part * 100.0;
    if n > 9.995 { format!("{} %", n.round()) } else { format!("{} %", figure(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_digits_that_say_something() {
        assert_eq!(
            [0, 84, 999, 1_000, 1_204, 1_444_810].map(count),
            ["0", "84", "999", "1,000", "1,204", "1.445 million"]
        );
        assert_eq!(
            [0.0, 0.001, 0.024, 1.666, 29.43, 1204.4].map(figure),
            ["0", "<0.01", "0.02", "1.67", "29.4", "1,204"]
        );
        assert_eq!([400, 84_000, 1_300_000].map(|us| took(Duration::from_micros(us))), ["0.4 ms", "84 ms", "1.30 s"]);
        assert_eq!([12, 213 << 20, 1_793_148_846].map(bytes), ["12 B", "213 MiB", "1.67 GiB"]);
        assert_eq!([0.0, 0.00002, 0.0002, 0.38].map(percent), ["0 %", "<0.01 %", "0.02 %", "38 %"]);
    }
}
