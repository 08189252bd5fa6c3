//! Quantities of bytes: `256M`, `0.5G`, `65536K`, `128b`, `1 GiB` without the blank. Units are binary, their case does not matter.

/// Why a text is no quantity. The message is Go's bytefmt's.
pub const UNIT_NEEDED: &str = "byte quantity must be a positive integer with a unit of measurement like M, MB, MiB, G, GiB, or GB";

/// Reads a quantity, in bytes; part of a byte is dropped. `None`: the unit or the number is missing, or it is negative
/// or larger than 64 bits hold.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_uppercase();
    let (number, unit) = text.split_at(text.find(char::is_alphabetic)?);
    let shift = match unit {
        "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        "P" | "PB" | "PIB" => 50,
        "E" | "EB" | "EIB" => 60,
        _ => return None,
    };
    if let Ok(whole) = number.trim_start_matches('+').parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let number: f64 = number.parse().ok()?;
    let total = number * (1_u64 << shift) as f64;
    // 2^64, which 64 bits do not hold
    (0.0..18_446_744_073_709_551_616.0)
        .contains(&total)
        .then_some(total as u64)
}

/// Reads a quantity, in whole mebibytes; part of one is dropped.
pub fn megabytes(text: &str) -> Option<u64> {
    bytes(text).map(|bytes| bytes >> 20)
}

/// Prints a quantity with the largest unit that leaves at least 1: `12.4M`, `1G`, `0B`.
pub fn show(bytes: u64) -> String {
    const UNITS: [(&str, u32); 6] = [
        ("E", 60),
        ("P", 50),
        ("T", 40),
        ("G", 30),
        ("M", 20),
        ("K", 10),
    ];
    for (unit, shift) in UNITS {
        let size = 1_u64 << shift;
        if bytes >= size {
            let text = format!("{:.1}", bytes as f64 / size as f64);
            return format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text));
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_shortest_form() {
        for (n, text) in [
            (0, "0B"),
            (5, "5B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (1 << 20, "1M"),
            (1_300_000, "1.2M"),
            (13_002_342, "12.4M"),
            (268_435_456, "256M"),
            (1 << 30, "1G"),
            (1 << 40, "1T"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(show(n), text);
        }
    }

    #[test]
    fn a_number_and_a_unit() {
        for (text, bytes_) in [
            ("256M", Some(256 << 20)),
            ("1g", Some(1 << 30)),
            ("1GiB", Some(1 << 30)),
            ("0.5G", Some(512 << 20)),
            ("1.5k", Some(1536)),
            ("65536K", Some(64 << 20)),
            (" 64mb ", Some(64 << 20)),
            ("128B", Some(128)),
            ("0M", Some(0)),
            ("1E", Some(1 << 60)),
            ("15E", Some(15 << 60)),
            ("16E", None),
            ("256", None),
            ("M", None),
            ("", None),
            ("-1M", None),
            ("1X", None),
            ("1 M", None),
            ("1.2.3M", None),
            ("NaNM", None),
        ] {
            assert_eq!(bytes(text), bytes_, "{text:?}");
        }
        assert_eq!(megabytes("1536K"), Some(1));
    }
}
