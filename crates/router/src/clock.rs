//! The time as text, made once a second: for log lines and for `Date`.

use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// The last second that was formatted.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    second: u64,
    /// The second as `2026-11-26T10:00:00`.
    stamp: [u8; 19],
    /// The second as `Thu, 26 Nov 2026 10:00:00 GMT`.
    date: [u8; 29],
}

/// A time with nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp {
    stamp: [u8; 19],
    nanos: u32,
}

impl Clock {
    pub(crate) fn timestamp(&mut self, at: SystemTime) -> Timestamp {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.turn(since.as_secs());
        Timestamp {
            stamp: self.stamp,
            nanos: since.subsec_nanos(),
        }
    }

    pub(crate) fn date(&mut self, at: SystemTime) -> [u8; 29] {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.turn(since.as_secs());
        self.date
    }

    fn turn(&mut self, second: u64) {
        if second == self.second {
            return;
        }
        let at = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_secs(second);
        let _ = at.format_into(&mut &mut self.stamp[..], STAMP);
        let _ = at.format_into(&mut &mut self.date[..], DATE);
        self.second = second;
    }
}

impl Timestamp {
    /// Writes the time as `2026-11-26T10:00:00.000000001Z`.
    pub(crate) fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stamp);
        let mut nanos = [b'0'; 11];
        (nanos[0], nanos[10]) = (b'.', b'Z');
        let mut left = self.nanos;
        for digit in nanos[1..10].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        out.extend_from_slice(&nanos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn seconds_are_kept_and_left() {
        let mut clock = Clock::default();
        for (at, stamp, date) in [
            (
                Duration::new(1_600_000_000, 7),
                "2020-09-13T12:26:40.000000007Z",
                "Sun, 13 Sep 2020 12:26:40 GMT",
            ),
            (
                Duration::new(1_600_000_000, 999_999_999),
                "2020-09-13T12:26:40.999999999Z",
                "Sun, 13 Sep 2020 12:26:40 GMT",
            ),
            (
                Duration::new(1_767_225_599, 0),
                "2025-12-31T23:59:59.000000000Z",
                "Wed, 31 Dec 2025 23:59:59 GMT",
            ),
        ] {
            let at = UNIX_EPOCH + at;
            let mut out = Vec::new();
            clock.timestamp(at).write_to(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), stamp);
            assert_eq!(clock.date(at), date.as_bytes());
        }
    }
}
