//! How amounts, prices and quantities are written and read: in decimals, never through a float.

use crate::{Currency, Meter, Money};

/// The minus sign; a hyphen is one of words.
const MINUS: char = '−';
const MICROS_PER_UNIT: u128 = 1_000_000;

impl Currency {
    /// Whole cents: "€1,234.56". What is not zero but less than half a cent is "<€0.01".
    pub fn cents(self, amount: Money) -> String {
        let cents = amount.cents();
        if cents == 0 && amount != Money::ZERO {
            return format!("<{}0.01", self.sign());
        }
        let (whole, rest) = (cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
        format!("{}{}{}.{rest:02}", minus(cents), self.sign(), grouped(whole.into()))
    }

    /// All of it: "€6.063120".
    pub fn exact(self, amount: Money) -> String {
        let micros = u128::from(amount.micros().unsigned_abs());
        let (whole, rest) = (micros / MICROS_PER_UNIT, micros % MICROS_PER_UNIT);
        format!("{}{}{}.{rest:06}", minus(amount.micros()), self.sign(), grouped(whole))
    }

    /// Of one unit, with at least three decimals: "€0.036", "€0.00014".
    pub fn price(self, micros: u64) -> String {
        format!("{}{}", self.sign(), decimal(u128::from(micros), 6, 3))
    }
}

/// "a" as the sign of a difference: "+€0.02", "−€0.02".
pub fn signed(currency: Currency, amount: Money) -> String {
    let plus = if amount > Money::ZERO { "+" } else { "" };
    format!("{plus}{}", currency.cents(amount))
}

fn minus(of: i64) -> String {
    if of < 0 { MINUS.to_string() } else { String::new() }
}

/// `1234567` → "1,234,567"
pub fn grouped(whole: u128) -> String {
    let digits = whole.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `scaled` / 10^`places`, without the zeros at its end but at least `least` decimals.
pub fn decimal(scaled: u128, places: usize, least: usize) -> String {
    let one = 10_u128.pow(u32::try_from(places).unwrap_or(0));
    let rest = format!("{:0places$}", scaled % one);
    let mut kept = rest.trim_end_matches('0').len().max(least);
    if places == 0 {
        kept = 0;
    }
    let rest = rest.get(..kept).unwrap_or_default();
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{}{dot}{rest}", grouped(scaled / one))
}

/// Without any grouping, for a form or a file.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| *c != ',').collect()
}

impl Meter {
    /// "CPU time"
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU time",
            Self::Memory => "Memory",
            Self::Requests => "Requests",
            Self::BytesOut => "Data out",
            Self::Storage => "Storage",
            Self::Builds => "Build time",
        }
    }

    /// What its quantities are of: "12 CPU-hours".
    pub const fn units(self) -> &'static str {
        match self {
            Self::Cpu => "CPU-hours",
            Self::Memory | Self::Storage => "GiB-hours",
            Self::Requests => "million",
            Self::BytesOut => "GiB",
            Self::Builds => "minutes",
        }
    }

    /// What its price is for.
    pub const fn each(self) -> &'static str {
        match self {
            Self::Cpu => "CPU-hour worked, not reserved",
            Self::Memory => "GiB-hour reserved while running",
            Self::Requests => "million",
            Self::BytesOut => "GiB that leaves for the internet",
            Self::Storage => "GiB-hour on disk",
            Self::Builds => "minute",
        }
    }

    /// Where its readings come from, in a sentence.
    pub const fn origin(self) -> &'static str {
        match self {
            Self::Cpu => {
                "The kernel counts the CPU time of each instance. We read its counter while it runs and once more when it ends; what was used is the difference of two readings."
            }
            Self::Memory => {
                "Each instance reserves its memory: the size times the seconds from when it is healthy and its release is switched on until it ends, or makes room for another. What it uses of that costs nothing more."
            }
            Self::Requests => {
                "The balancer counts each request that it answers for the app, in a file that outlives it. What was used is the difference of two readings."
            }
            Self::BytesOut => {
                "The kernel counts what an instance sends to the internet, and the balancer what it answers. What was used is the difference of two readings."
            }
            Self::Storage => {
                "What lies on disk for the app is measured: images, sources, its repository and logs, not caches. The size times the seconds."
            }
            Self::Builds => "The time between the beginning and the end of each build that one of you asked for.",
        }
    }

    /// In its unit, up to six decimals: "168.420033".
    pub fn exactly(self, used: u64) -> String {
        decimal(in_unit(self, used, 6), 6, 0)
    }

    /// In its unit, as long as it is read: "220.17", "1,039.7", "30.073", "9,804".
    pub fn shortly(self, used: u64) -> String {
        let whole = used / self.unit();
        let places = match whole {
            0 if used.saturating_mul(1000) < self.unit() => 6,
            0..100 => 3,
            100..1_000 => 2,
            1_000..10_000 => 1,
            _ => 0,
        };
        let scaled = in_unit(self, used, places);
        decimal(scaled, places, 0)
    }
}

