//! Times as a person types them. The module is pure.

use anyhow::{Result, bail};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, Time, UtcOffset};

/// Reads a time: a time of day in UTC, a time of RFC 3339, or a duration before now.
pub(super) fn parse(text: &str, now: OffsetDateTime) -> Result<OffsetDateTime> {
    if text == "now" {
        return Ok(now);
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time.to_offset(UtcOffset::UTC));
    }
    if let Some(day) = time_of_day(text) {
        let today = now.to_offset(UtcOffset::UTC).replace_time(day);
        // The time of day that comes next has not been yet, so the last one is meant.
        return Ok(if today > now {
            today - Duration::days(1)
        } else {
            today
        });
    }
    if let Some(before) = duration(text)
        && let Some(time) = now.checked_sub(before)
    {
        return Ok(time);
    }
    bail!(
        "time {text:?} is none: use a time of day in UTC (10:04:31.250), a time of RFC 3339 (2026-11-30T10:04:31Z), a duration before now (90s, 5m, 2h), or now"
    )
}

/// Returns a time as the router's pages read and write it.
pub(super) fn written(time: OffsetDateTime) -> Result<String> {
    Ok(time.to_offset(UtcOffset::UTC).format(&Rfc3339)?)
}

fn time_of_day(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let (hour, minute) = (parts.next()?, parts.next()?);
    let second = parts.next().unwrap_or("0");
    if parts.next().is_some() {
        return None;
    }
    let (second, fraction) = second.split_once('.').unwrap_or((second, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}");
    Time::from_hms_nano(
        hour.parse().ok()?,
        minute.parse().ok()?,
        second.parse().ok()?,
        nanoseconds.parse().ok()?,
    )
    .ok()
}

fn duration(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let number: u32 = number.parse().ok()?;
    Some(Duration::seconds(i64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = OffsetDateTime::parse("2026-11-30T10:05:00.5Z", &Rfc3339).unwrap();
        for (text, wanted) in [
            ("now", "2026-11-30T10:05:00.5Z"),
            ("10:04:31.25", "2026-11-30T10:04:31.25Z"),
            ("10:05", "2026-11-30T10:05:00Z"),
            ("10:06", "2026-11-29T10:06:00Z"),
            ("90s", "2026-11-30T10:03:30.5Z"),
            ("2h", "2026-11-30T08:05:00.5Z"),
            ("2026-11-30T11:04:31+01:00", "2026-11-30T10:04:31Z"),
        ] {
            let time = parse(text, now).unwrap();
            assert_eq!(written(time).unwrap(), wanted, "{text}");
        }
        for text in [
            "",
            "10",
            "25:00",
            "10:04:31.",
            "10:04:31:0",
            "5d",
            "-5m",
            "yesterday",
        ] {
            let error = parse(text, now).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
