//! Recognises messages that were received before, byte for byte. An emitter repeats each message every twenty seconds, so nearly
//! every message only moves a time stamp and need not be parsed.
//!
//! The result is the same as with parsing: an entry holds the places of the message's endpoints, and counts only while nothing at
//! all has changed in their pools ([`Place`]). After any change (another registration, an unregistration, a failure, a prune) the
//! message is parsed again.

use super::Registry;
use super::pool::{Place, Pool};
use hashbrown::HashTable;
use std::sync::Arc;
use std::time::Instant;

/// A keyed hash of a message, 128 bits long. The key must be secret and random, because messages with equal fingerprints are
/// treated as equal.
pub type Fingerprint = [u64; 2];

/// The number of tables: many small ones, so that none takes long to grow or to sweep. It is a power of two.
const SHARDS: usize = 256;
const SMALLEST: usize = 64;
/// The number of memory reads that a processor has under way at once, approximately.
const AHEAD: usize = 16;

/// The messages that were received before. The task that applies the messages owns it. A message may carry a label, which is a
/// number that the caller chooses.
#[derive(Debug)]
pub struct Repeats {
    shards: Box<[Shard]>,
}

#[derive(Debug)]
struct Shard {
    entries: HashTable<Entry>,
    /// The number of entries above which the shard is swept.
    limit: usize,
}

/// One uri of a message. The entry of the first uri has the message's fingerprint; the others have those that follow it.
#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    /// The parts of the uri's [`Place`]. They stand here one by one, so that an entry has 32 bytes.
    pool: Arc<Pool>,
    version: u32,
    index: u16,
    label: u8,
    /// The number of the message's uris.
    uris: u8,
}

impl Default for Repeats {
    fn default() -> Self {
        let shard = || Shard {
            entries: HashTable::new(),
            limit: SMALLEST,
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }
}

impl Repeats {
    /// Moves the time stamps of all registrations of the message, if it was received before and nothing has changed since.
    /// Returns the number of registrations and the label, or `None` if the message must be parsed.
    pub fn refresh(
        &self,
        fingerprint: Fingerprint,
        registry: &Registry,
        now: Instant,
    ) -> Option<(usize, u8)> {
        let first = self.entry(fingerprint)?;
        for uri in 0..first.uris {
            let entry = self.entry(of_uri(fingerprint, uri))?;
            if !entry.pool.refresh_at(entry.version, entry.index, now) {
                return None;
            }
        }
        registry.touch(now);
        Some((usize::from(first.uris), first.label))
    }

    /// Loads what [`refresh`](Self::refresh) will read for these messages into the processor's cache, for many messages at once:
    /// one by one, each message would wait for the memory four times. It changes nothing.
    pub fn look_ahead(&self, fingerprints: &[Fingerprint]) {
        for some in fingerprints.chunks(AHEAD) {
            let mut pools = [None; AHEAD];
            for (pool, fingerprint) in pools.iter_mut().zip(some) {
                *pool = self.entry(*fingerprint).map(|entry| &entry.pool);
            }
            for pool in pools.into_iter().flatten() {
                pool.look_ahead();
            }
        }
    }

    fn entry(&self, fingerprint: Fingerprint) -> Option<&Entry> {
        let is = |entry: &Entry| entry.fingerprint == fingerprint;
        self.shards[at(fingerprint)]
            .entries
            .find(fingerprint[0], is)
    }

    /// Remembers the places that a message registered. Do not call it for messages that are sent only once.
    pub fn record(
        &mut self,
        fingerprint: Fingerprint,
        places: Vec<Place>,
        label: u8,
        registry: &Registry,
    ) {
        let Ok(uris) = u8::try_from(places.len()) else {
            return;
        };
        for (uri, place) in (0..uris).zip(places) {
            let fingerprint = of_uri(fingerprint, uri);
            let shard = &mut self.shards[at(fingerprint)];
            shard.make_room(registry.endpoints());
            let Place {
                pool,
                version,
                index,
            } = place;
            shard.insert(Entry {
                fingerprint,
                pool,
                version,
                index,
                label,
                uris,
            });
        }
    }

    /// Returns the number of remembered uris.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    fn insert(&mut self, entry: Entry) {
        let hash = |entry: &Entry| entry.fingerprint[0];
        let is = |known: &Entry| known.fingerprint == entry.fingerprint;
        match self.entries.find_mut(hash(&entry), is) {
            Some(known) => *known = entry,
            None => drop(self.entries.insert_unique(hash(&entry), entry, hash)),
        }
    }

    /// Forgets the entries that no longer count, and all entries if too many are left, which happens when a sender varies the
    /// text of its messages without changing their meaning.
    fn make_room(&mut self, endpoints: usize) {
        if self.entries.len() < self.limit {
            return;
        }
        self.entries.retain(|entry| entry.pool.is_at(entry.version));
        if self.entries.len() > SMALLEST + 4 * endpoints / SHARDS {
            self.entries.clear();
        }
        self.limit = SMALLEST.max(2 * self.entries.len());
    }
}

fn of_uri([first, second]: Fingerprint, uri: u8) -> Fingerprint {
    [first.wrapping_add(uri.into()), second]
}

/// Returns the shard of a fingerprint. The hash tables in the shards use the other half of the fingerprint.
fn at(fingerprint: Fingerprint) -> usize {
    fingerprint[1] as usize % SHARDS
}
