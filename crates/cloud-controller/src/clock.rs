//! Times in the formats of the API and of Diego. The database stores times as microseconds since the epoch.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000)
        .expect("the year is below 294,000")
}

/// Formats a time as `2026-08-20T10:00:00Z`: UTC, whole seconds.
pub(crate) fn rfc3339(micros: i64) -> String {
    OffsetDateTime::from_unix_timestamp(micros.div_euclid(1_000_000))
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Formats a time in nanoseconds as `2026-08-20T10:00:00.001234Z`: UTC, whole microseconds.
pub(crate) fn rfc3339_precise(nanos: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos / 1000 * 1000))
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Parses an RFC 3339 text into microseconds since the epoch.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok()
}

/// Formats the annotation of a desired LRP, `seconds.microseconds`, which the sync compares bytewise.
pub(crate) fn annotation(micros: i64) -> String {
    format!(
        "{}.{:06}",
        micros.div_euclid(1_000_000),
        micros.rem_euclid(1_000_000)
    )
}

pub(crate) fn guid() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_the_api_wants() {
        assert_eq!(
            super::rfc3339(1_787_219_999_999_999),
            "2026-08-20T09:59:59Z"
        );
        assert_eq!(
            super::rfc3339_precise(1_787_219_999_000_042_999),
            "2026-08-20T09:59:59.000042Z"
        );
        assert_eq!(
            super::parse("2026-08-20T09:59:59Z"),
            Some(1_787_219_999_000_000)
        );
        assert_eq!(
            super::annotation(1_787_219_999_000_042),
            "1787219999.000042"
        );
    }
}
