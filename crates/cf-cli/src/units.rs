//! Quantities and times, as people read and type them.

use go_values::quantity;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const K: u64 = 1024;

/// Formats bytes for upload progress: `1.50 MiB`.
pub(crate) fn kibibytes(n: u64) -> String {
    match n {
        n if n >= K * K * K => format!("{:.2} GiB", n as f64 / (K * K * K) as f64),
        n if n >= K * K => format!("{:.2} MiB", n as f64 / (K * K) as f64),
        n if n >= K => format!("{:.2} KiB", n as f64 / K as f64),
        n => format!("{n} B"),
    }
}

/// The description of a valid quantity, with the words of the cf CLI.
pub(crate) const QUANTITY: &str =
    "Byte quantity must be an integer with a unit of measurement like M, MB, G, or GB";

/// Parses `256M`, `0.5G`, `65536K` or `512mb` as mebibytes. Returns `None` if it is no such quantity, or less than one mebibyte.
pub(crate) fn megabytes(text: &str) -> Option<u64> {
    quantity::megabytes(text).filter(|megabytes| *megabytes > 0)
}

/// Formats a log rate; -1 means unlimited.
pub(crate) fn log_rate_limit(limit: i64) -> String {
    u64::try_from(limit).map_or_else(
        |_| "unlimited".into(),
        |n| format!("{}/s", quantity::show(n)),
    )
}

/// Formats an RFC 3339 time as `Tue 02 Jan 10:00:00 UTC 2024`. Text that is no time is returned unchanged.
pub(crate) fn long_date(rfc3339: &str) -> String {
    let format = format_description!(
        "[weekday repr:short] [day] [month repr:short] [hour]:[minute]:[second] UTC [year]"
    );
    utc(rfc3339)
        .and_then(|t| t.format(&format).ok())
        .unwrap_or_else(|| rfc3339.to_owned())
}

/// Formats an RFC 3339 time as `2024-01-02T10:00:00.00+0000`.
pub(crate) fn stamp(rfc3339: &str) -> String {
    utc(rfc3339).map_or_else(|| rfc3339.to_owned(), log_stamp)
}

fn utc(rfc3339: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(rfc3339, &Rfc3339)
        .ok()
        .map(|t| t.to_offset(time::UtcOffset::UTC))
}

fn log_stamp(at: OffsetDateTime) -> String {
    let format = format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:2]+0000"
    );
    at.format(&format).unwrap_or_default()
}

/// Formats Unix nanoseconds as the time of a log line.
pub(crate) fn log_time(nanoseconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into())
        .map(log_stamp)
        .unwrap_or_default()
}

/// Returns the moment `seconds` before `now`, as `2024-01-02T10:00:00Z`.
pub(crate) fn since(now: OffsetDateTime, seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    (now - time::Duration::seconds(seconds))
        .format(&format)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_need_a_unit() {
        assert_eq!(
            ["256M", "1g", "64mb", "2GB", "0.5G", "65536K", "1GiB"].map(megabytes),
            [256, 1024, 64, 2048, 512, 64, 1024].map(Some)
        );
        assert_eq!(
            ["256", "M", "-1M", "0M", "1K", "", "1.5"].map(megabytes),
            [None; 7]
        );
    }

    #[test]
    fn times_are_shown_as_the_original_shows_them() {
        assert_eq!(
            long_date("2024-01-02T11:00:00+01:00"),
            "Tue 02 Jan 10:00:00 UTC 2024"
        );
        assert_eq!(stamp("2024-01-02T10:00:00Z"), "2024-01-02T10:00:00.00+0000");
        assert_eq!(
            log_time(1_704_189_600_120_000_000),
            "2024-01-02T10:00:00.12+0000"
        );
        assert_eq!(
            since(time::macros::datetime!(2024-01-02 10:00:10 UTC), 10),
            "2024-01-02T10:00:00Z"
        );
    }
}
