//! Whole numbers: `12`, `-5`, and in base 0 also `0x1f`, `0o17`, `017`, `0b101`, `1_000`.

use crate::quoted;

/// Why a text is no such number. The messages are Go's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    Syntax { text: String },
    Range { text: String },
}

impl std::error::Error for Error {}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (text, reason) = match self {
            Self::Syntax { text } => (text, "invalid syntax"),
            Self::Range { text } => (text, "value out of range"),
        };
        write!(f, "strconv.ParseInt: parsing {}: {reason}", quoted(text))
    }
}

/// Reads a decimal number that `bits` bits (with the sign) hold.
pub fn decimal(text: &str, bits: u32) -> Result<i64, Error> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    read(text, digits, 10, bits)
}

/// Reads an integer in the base that its prefix names, with underscores between digits, as Go's flags do.
pub fn any_base(text: &str, bits: u32) -> Result<i64, Error> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let has_prefix = digits.len() < lower.len();
    let begins_well = has_prefix || !digits.starts_with('_');
    if !begins_well || digits.ends_with('_') || digits.contains("__") {
        return Err(Error::Syntax { text: text.into() });
    }
    read(text, &digits.replace('_', ""), radix, bits)
}

fn read(text: &str, digits: &str, radix: u32, bits: u32) -> Result<i64, Error> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(Error::Syntax { text: text.into() });
    }
    let range = || Error::Range { text: text.into() };
    let size = i128::from_str_radix(digits, radix).map_err(|_| range())?;
    let number = if text.starts_with('-') { -size } else { size };
    let limit = 1_i128 << (bits - 1);
    if !(-limit..limit).contains(&number) {
        return Err(range());
    }
    i64::try_from(number).map_err(|_| range())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_their_bases() {
        for (text, number) in [
            ("0", 0),
            ("12", 12),
            ("-12", -12),
            ("+5", 5),
            ("0x1F", 31),
            ("017", 15),
            ("0o17", 15),
            ("0b101", 5),
            ("1_000", 1000),
            ("0_7", 7),
        ] {
            assert_eq!(any_base(text, 32), Ok(number), "{text}");
        }
        assert_eq!(decimal("017", 16), Ok(17));
    }

    #[test]
    fn mistakes_are_named_as_in_go() {
        let syntax = |text: &str| format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
        for text in ["", "x", "1.5", "-", "1__0", "_1", "1_", "08", "1e3", " 1"] {
            assert_eq!(any_base(text, 32).unwrap_err().to_string(), syntax(text));
        }
        for (text, bits) in [("2147483648", 32), ("99999", 16), (&"9".repeat(60), 64)] {
            assert_eq!(
                any_base(text, bits).unwrap_err().to_string(),
                format!("strconv.ParseInt: parsing {text:?}: value out of range")
            );
        }
        assert_eq!(any_base("-2147483648", 32), Ok(-2_147_483_648));
        assert!(decimal("1_0", 16).is_err() && decimal("0x1", 16).is_err());
    }
}
