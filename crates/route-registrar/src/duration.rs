//! Durations as Go writes them: `20s`, `1m30s`, `500ms`.

use std::time::Duration;

/// `None`: no number with a unit.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, None);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let (unit, tail) = tail.split_at(
            tail.find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(tail.len()),
        );
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = Some(total.unwrap_or(Duration::ZERO).checked_add(part)?);
        rest = tail;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        for (text, millis) in [
            ("20s", Some(20_000)),
            ("1m30s", Some(90_000)),
            ("0.5s", Some(500)),
            ("20", None),
            ("", None),
            ("-1s", None),
        ] {
            assert_eq!(parse(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }
}
