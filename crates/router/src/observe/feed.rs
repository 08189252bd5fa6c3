//! The feed of changes of the routing table: the newest changes, each with its number, its time and its source.
//!
//! [`super::registrations`] adds every change. Whoever follows the table reads the changes after the last number that it knows, and
//! learns how many changes it missed if it was too slow. With the same changes the table of an earlier time is made
//! ([`super::table`]). A registration that only repeats an earlier one is no change and costs
//! nothing here.

use kit::ring::Ring;
use route_table::registry::Change;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
pub(crate) struct Feed(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    ring: Ring<Arc<Entry>>,
    /// The time after which no change is missing.
    since: SystemTime,
}

/// All changes that are kept.
#[derive(Debug)]
pub(crate) struct Past {
    /// The time after which no change is missing.
    pub(crate) since: SystemTime,
    /// The changes, oldest first.
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// The changes after a number.
#[derive(Debug)]
pub(crate) struct News {
    /// The number of the newest change; 0 means that there was none.
    pub(crate) last: u64,
    /// The number of changes that are not kept any more.
    pub(crate) missed: u64,
    /// The time after which no change is missing.
    pub(crate) since: SystemTime,
    /// The changes with their numbers, oldest first.
    pub(crate) entries: Vec<(u64, Arc<Entry>)>,
}

impl Feed {
    /// Makes the feed of a table that is empty now.
    pub(crate) fn new(now: SystemTime) -> Self {
        Self(Mutex::new(Kept {
            ring: Ring::new(KEPT),
            since: now,
        }))
    }

    pub(crate) fn push(&self, entry: Entry) {
        let entry = Arc::new(entry);
        let mut kept = self.kept();
        if kept.ring.len() >= KEPT
            && let Some(oldest) = kept.ring.drop_oldest()
        {
            kept.since = kept.since.max(oldest.at);
        }
        kept.ring.push(entry);
    }

    /// Returns the changes after `number`. A number that is still to come is from an earlier process: its reader gets everything
    /// that is kept.
    pub(crate) fn after(&self, number: u64) -> News {
        let kept = self.kept();
        let last = kept.ring.last();
        let later = kept.ring.after(if number > last { 0 } else { number });
        News {
            last,
            missed: later.missed,
            since: kept.since,
            entries: later.entries.map(|(n, entry)| (n, entry.clone())).collect(),
        }
    }

    /// Returns everything that is kept.
    pub(crate) fn past(&self) -> Past {
        let kept = self.kept();
        let entries = kept.ring.after(0).entries;
        Past {
            since: kept.since,
            entries: entries.map(|(_, entry)| entry.clone()).collect(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn feed() -> Feed {
        Feed::new(SystemTime::UNIX_EPOCH)
    }

    fn numbers(feed: &Feed, after: u64) -> (u64, u64, Vec<u64>) {
        let news = feed.after(after);
        let numbers = news.entries.iter().map(|(number, _)| *number).collect();
        (news.last, news.missed, numbers)
    }

    fn push(feed: &Feed, count: usize) {
        for n in 0..count {
            feed.push(Entry {
                at: SystemTime::UNIX_EPOCH + Duration::from_secs(1 + n as u64),
                source: Source::Pruner,
                change: Change::forgotten(&format!("{n}.test")),
            });
        }
    }

    #[test]
    fn a_reader_follows_the_feed_and_notices_another_process() {
        let feed = feed();
        assert_eq!(numbers(&feed, 0), (0, 0, vec![]));
        push(&feed, 3);
        assert_eq!(numbers(&feed, 1), (3, 0, vec![2, 3]));
        assert_eq!(numbers(&feed, 3), (3, 0, vec![]));
        assert_eq!(numbers(&feed, 9), (3, 0, vec![1, 2, 3]));
        assert_eq!(feed.after(2).entries[0].1.change.uri, "2.test");
    }

    #[test]
    fn the_feed_is_bounded_and_counts_what_a_slow_reader_misses() {
        let feed = feed();
        push(&feed, KEPT + 10);
        let (last, missed, kept) = numbers(&feed, 4);
        assert_eq!((last, missed, kept.len()), (KEPT as u64 + 10, 6, KEPT));
        assert_eq!(kept[0], 11);
    }

    #[test]
    fn the_feed_knows_since_when_it_is_complete() {
        let feed = feed();
        let since = |feed: &Feed| feed.past().since.duration_since(SystemTime::UNIX_EPOCH);
        push(&feed, KEPT);
        assert_eq!(since(&feed).unwrap(), Duration::ZERO);
        assert_eq!(feed.past().entries.len(), KEPT);
        push(&feed, 3);
        // The changes of the seconds 1, 2 and 3 are dropped.
        assert_eq!(since(&feed).unwrap(), Duration::from_secs(3));
        assert_eq!(feed.past().entries.len(), KEPT);
        assert_eq!(feed.after(KEPT as u64).since, feed.past().since);
    }
}