/// `used` in the meter's unit × 10^`places`, half up.
fn in_unit(meter: Meter, used: u64, places: usize) -> u128 {
    let unit = u128::from(meter.unit());
    let one = 10_u128.pow(u32::try_from(places).unwrap_or(0));
    (u128::from(used) * one + unit / 2) / unit
}

/// A decimal as people type it, × 10^`places`: digits, and at most one point with at most `places` digits behind it.
/// No sign, no exponent, no separators.
pub fn parse_decimal(text: &str, places: usize) -> Option<u128> {
    let text = text.trim();
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && rest.is_empty())
        || !digits(whole)
        || !digits(rest)
        || rest.len() > places
        || whole.len() > 20
    {
        return None;
    }
    let padded = format!("{whole}{rest:0<places$}");
    padded.parse().ok()
}

impl Meter {
    /// A quantity in its unit, with up to three decimals, to the nearest of what it counts.
    pub fn parse(self, text: &str) -> Option<u64> {
        let thousandths = parse_decimal(text, 3)?;
        let used = thousandths.checked_mul(u128::from(self.unit()))?.checked_add(500)? / 1000;
        u64::try_from(used).ok().filter(|used| i64::try_from(*used).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_people_read_them() {
        let eur = Currency::EUR;
        let cents = |micros| eur.cents(Money::from_micros(micros));
        assert_eq!(cents(1_234_560_000), "€1,234.56");
        assert_eq!(cents(-1_230_000), "−€1.23");
        assert_eq!(
            (cents(0), cents(1), cents(4_999), cents(5_000)),
            ("€0.00".into(), "<€0.01".into(), "<€0.01".into(), "€0.01".into())
        );
        assert_eq!(eur.exact(Money::from_micros(6_063_120)), "€6.063120");
        assert_eq!(eur.exact(Money::from_micros(-1_006_063_120)), "−€1,006.063120");
        assert_eq!(signed(eur, Money::from_micros(20_000)), "+€0.02");
        let price = |micros| eur.price(micros);
        assert_eq!(
            [price(36_000), price(140), price(100_000), price(1), price(0), price(1_500_000)],
            ["€0.036", "€0.00014", "€0.100", "€0.000001", "€0.000", "€1.500"]
        );
    }

    #[test]
    fn quantities_are_in_the_unit_that_is_priced() {
        let hour = Meter::Cpu.unit();
        assert_eq!(Meter::Cpu.exactly(168 * hour + hour * 42 / 100), "168.42");
        assert_eq!(Meter::Cpu.shortly(220 * hour + hour * 17 / 100), "220.17");
        assert_eq!(Meter::Requests.shortly(30_073_000), "30.073");
        assert_eq!(Meter::Memory.shortly(9_804 * Meter::Memory.unit()), "9,804");
        assert_eq!((Meter::Requests.shortly(120), Meter::Requests.shortly(0)), ("0.00012".into(), "0".into()));
        assert_eq!(Meter::Requests.exactly(1), "0.000001");
        assert_eq!(Meter::Cpu.exactly(u64::MAX), "5,124,095,576.030431");
    }

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        assert_eq!(
            [parse_decimal("0.036", 6), parse_decimal(" 12 ", 6), parse_decimal(".5", 6), parse_decimal("7.", 6)],
            [Some(36_000), Some(12_000_000), Some(500_000), Some(7_000_000)]
        );
        let forty = "1".repeat(40);
        for refused in
            ["", ".", "1e9", "NaN", "inf", "-1", "+1", "0,036", "1 000", "0x1", "0.0000001", "1.2.3", "١", &forty]
        {
            assert_eq!(parse_decimal(refused, 6), None, "{refused}");
        }
        assert_eq!(Meter::Cpu.parse("0.5"), Some(Meter::Cpu.unit() / 2));
        assert_eq!(Meter::Cpu.parse("99999999999999999999"), None);
        for meter in Meter::ALL {
            let typed = meter.parse("12.345").unwrap();
            assert_eq!(plain(&meter.exactly(typed)), "12.345", "{meter}");
        }
    }
}
