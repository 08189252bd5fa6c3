//! Keeps the newest publications, for subscribers that come back after their connection broke.

use crate::journal::Publication;
use kit::ring::Ring;
use prost::Message as _;
use std::time::SystemTime;

/// The number of publications that are kept.
const KEPT: usize = 1024;
/// The size of all kept publications above which the oldest are dropped, in bytes on the wire.
const LARGEST: usize = 16 << 20;
/// The size that is assumed for one change of an instance.
const CHANGE: usize = 1024;

/// A place in the stream: behind the first `part` events of the publication with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) number: u64,
    pub(super) part: usize,
}

impl Position {
    /// Reads `number-part`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, part) = text.split_once('-')?;
        Some(Self {
            number: number.parse().ok()?,
            part: part.parse().ok()?,
        })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.number, self.part)
    }
}

/// A publication and the id of the request that caused it.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) publication: Publication,
    pub(super) trace: String,
    pub(super) at: SystemTime,
    size: usize,
}

#[derive(Debug)]
pub(super) struct Past {
    ring: Ring<Published>,
    /// The size of all kept publications.
    size: usize,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            ring: Ring::new(KEPT),
            size: 0,
        }
    }
}

impl Past {
    /// Returns the number that the next publication gets.
    pub(super) fn next(&self) -> u64 {
        self.ring.last() + 1
    }

    /// Returns the place before the next publication.
    pub(super) fn end(&self) -> Position {
        Position {
            number: self.next(),
            part: 0,
        }
    }

    /// Returns the place before the oldest publication that is kept.
    pub(super) fn beginning(&self) -> Position {
        Position {
            number: self.next() - self.ring.len() as u64,
            part: 0,
        }
    }

    pub(super) fn push(&mut self, publication: Publication, trace: &str, at: SystemTime) {
        let size = size(&publication);
        self.size += size;
        if self.ring.len() == KEPT {
            self.drop_oldest();
        }
        self.ring.push(Published {
            publication,
            trace: trace.to_owned(),
            at,
            size,
        });
        while self.size > LARGEST && !self.ring.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.ring.drop_oldest() {
            self.size -= oldest.size;
        }
    }

    /// Returns the publications from this place on, each with its number. The first one is that of the place itself, if it is
    /// there already. `None`: the place is not in this stream, or some of its publications are not kept any more.
    pub(super) fn since(
        &self,
        position: Position,
    ) -> Option<impl Iterator<Item = (u64, &Published)>> {
        if position.number == 0 || position.number > self.next() {
            return None;
        }
        let later = self.ring.after(position.number - 1);
        (later.missed == 0).then_some(later.entries)
    }
}

/// Returns about how much memory a publication holds.
fn size(publication: &Publication) -> usize {
    match publication {
        Publication::DesiredCreated(lrp) | Publication::DesiredRemoved(lrp) => lrp.encoded_len(),
        Publication::DesiredChanged { before, after } => before.encoded_len() + after.encoded_len(),
        Publication::Actual(changes) => changes.len() * CHANGE,
        Publication::TaskCreated(task) | Publication::TaskRemoved(task) => task.encoded_len(),
        Publication::TaskChanged { before, after } => before.encoded_len() + after.encoded_len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wire::bbs::DesiredLrp;

    fn publication(annotation: usize) -> Publication {
        Publication::DesiredCreated(Arc::new(DesiredLrp {
            annotation: "x".repeat(annotation),
            ..DesiredLrp::default()
        }))
    }

    fn numbers(past: &Past, number: u64) -> Option<Vec<u64>> {
        let found = past.since(Position { number, part: 0 })?;
        Some(found.map(|(number, _)| number).collect())
    }

    #[test]
    fn a_place_is_found_as_long_as_nothing_after_it_was_dropped() {
        let mut past = Past::default();
        assert_eq!(numbers(&past, 1), Some(vec![]));
        assert_eq!(past.beginning(), past.end());
        for _ in 0..3 {
            past.push(publication(0), "", SystemTime::UNIX_EPOCH);
        }
        assert_eq!(numbers(&past, 2), Some(vec![2, 3]));
        assert_eq!(numbers(&past, past.end().number), Some(vec![]));
        for unknown in [0, 5, u64::MAX] {
            assert_eq!(numbers(&past, unknown), None, "{unknown}");
        }
        for _ in 0..KEPT {
            past.push(publication(0), "", SystemTime::UNIX_EPOCH);
        }
        assert_eq!(numbers(&past, 3), None);
        assert_eq!(numbers(&past, 4).unwrap().len(), KEPT);
        assert_eq!(past.beginning(), Position { number: 4, part: 0 });
    }

    #[test]
    fn large_publications_leave_earlier() {
        let mut past = Past::default();
        for _ in 0..5 {
            past.push(publication(LARGEST / 4), "", SystemTime::UNIX_EPOCH);
        }
        assert!(past.size <= LARGEST, "{}", past.size);
        assert_eq!(numbers(&past, 1), None);
        assert_eq!(numbers(&past, 5), Some(vec![5]));
        past.push(publication(LARGEST + 1), "", SystemTime::UNIX_EPOCH);
        assert_eq!((past.size, numbers(&past, 6)), (0, None));
        assert_eq!(numbers(&past, 7), Some(vec![]));
    }

    #[test]
    fn a_position_is_text_and_back() {
        let position = Position { number: 7, part: 2 };
        assert_eq!(position.to_string(), "7-2");
        assert_eq!(Position::parse("7-2"), Some(position));
        for wrong in ["", "7", "7-", "-2", "x-1", "7-2-1"] {
            assert_eq!(Position::parse(wrong), None, "{wrong:?}");
        }
    }
}
