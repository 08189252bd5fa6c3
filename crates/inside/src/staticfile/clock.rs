//! Times in the formats of HTTP and access logs.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const HTTP: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const LOG: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
const LIST: &[BorrowedFormatItem<'_>] =
    format_description!("[day]-[month repr:short]-[year] [hour]:[minute]");

fn text(seconds: i64, format: &[BorrowedFormatItem<'_>]) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

/// Returns a time as `Sun, 09 Sep 2001 01:46:40 GMT`.
pub(super) fn http_date(seconds: i64) -> String {
    text(seconds, HTTP)
}

/// Returns a time as `09-Sep-2001 01:46`, for lists of files.
pub(super) fn list_date(seconds: i64) -> String {
    text(seconds, LIST)
}

/// Returns the current time as `29/Nov/2026:12:30:00 +0000`.
pub(super) fn log_date() -> String {
    text(OffsetDateTime::now_utc().unix_timestamp(), LOG)
}

/// Parses a date to Unix seconds. Returns `None` for the obsolete formats.
pub(super) fn parse_http_date(text: &str) -> Option<i64> {
    time::PrimitiveDateTime::parse(text.trim(), HTTP)
        .ok()
        .map(|time| time.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(http_date(1_000_000_000), "Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(
            parse_http_date("Sun, 09 Sep 2001 01:46:40 GMT"),
            Some(1_000_000_000)
        );
        assert_eq!(parse_http_date("2001-09-09"), None);
        assert_eq!(list_date(1_000_000_000), "09-Sep-2001 01:46");
        assert!(log_date().ends_with(" +0000"));
    }
}
