//! Messages that were heard before, byte for byte. An emitter says everything again every twenty seconds: nearly every
//! message only moves a time stamp, and need not be parsed for it.
//!
//! Exactly as right as parsing: an entry says where its message's endpoints stand, and counts only while nothing at all
//! has changed in those pools ([`Place`]). After any change (another registration, an unregistration, a failure, a
//! prune) the message is parsed again, whatever it finds.

use super::Registry;
use super::pool::Place;
use hashbrown::HashTable;
use std::time::Instant;

/// 128 bits of a keyed hash of a message; the key must be secret and random, for equal fingerprints are taken for equal
/// messages.
pub type Fingerprint = [u64; 2];

/// Many small tables, so that none takes long to grow or to sweep. A power of two.
const SHARDS: usize = 256;
const SMALLEST: usize = 64;
/// So many reads of memory can be under way at once, more or less.
const AHEAD: usize = 16;

/// Owned by the one who applies the messages. Each message may carry a number of its caller's, its label.
#[derive(Debug)]
pub struct Repeats {
    shards: Box<[Shard]>,
}

#[derive(Debug)]
struct Shard {
    entries: HashTable<Entry>,
    /// Swept when it has more.
    limit: usize,
}

/// One uri of a message. The first has the message's fingerprint, the others follow.
#[derive(Debug)]
struct Entry {
    fingerprint: Fingerprint,
    place: Place,
    label: u8,
    /// How many the message has.
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
    /// Moves the time stamps of all that the message registers, if it was heard before and nothing has changed since;
    /// tells how many, and the label. `None`: the message must be parsed.
    pub fn refresh(
        &self,
        fingerprint: Fingerprint,
        registry: &Registry,
        now: Instant,
    ) -> Option<(usize, u8)> {
        let first = self.entry(fingerprint)?;
        for uri in 0..first.uris {
            if !self.entry(of_uri(fingerprint, uri))?.place.refresh(now) {
                return None;
            }
        }
        registry.touch(now);
        Some((usize::from(first.uris), first.label))
    }

    /// Brings what [`refresh`](Self::refresh) is going to read for these messages into the processor's cache, for many of
    /// them at once: one by one, each message waits for the memory four times. Changes nothing.
    pub fn look_ahead(&self, fingerprints: &[Fingerprint]) {
        for some in fingerprints.chunks(AHEAD) {
            let mut places = [None; AHEAD];
            for (place, fingerprint) in places.iter_mut().zip(some) {
                *place = self.entry(*fingerprint).map(|entry| &entry.place);
            }
            for place in places.into_iter().flatten() {
                place.look_ahead();
            }
        }
    }

    fn entry(&self, fingerprint: Fingerprint) -> Option<&Entry> {
        let is = |entry: &Entry| entry.fingerprint == fingerprint;
        self.shards[at(fingerprint)]
            .entries
            .find(fingerprint[0], is)
    }

    /// Remembers what a message did. Not for messages that are sent only once.
    pub fn note(
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
            shard.insert(Entry {
                fingerprint,
                place,
                label,
                uris,
            });
        }
    }

    /// Uris of messages that are remembered now.
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

    /// Forgets what does not count any more; everything, if somebody says the same in ever new words.
    fn make_room(&mut self, endpoints: usize) {
        if self.entries.len() < self.limit {
            return;
        }
        self.entries.retain(|entry| entry.place.is_current());
        if self.entries.len() > SMALLEST + 4 * endpoints / SHARDS {
            self.entries.clear();
        }
        self.limit = SMALLEST.max(2 * self.entries.len());
    }
}

fn of_uri([first, second]: Fingerprint, uri: u8) -> Fingerprint {
    [first.wrapping_add(uri.into()), second]
}

/// The tables use the first half.
fn at(fingerprint: Fingerprint) -> usize {
    fingerprint[1] as usize % SHARDS
}
