//! Keeps the kinds and sizes of the entries in HPACK's tables (RFC 7541, 2.3). They suffice to know which index is valid and what
//! is evicted when.

use crate::name::{Kind, Sender};
use std::collections::VecDeque;
use std::sync::Arc;

/// The dynamic table's largest size, in bytes. The router does not change it with a setting, so this default applies to peers.
const MOST: usize = 4096;
/// The size of an entry beside its texts, in bytes.
const OVERHEAD: usize = 32;

/// A name, whether it is written as a literal or as an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    /// The length of the name in bytes.
    pub(crate) length: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) value: usize,
    /// Whether name and value may be in a message of this sender.
    pub(crate) legal: bool,
    /// The path as it was sent, where the library has a substitute in its place.
    pub(crate) target: Option<Arc<[u8]>>,
}

#[derive(Debug)]
pub(crate) struct Table {
    sender: Sender,
    /// The entries, the newest first.
    entries: VecDeque<Entry>,
    size: usize,
    most: usize,
}

impl Table {
    pub(crate) fn new(sender: Sender) -> Self {
        Self {
            sender,
            entries: VecDeque::new(),
            size: 0,
            most: MOST,
        }
    }

    pub(crate) fn sender(&self) -> Sender {
        self.sender
    }

    /// Returns the entry with that index, or `None` if there is none.
    pub(crate) fn get(&self, index: usize) -> Option<Entry> {
        let place = index.checked_sub(1)?;
        if let Some(name) = STATIC.get(place) {
            let kind = static_kind(place).from(self.sender);
            let name = Name {
                kind,
                length: name.len(),
            };
            return Some(Entry {
                name,
                value: 0,
                legal: kind != Kind::Illegal,
                target: None,
            });
        }
        self.entries.get(place - STATIC.len()).cloned()
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let size = cost(&entry);
        self.evict(self.most.saturating_sub(size));
        if size <= self.most {
            self.size += size;
            self.entries.push_front(entry);
        }
    }

    /// Resizes the table. Returns false if the new size is larger than allowed.
    pub(crate) fn resize(&mut self, most: usize) -> bool {
        self.most = most.min(MOST);
        self.evict(self.most);
        most <= MOST
    }

    fn evict(&mut self, down_to: usize) {
        while self.size > down_to
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= cost(&oldest);
        }
    }
}

/// Returns the kind of a name in the static table, for any sender.
fn static_kind(place: usize) -> Kind {
    match place {
        1 | 2 => Kind::Method,
        0 | 5 | 6 => Kind::Pseudo,
        3 | 4 => Kind::Path,
        7..=13 => Kind::Status,
        _ => Kind::Field,
    }
}

fn cost(entry: &Entry) -> usize {
    entry.name.length + entry.value + OVERHEAD
}

/// The names of the static table, from index 1 on.
#[rustfmt::skip]
const STATIC: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status", ":status",
    ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language", "accept-ranges", "accept",
    "access-control-allow-origin", "age", "allow", "authorization", "cache-control", "content-disposition", "content-encoding",
    "content-language", "content-length", "content-location", "content-range", "content-type", "cookie", "date", "etag",
    "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since",
    "last-modified", "link", "location", "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer",
    "refresh", "retry-after", "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary",
    "via", "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_static_table_are_of_their_kinds() {
        for (place, name) in STATIC.iter().enumerate() {
            for sender in [Sender::Client, Sender::Backend] {
                let kind = static_kind(place).from(sender);
                assert_eq!(kind, Kind::of(name.as_bytes(), sender), "{name}");
            }
        }
    }
}
