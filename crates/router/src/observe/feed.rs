//! The feed of changes of the routing table: the newest changes, each with its number, its time and its source.
//!
//! [`super::registrations`] adds every change. Whoever follows the table reads the changes after the last number that it knows, and
//! learns how many changes it missed if it was too slow. A registration that only repeats an earlier one is no change and costs
//! nothing here.

use kit::ring::Ring;
use route_table::registry::Change;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The number of changes that are kept.
const KEPT: usize = 4096;

/// The origin of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A message on this subject of NATS.
    Nats(&'static str),
    RoutingApi,
    /// The task that removes endpoints which were silent for too long.
    Pruner,
    /// A request that failed at the endpoint, or that found a route without endpoints.
    Request,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nats(subject) => subject,
            Self::RoutingApi => "routing-api",
            Self::Pruner => "pruner",
            Self::Request => "request",
        }
    }
}

/// A change with its time and its source.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) at: SystemTime,
    pub(crate) source: Source,
    pub(crate) change: Change,
}

/// The newest changes. All generations of workers share one feed.
#[derive(Debug)]
pub(crate) struct Feed(Mutex<Ring<Arc<Entry>>>);

impl Default for Feed {
    fn default() -> Self {
        Self(Mutex::new(Ring::new(KEPT)))
    }
}

/// The changes after a number.
#[derive(Debug)]
pub(crate) struct News {
    /// The number of the newest change; 0 means that there was none.
    pub(crate) last: u64,
    /// The number of changes that are not kept any more.
    pub(crate) missed: u64,
    /// The changes with their numbers, oldest first.
    pub(crate) entries: Vec<(u64, Arc<Entry>)>,
}

impl Feed {
    pub(crate) fn push(&self, entry: Entry) {
        let entry = Arc::new(entry);
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.push(entry);
    }

    /// Returns the changes after `number`. A number that is still to come is from an earlier process: its reader gets everything
    /// that is kept.
    pub(crate) fn after(&self, number: u64) -> News {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = ring.last();
        let later = ring.after(if number > last { 0 } else { number });
        News {
            last,
            missed: later.missed,
            entries: later.entries.map(|(n, entry)| (n, entry.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(feed: &Feed, after: u64) -> (u64, u64, Vec<u64>) {
        let news = feed.after(after);
        let numbers = news.entries.iter().map(|(number, _)| *number).collect();
        (news.last, news.missed, numbers)
    }

    fn push(feed: &Feed, count: usize) {
        for n in 0..count {
            feed.push(Entry {
                at: SystemTime::UNIX_EPOCH,
                source: Source::Pruner,
                change: Change::forgotten(&format!("{n}.test")),
            });
        }
    }

    #[test]
    fn a_reader_follows_the_feed_and_notices_another_process() {
        let feed = Feed::default();
        assert_eq!(numbers(&feed, 0), (0, 0, vec![]));
        push(&feed, 3);
        assert_eq!(numbers(&feed, 1), (3, 0, vec![2, 3]));
        assert_eq!(numbers(&feed, 3), (3, 0, vec![]));
        assert_eq!(numbers(&feed, 9), (3, 0, vec![1, 2, 3]));
        assert_eq!(feed.after(2).entries[0].1.change.uri, "2.test");
    }

    #[test]
    fn the_feed_is_bounded_and_counts_what_a_slow_reader_misses() {
        let feed = Feed::default();
        push(&feed, KEPT + 10);
        let (last, missed, kept) = numbers(&feed, 4);
        assert_eq!((last, missed, kept.len()), (KEPT as u64 + 10, 6, KEPT));
        assert_eq!(kept[0], 11);
    }
}
