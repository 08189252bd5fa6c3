//! Durations: `1h30m`, `1.5s`, `300ms`, `-10s`, `0`. A number is followed by its unit; the parts add up.

use crate::quoted;
use std::time::Duration;

/// Why a text is no duration. The messages are Go's, since scripts and people know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    Invalid { text: String },
    MissingUnit { text: String },
    UnknownUnit { unit: String, text: String },
}

impl std::error::Error for Error {}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid { text } => write!(f, "time: invalid duration {}", quoted(text)),
            Self::MissingUnit { text } => {
                write!(f, "time: missing unit in duration {}", quoted(text))
            }
            Self::UnknownUnit { unit, text } => write!(
                f,
                "time: unknown unit {} in duration {}",
                quoted(unit),
                quoted(text)
            ),
        }
    }
}

/// Reads a duration that is not negative. `None`: the text is no duration, or a negative one.
pub fn parse(text: &str) -> Option<Duration> {
    let nanos = nanoseconds(text).ok()?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// Reads any duration, in nanoseconds. The longest is about 292 years.
pub fn nanoseconds(text: &str) -> Result<i64, Error> {
    let invalid = || Error::Invalid { text: text.into() };
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split(after, |c| c.is_ascii_digit()),
            None => ("", after),
        };
        if number.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let (unit, after) = split(after, |c| c != '.' && !c.is_ascii_digit());
        if unit.is_empty() {
            return Err(Error::MissingUnit { text: text.into() });
        }
        let unit = nanoseconds_of(unit).ok_or_else(|| Error::UnknownUnit {
            unit: unit.into(),
            text: text.into(),
        })?;
        total += part(number, fraction, unit).ok_or_else(invalid)?;
        if total > u128::from(i64::MIN.unsigned_abs()) {
            return Err(invalid());
        }
        rest = after;
    }
    let total = i128::try_from(total).map_err(|_| invalid())?;
    i64::try_from(if is_negative { -total } else { total }).map_err(|_| invalid())
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn nanoseconds_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // the micro sign, and the Greek letter that looks like it
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Nanoseconds of `number.fraction` units; digits of the fraction below a nanosecond are dropped.
fn part(number: &str, fraction: &str, unit: u64) -> Option<u128> {
    const FRACTION_DIGITS: usize = 18;
    let whole: u64 = if number.is_empty() {
        0
    } else {
        number.parse().ok()?
    };
    let digits = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let numerator: u128 = if digits.is_empty() {
        0
    } else {
        digits.parse().ok()?
    };
    let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    Some(u128::from(whole) * u128::from(unit) + numerator * u128::from(unit) / scale)
}

/// Prints a duration: `1m0s`, `2.5s`, `500ms`, `1.5µs`.
pub fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanos, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanos, 1_000_000, 6)),
        _ => {
            let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000, 9);
            let minutes = nanos / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Prints a time that was measured, without what is below a millisecond.
pub fn show_measured(time: Duration) -> String {
    show(Duration::new(
        time.as_secs(),
        time.subsec_millis() * 1_000_000,
    ))
}

fn decimal(nanos: u128, unit: u128, places: usize) -> String {
    let text = format!("{}.{:0places$}", nanos / unit, nanos % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("60s", 60_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1h0m1s", 3_601_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+250ms", 250_000_000),
            ("-1s", -1_000_000_000),
            ("1us", 1_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("0.3s", 300_000_000),
            ("1.0000000001s", 1_000_000_000),
            ("1m1m", 120_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(nanoseconds(text), Ok(nanos), "{text:?}");
        }
    }

    #[test]
    fn mistakes_are_named_as_in_go() {
        for (text, error) in [
            ("", r#"time: invalid duration """#),
            ("-", r#"time: invalid duration "-""#),
            ("s", r#"time: invalid duration "s""#),
            (".s", r#"time: invalid duration ".s""#),
            ("1s ", r#"time: unknown unit "s " in duration "1s ""#),
            ("5", r#"time: missing unit in duration "5""#),
            ("1h5", r#"time: missing unit in duration "1h5""#),
            ("1d", r#"time: unknown unit "d" in duration "1d""#),
            ("1S", r#"time: unknown unit "S" in duration "1S""#),
            ("1m-1s", r#"time: unknown unit "m-" in duration "1m-1s""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
            ("3000000h", r#"time: invalid duration "3000000h""#),
            (
                "99999999999999999999999s",
                r#"time: invalid duration "99999999999999999999999s""#,
            ),
        ] {
            assert_eq!(nanoseconds(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_length_of_time_is_not_negative() {
        assert_eq!(parse("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse("-1s"), None);
        assert_eq!(parse("5"), None);
    }

    #[test]
    fn printed_as_in_go() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (200_000_000, "200ms"),
            (1_500_000, "1.5ms"),
            (1_000_000_000, "1s"),
            (2_500_000_000, "2.5s"),
            (60_000_000_000, "1m0s"),
            (60_300_000_000, "1m0.3s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_601_000_000_001, "1h0m1.000000001s"),
        ] {
            assert_eq!(show(Duration::from_nanos(nanos)), text);
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(show_measured(Duration::from_nanos(1_234_567_890)), "1.234s");
    }
}
