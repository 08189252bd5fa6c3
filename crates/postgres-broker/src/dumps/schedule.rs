//! Decides when a dump is due, and which dumps are removed. The module is pure.

use super::place::Dump;
use crate::names::Guid;
use time::{Duration, OffsetDateTime, Time};

/// Returns the last moment at which this time of the day came (UTC).
fn last_time(now: OffsetDateTime, at: Time) -> OffsetDateTime {
    let today = now.replace_time(at);
    match today <= now {
        true => today,
        false => today - Duration::DAY,
    }
}

/// Returns whether an instance needs a dump: the time of the day came after its newest dump, and after its creation. A night that was
/// missed is made up for.
pub(crate) fn is_due(
    now: OffsetDateTime,
    at: Time,
    newest: Option<OffsetDateTime>,
    created: OffsetDateTime,
) -> bool {
    let last = last_time(now, at);
    last >= created && newest.is_none_or(|newest| newest < last)
}

/// Returns the dumps that are too old. The newest one of an instance that exists stays.
pub(crate) fn removable(
    now: OffsetDateTime,
    keep_days: u32,
    instances: &[Guid],
    dumps: &[Dump],
) -> Vec<Dump> {
    let oldest = now - Duration::days(keep_days.into());
    let newest = |guid: Guid| {
        let own = dumps.iter().filter(|dump| dump.instance == guid);
        own.map(|dump| dump.at).max()
    };
    let is_kept = |dump: &Dump| {
        dump.at >= oldest
            || (instances.contains(&dump.instance) && newest(dump.instance) == Some(dump.at))
    };
    dumps
        .iter()
        .filter(|dump| !is_kept(dump))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{datetime, time};

    #[test]
    fn a_dump_is_due_once_a_night_and_after_a_missed_one() {
        let at = time!(3:00);
        let old = datetime!(2026-01-01 0:00 UTC);
        for (now, newest, created, wanted) in [
            (datetime!(2026-11-30 3:00 UTC), None, old, true),
            (
                datetime!(2026-11-30 2:59 UTC),
                Some(datetime!(2026-11-29 3:00 UTC)),
                old,
                false,
            ),
            (
                datetime!(2026-11-30 3:01 UTC),
                Some(datetime!(2026-11-29 3:00 UTC)),
                old,
                true,
            ),
            (
                datetime!(2026-11-30 9:00 UTC),
                Some(datetime!(2026-11-30 3:00 UTC)),
                old,
                false,
            ),
            // A dump by hand in the evening does not replace that of the night.
            (
                datetime!(2026-11-30 3:01 UTC),
                Some(datetime!(2026-11-29 22:00 UTC)),
                old,
                true,
            ),
            // The machine was off at night.
            (
                datetime!(2026-11-30 9:00 UTC),
                Some(datetime!(2026-11-28 3:00 UTC)),
                old,
                true,
            ),
            // A new instance waits for the night.
            (
                datetime!(2026-11-30 9:00 UTC),
                None,
                datetime!(2026-11-30 8:00 UTC),
                false,
            ),
            (
                datetime!(2026-12-01 3:00 UTC),
                None,
                datetime!(2026-11-30 8:00 UTC),
                true,
            ),
        ] {
            assert_eq!(is_due(now, at, newest, created), wanted, "{now} {newest:?}");
        }
    }

    #[test]
    fn old_dumps_are_removed_but_the_last_one_of_an_instance() {
        let guid = |n: u32| Guid::parse(&format!("00000000-0000-4000-8000-{n:012}")).unwrap();
        let dump = |n: u32, at| Dump {
            instance: guid(n),
            at,
            bytes: 1,
        };
        let (old, older, new) = (
            datetime!(2026-11-01 3:00 UTC),
            datetime!(2026-10-31 3:00 UTC),
            datetime!(2026-11-29 3:00 UTC),
        );
        let dumps = [
            dump(1, older),
            dump(1, new),
            dump(2, older),
            dump(2, old),
            dump(3, old),
        ];
        let found = removable(
            datetime!(2026-11-30 3:00 UTC),
            14,
            &[guid(1), guid(2)],
            &dumps,
        );
        assert_eq!(found, [dump(1, older), dump(2, older), dump(3, old)]);
    }
}
