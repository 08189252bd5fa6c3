//! A bounded list of the newest entries of a stream, for readers that come when they like. Entries are numbered from 1. A reader
//! remembers the number of the last entry that it has read and asks for the later ones; if it was too slow, it learns how many
//! entries it has missed.

use std::collections::VecDeque;

/// The newest entries of a stream. It has no lock and no clock: its owner has them.
#[derive(Debug)]
pub struct Ring<T> {
    entries: VecDeque<T>,
    capacity: usize,
    last: u64,
}

/// The part of a ring that is later than a number.
#[derive(Debug)]
pub struct Later<I> {
    /// The number of entries after the reader's number that the ring has dropped.
    pub missed: u64,
    /// The entries with their numbers, oldest first.
    pub entries: I,
}

impl<T> Ring<T> {
    /// Makes an empty ring for at most `capacity` entries. Memory is taken as entries come.
    pub fn new(capacity: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            capacity: capacity.max(1),
            last: 0,
        }
    }

    /// Adds an entry and returns its number. The oldest entry leaves a full ring.
    pub fn push(&mut self, entry: T) -> u64 {
        if self.entries.len() >= self.capacity {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.last += 1;
        self.last
    }

    /// Removes the oldest entry, for owners that also bound the size of all entries.
    pub fn drop_oldest(&mut self) -> Option<T> {
        self.entries.pop_front()
    }

    /// Returns the number of the newest entry that was ever added; 0 means that there was none.
    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entries with a number above `number`. A number that no entry has had yet returns nothing.
    pub fn after(&self, number: u64) -> Later<impl Iterator<Item = (u64, &T)>> {
        let before_first = self.last - self.entries.len() as u64;
        let from = number.clamp(before_first, self.last);
        let skipped = usize::try_from(from - before_first).unwrap_or(usize::MAX);
        Later {
            missed: before_first.saturating_sub(number),
            entries: (from + 1..).zip(self.entries.iter().skip(skipped)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ring: &Ring<char>, number: u64) -> (u64, String) {
        let later = ring.after(number);
        let entries = later.entries.map(|(number, c)| format!("{number}{c}"));
        (later.missed, entries.collect())
    }

    #[test]
    fn a_reader_gets_what_it_has_not_read_and_learns_what_it_missed() {
        let mut ring = Ring::new(3);
        assert_eq!(after(&ring, 0), (0, String::new()));
        assert!(ring.is_empty());
        assert_eq!([ring.push('a'), ring.push('b')], [1, 2]);
        assert_eq!(after(&ring, 0), (0, "1a2b".into()));
        assert_eq!(after(&ring, 1), (0, "2b".into()));
        assert_eq!([ring.push('c'), ring.push('d'), ring.push('e')], [3, 4, 5]);
        assert_eq!((ring.len(), ring.last()), (3, 5));
        assert_eq!(after(&ring, 0), (2, "3c4d5e".into()));
        assert_eq!(after(&ring, 1), (1, "3c4d5e".into()));
        assert_eq!(after(&ring, 2), (0, "3c4d5e".into()));
        assert_eq!(after(&ring, 4), (0, "5e".into()));
        for number in [5, 6, u64::MAX] {
            assert_eq!(after(&ring, number), (0, String::new()), "after {number}");
        }
    }

    #[test]
    fn entries_that_an_owner_drops_count_as_missed() {
        let mut ring = Ring::new(8);
        for c in "abc".chars() {
            ring.push(c);
        }
        assert_eq!(ring.drop_oldest(), Some('a'));
        assert_eq!(after(&ring, 0), (1, "2b3c".into()));
        while ring.drop_oldest().is_some() {}
        assert_eq!(after(&ring, 1), (2, String::new()));
        assert_eq!(ring.push('d'), 4);
        assert_eq!(after(&ring, 1), (2, "4d".into()));
    }
}
