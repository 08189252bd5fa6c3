//! Collects the changes that a router must confirm, so that many of them share a message. It is pure: no clock, no IO.
//!
//! The first change is confirmed at once, those that follow it within [`PACE`] together. While many changes come, the batches come
//! less often, up to [`SLOWEST`], because each costs a message. A route that changes twice meanwhile is confirmed once. What a burst has beyond [`MOST`] is not confirmed; whoever waits for it asks the router.

use crate::registry::RouteKey;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The shortest time between two batches of receipts.
pub const PACE: Duration = Duration::from_millis(5);
/// The longest time between two batches of receipts.
pub const SLOWEST: Duration = Duration::from_millis(20);
/// The number of changes in a batch from which the next batch waits twice as long.
const MANY: usize = 4;
/// The maximum number of routes in a batch.
pub const MOST: usize = 500;

/// A change of a route that was applied to the table. Times are Unix nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub generation: u64,
    pub emitted_at_ns: u64,
    pub applied_at_ns: u64,
}

/// The changes that wait for their receipt.
#[derive(Debug)]
pub struct Receipts {
    waiting: BTreeMap<String, Applied>,
    not_before: Instant,
    /// The time between the last batch and the next one.
    pace: Duration,
    skipped: u64,
}

impl Receipts {
    pub fn new(now: Instant) -> Self {
        Self {
            waiting: BTreeMap::new(),
            not_before: now,
            pace: PACE,
            skipped: 0,
        }
    }

    /// Records that a change of a route was applied. Of several changes the newest generation counts.
    pub fn record(&mut self, uri: &str, applied: Applied) {
        let uri = RouteKey::new(uri).uri().to_owned();
        let has_room = self.waiting.len() < MOST;
        match self.waiting.get_mut(&uri) {
            Some(known) if known.generation > applied.generation => {}
            Some(known) => *known = applied,
            None if has_room => drop(self.waiting.insert(uri, applied)),
            None => self.skipped += 1,
        }
    }

    /// Returns when the next batch may be sent; `None` if nothing waits.
    pub fn due_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.not_before)
    }

    /// Returns the next batch: routes in their normal form, and their changes. It is empty if it is not due.
    pub fn take(&mut self, now: Instant) -> Vec<(String, Applied)> {
        if self.due_at().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.pace = match self.waiting.len() {
            MANY.. => (2 * self.pace).min(SLOWEST),
            _ => PACE,
        };
        self.not_before = now + self.pace;
        std::mem::take(&mut self.waiting).into_iter().collect()
    }

    /// Returns the number of changes that were not confirmed because too many came at once.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a moment to count from.
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other origin")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn change(generation: u64) -> Applied {
        Applied {
            generation,
            ..Applied::default()
        }
    }

    #[test]
    fn the_first_change_is_due_at_once_and_those_after_it_together() {
        let start = origin();
        let mut receipts = Receipts::new(start);
        assert_eq!(receipts.due_at(), None);
        receipts.record("A.test/", change(1));
        assert_eq!(receipts.due_at(), Some(start));
        assert_eq!(receipts.take(start), [("a.test".to_owned(), change(1))]);
        receipts.record("b.test", change(2));
        receipts.record("c.test", change(3));
        assert!(receipts.take(start).is_empty(), "too early");
        assert_eq!(receipts.due_at(), Some(start + PACE));
        let routes: Vec<_> = receipts
            .take(start + PACE)
            .into_iter()
            .map(|r| r.0)
            .collect();
        assert_eq!(routes, ["b.test", "c.test"]);
        assert_eq!(receipts.due_at(), None);
    }

    #[test]
    fn batches_come_less_often_while_many_changes_come() {
        let mut now = origin();
        let mut receipts = Receipts::new(now);
        let mut pause_after = |changes: u64| {
            for n in 0..changes {
                receipts.record(&format!("{n}.test"), change(1));
            }
            now = receipts.due_at().unwrap_or(now);
            assert_eq!(receipts.take(now).len() as u64, changes);
            receipts.record("next.test", change(1));
            let pause = receipts.due_at().unwrap() - now;
            receipts.waiting.clear();
            pause
        };
        assert_eq!(pause_after(1), PACE);
        assert_eq!(pause_after(4), 2 * PACE);
        assert_eq!(pause_after(50), SLOWEST);
        assert_eq!(pause_after(MOST as u64), SLOWEST);
        assert_eq!(pause_after(3), PACE);
    }

    #[test]
    fn the_newest_change_of_a_route_counts() {
        let start = origin();
        let mut receipts = Receipts::new(start);
        for generation in [4, 9, 7] {
            receipts.record("a.test", change(generation));
        }
        assert_eq!(receipts.take(start), [("a.test".to_owned(), change(9))]);
    }

    #[test]
    fn a_burst_is_bounded() {
        let start = origin();
        let mut receipts = Receipts::new(start);
        for n in 0..MOST as u64 + 3 {
            receipts.record(&format!("{n}.test"), change(n));
        }
        assert_eq!((receipts.take(start).len(), receipts.skipped()), (MOST, 3));
    }
}
