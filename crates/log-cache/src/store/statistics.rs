//! The numbers of a store as a whole.

use super::Store;

/// The numbers of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) envelopes: usize,
    pub(crate) bytes: usize,
    pub(crate) sources: usize,
    pub(crate) received: u64,
    /// The stored envelopes that were dropped to make room.
    pub(crate) expired: u64,
    /// The timestamp of the oldest envelope.
    pub(crate) oldest: Option<i64>,
}

impl Store {
    pub(crate) fn statistics(&self) -> Statistics {
        let oldest = self.sources.values().filter_map(|s| s.kept.front());
        Statistics {
            envelopes: self.envelopes,
            bytes: self.bytes,
            sources: self.sources.len(),
            received: self.received,
            expired: self.stored - self.envelopes as u64,
            oldest: oldest.map(|kept| kept.timestamp).min(),
        }
    }
}
