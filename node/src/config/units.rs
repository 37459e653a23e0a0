//! Durations and sizes as people write them: a whole number and a unit, `"250ms"`, `"10s"`, `"32MiB"`.
//!
//! One number, one unit. No fractions, no sums (`1h30m`), no unit left out: a bare number would have to be guessed.

use std::fmt;
use std::time::Duration;

/// Units of durations and their milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 24 * 60 * 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Units of sizes and their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why a text is no quantity. All of them the operator's mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    /// It does not begin with a digit.
    #[error("must be a whole number and a unit, such as {example:?}")]
    NoNumber { example: &'static str },
    /// Digits only.
    #[error("needs a unit, such as {example:?}")]
    NoUnit { example: &'static str },
    /// Something else behind the digits.
    #[error("unknown unit: use {units}")]
    UnknownUnit { units: &'static str },
    /// Beyond 64 bits.
    #[error("too large")]
    TooLarge,
}

/// Reads a duration.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    parse(text, &DURATION_UNITS, "10s", "ms, s, m, h or d, and only one").map(Duration::from_millis)
}

/// Reads a number of bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, QuantityError> {
    parse(text, &SIZE_UNITS, "32MiB", "B, KiB, MiB or GiB")
}

fn parse(
    text: &str,
    units: &[(&str, u64)],
    example: &'static str,
    unit_names: &'static str,
) -> Result<u64, QuantityError> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(unit).unwrap_or(text);
    if digits.is_empty() {
        return Err(QuantityError::NoNumber { example });
    }
    if unit.is_empty() {
        return Err(QuantityError::NoUnit { example });
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(QuantityError::UnknownUnit { units: unit_names });
    };
    let number: u64 = digits
        .parse()
        .map_err(|_only_overflow_is_left| QuantityError::TooLarge)?;
    number.checked_mul(*factor).ok_or(QuantityError::TooLarge)
}

/// Shows a duration the way it would be written in a file.
pub(super) struct ShowDuration(pub(super) Duration);

impl fmt::Display for ShowDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        show(f, millis, &DURATION_UNITS, "s")
    }
}

/// Shows a number of bytes the way it would be written in a file.
pub(super) struct ShowSize(pub(super) u64);

impl fmt::Display for ShowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.0, &SIZE_UNITS, "B")
    }
}

/// With the largest unit that leaves a whole number.
fn show(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)], unit_of_zero: &str) -> fmt::Result {
    let whole = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor));
    match whole {
        Some((unit, factor)) if amount > 0 => write!(f, "{}{unit}", amount / factor),
        _ => write!(f, "{amount}{unit_of_zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_one_number_and_one_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("3d"), Ok(Duration::from_secs(259_200)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("4GiB"), Ok(1 << 32));
    }

    #[test]
    fn anything_else_says_what_is_missing() {
        for text in [
            "",
            "s",
            "-1s",
            " 1s",
            "1.5s",
            "1h30m",
            "1 s",
            "1S",
            "10",
            "999999999999d",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        assert!(matches!(parse_duration("10"), Err(QuantityError::NoUnit { .. })));
        assert!(matches!(parse_size("32MB"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(parse_size("many"), Err(QuantityError::NoNumber { .. })));
        assert_eq!(parse_size("99999999999GiB"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["0s", "1ms", "250ms", "90s", "5m", "1h", "7d"] {
            assert_eq!(ShowDuration(parse_duration(text).unwrap()).to_string(), text);
        }
        for text in ["0B", "1023B", "1KiB", "1025KiB", "1MiB", "4GiB"] {
            assert_eq!(ShowSize(parse_size(text).unwrap()).to_string(), text);
        }
    }
}
