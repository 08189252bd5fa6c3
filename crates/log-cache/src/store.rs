//! The newest envelopes of each source. The module is pure: it has no clock and no IO.
//!
//! Within a source timestamps are unique, because readers page by them. A source keeps its newest envelopes up to a limit of its
//! own. When all sources together exceed their limit, the biggest source loses envelopes first, so that one chatty app does not
//! silence the quiet ones.

mod statistics;

pub(crate) use statistics::Statistics;

use crate::limits::Limits;
use regex::Regex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use wire::loggregator::{Envelope, Message};

/// The maximum length of the name of a source or an instance. The next constant is the maximum size of an envelope's tags in
/// bytes. Our components stay below both: guids have 36 characters, and the rep's tags take less than a kilobyte.
const MAX_NAME: usize = 256;
const MAX_TAGS: usize = 16 << 10;
/// The size in bytes up to which tags count once for all envelopes that share them. Larger tags count for each.
const SMALL_TAGS: usize = 1 << 10;
/// The memory of a source beside its envelopes, in bytes.
const SOURCE_SIZE: usize = 512;

/// The number of different sets of tags that a source remembers in order to share them.
const SHARED_TAGS: usize = 16;

#[derive(Debug)]
pub(crate) struct Store {
    limits: Limits,
    sources: HashMap<String, Source>,
    envelopes: usize,
    bytes: usize,
    /// The envelopes that were received so far, and those of them that were stored.
    received: u64,
    stored: u64,
}

#[derive(Debug, Default)]
struct Source {
    /// The envelopes by timestamp, oldest first.
    kept: VecDeque<Kept>,
    bytes: usize,
    expired: u64,
    tags: VecDeque<Arc<BTreeMap<String, String>>>,
}

/// An envelope without its source, whose entry holds it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) timestamp: i64,
    pub(crate) instance_id: String,
    pub(crate) tags: Arc<BTreeMap<String, String>>,
    /// The size that is counted for the tags. It is 0 if an older envelope of the source has the same small tags.
    pub(crate) tags_size: usize,
    pub(crate) message: Message,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Log,
    Counter,
    Gauge,
    Timer,
    Event,
}

/// A reader's query for one source, with timestamps in `start..end`.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) limit: usize,
    /// Whether to return the newest envelopes, newest first, rather than the oldest ones, oldest first.
    pub(crate) descending: bool,
    /// The wanted kinds; empty means all.
    pub(crate) kinds: Vec<Kind>,
    /// The pattern that the name of a metric must match.
    pub(crate) name: Option<Regex>,
}

/// The statistics of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) count: usize,
    pub(crate) expired: u64,
    pub(crate) oldest: i64,
    pub(crate) newest: i64,
}

impl Store {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sources: HashMap::new(),
            envelopes: 0,
            bytes: 0,
            received: 0,
            stored: 0,
        }
    }

    /// Stores an envelope. An envelope without source or message, or of a size that no component sends, is dropped.
    pub(crate) fn insert(&mut self, envelope: Envelope) {
        self.received += 1;
        let Some(message) = envelope.message.filter(|_| !envelope.source_id.is_empty()) else {
            return;
        };
        let tags_size = size_of_tags(&envelope.tags);
        let names = [&envelope.source_id, &envelope.instance_id];
        if names.iter().any(|name| name.len() > MAX_NAME) || tags_size > MAX_TAGS {
            return;
        }
        let size = size(&envelope.instance_id, &message) + tags_size;
        if size > self.limits.bytes_per_source / 4 {
            if let Some(source) = self.sources.get_mut(&envelope.source_id) {
                source.expired += 1;
            }
            return;
        }
        let is_new = !self.sources.contains_key(&envelope.source_id);
        let source = self.sources.entry(envelope.source_id).or_default();
        if is_new {
            self.bytes += SOURCE_SIZE;
        }
        let (tags, is_shared) = source.share(envelope.tags);
        self.bytes += source.insert(Kept {
            timestamp: envelope.timestamp,
            instance_id: envelope.instance_id,
            tags,
            tags_size: if is_shared && tags_size <= SMALL_TAGS {
                0
            } else {
                tags_size
            },
            message,
        });
        self.envelopes += 1;
        self.stored += 1;
        while source.kept.len() > self.limits.envelopes_per_source
            || source.bytes > self.limits.bytes_per_source
        {
            self.bytes -= source.drop_oldest();
            self.envelopes -= 1;
        }
        if self.envelopes > self.limits.envelopes || self.bytes > self.limits.bytes {
            self.make_room();
        }
    }

    /// Frees a twentieth of the memory, so that this need not be done for every envelope. Sources without envelopes are removed.
    fn make_room(&mut self) {
        let (envelopes, bytes) = (self.limits.envelopes / 20 * 19, self.limits.bytes / 20 * 19);
        while self.envelopes > envelopes || self.bytes > bytes {
            let Some(biggest) = self.sources.values_mut().max_by_key(|source| source.bytes) else {
                return;
            };
            for _ in 0..(biggest.kept.len() / 10).max(1) {
                self.bytes -= biggest.drop_oldest();
                self.envelopes -= 1;
            }
            if biggest.kept.is_empty() {
                self.remove_empty();
            }
        }
    }

    fn remove_empty(&mut self) {
        let before = self.sources.len();
        self.sources.retain(|_, source| !source.kept.is_empty());
        self.bytes -= (before - self.sources.len()) * SOURCE_SIZE;
    }

    pub(crate) fn read(&self, source_id: &str, query: &Query) -> Vec<Kept> {
        let Some(source) = self.sources.get(source_id) else {
            return Vec::new();
        };
        let (from, to) = (
            source.kept.partition_point(|k| k.timestamp < query.start),
            source.kept.partition_point(|k| k.timestamp < query.end),
        );
        let range = source
            .kept
            .range(from..to.max(from))
            .filter(|kept| query.wants(kept));
        if query.descending {
            range.rev().take(query.limit).cloned().collect()
        } else {
            range.take(query.limit).cloned().collect()
        }
    }

    /// Returns the statistics of all sources, by name.
    pub(crate) fn meta(&self) -> BTreeMap<String, Meta> {
        let meta = |source: &Source| {
            let (oldest, newest) = (
                source.kept.front()?.timestamp,
                source.kept.back()?.timestamp,
            );
            Some(Meta {
                count: source.kept.len(),
                expired: source.expired,
                oldest,
                newest,
            })
        };
        self.sources
            .iter()
            .filter_map(|(id, source)| Some((id.clone(), meta(source)?)))
            .collect()
    }
}

impl Source {
    /// Inserts an envelope, nearly always behind the newest. If the timestamp is taken, the next free one is used. Returns its
    /// size in bytes.
    fn insert(&mut self, mut kept: Kept) -> usize {
        let mut at = match self.kept.back() {
            Some(newest) if newest.timestamp >= kept.timestamp => {
                self.kept.partition_point(|k| k.timestamp < kept.timestamp)
            }
            _ => self.kept.len(),
        };
        while self
            .kept
            .get(at)
            .is_some_and(|there| there.timestamp == kept.timestamp)
        {
            kept.timestamp = kept.timestamp.saturating_add(1);
            at += 1;
        }
        let size = kept.size();
        self.bytes += size;
        self.kept.insert(at, kept);
        size
    }

    /// Drops the oldest envelope. Returns how many bytes that freed.
    fn drop_oldest(&mut self) -> usize {
        let Some(oldest) = self.kept.pop_front() else {
            return 0;
        };
        self.expired += 1;
        self.bytes -= oldest.size();
        oldest.size()
    }

    /// Returns the stored copy of the tags, because lines of one instance have the same ones, and whether an envelope already has
    /// it.
    fn share(&mut self, tags: BTreeMap<String, String>) -> (Arc<BTreeMap<String, String>>, bool) {
        if let Some(known) = self.tags.iter().find(|known| ***known == tags) {
            // If not, the envelope that stored the tags is gone, and their size counts for this one.
            let is_kept = Arc::strong_count(known) > 1;
            return (known.clone(), is_kept);
        }
        if self.tags.len() == SHARED_TAGS {
            self.tags.pop_front();
        }
        let shared = Arc::new(tags);
        self.tags.push_back(shared.clone());
        (shared, false)
    }
}

fn size_of_tags(tags: &BTreeMap<String, String>) -> usize {
    tags.iter().map(|(k, v)| 64 + k.len() + v.len()).sum()
}

/// Returns the approximate size of an envelope without its tags, in bytes.
fn size(instance_id: &str, message: &Message) -> usize {
    let message = match message {
        Message::Log(log) => log.payload.len(),
        Message::Counter(counter) => counter.name.len(),
        Message::Gauge(gauge) => gauge
            .metrics
            .iter()
            .map(|(name, value)| 96 + name.len() + value.unit.len())
            .sum(),
        Message::Timer(timer) => timer.name.len(),
        Message::Event(event) => event.title.len() + event.body.len(),
    };
    160 + instance_id.len() + message
}

impl Kept {
    pub(crate) fn kind(&self) -> Kind {
        match self.message {
            Message::Log(_) => Kind::Log,
            Message::Counter(_) => Kind::Counter,
            Message::Gauge(_) => Kind::Gauge,
            Message::Timer(_) => Kind::Timer,
            Message::Event(_) => Kind::Event,
        }
    }

    fn size(&self) -> usize {
        size(&self.instance_id, &self.message) + self.tags_size
    }
}

impl Query {
    fn wants(&self, kept: &Kept) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&kept.kind()))
            && self
                .name
                .as_ref()
                .is_none_or(|name| named(name, &kept.message))
    }
}

fn named(name: &Regex, message: &Message) -> bool {
    match message {
        Message::Counter(counter) => name.is_match(&counter.name),
        Message::Gauge(gauge) => gauge.metrics.keys().any(|metric| name.is_match(metric)),
        Message::Timer(timer) => name.is_match(&timer.name),
        Message::Log(_) | Message::Event(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::loggregator::{Counter, Log};

    fn line(source: &str, timestamp: i64, text: &str) -> Envelope {
        let tags = [("source_type".to_owned(), "APP/PROC/WEB".to_owned())].into();
        Envelope {
            timestamp,
            source_id: source.into(),
            instance_id: "0".into(),
            tags,
            message: Some(Message::Log(Log {
                payload: text.into(),
                kind: 0,
            })),
        }
    }

    fn all() -> Query {
        Query {
            start: i64::MIN,
            end: i64::MAX,
            limit: 1000,
            descending: false,
            kinds: vec![],
            name: None,
        }
    }

    fn times(store: &Store, query: &Query) -> Vec<i64> {
        store
            .read("a", query)
            .iter()
            .map(|kept| kept.timestamp)
            .collect()
    }

    #[test]
    fn envelopes_are_kept_in_order_of_time_and_times_are_unique() {
        let mut store = Store::new(Limits::default());
        for t in [5, 3, 5, 5, 4, 9] {
            store.insert(line("a", t, "x"));
        }
        assert_eq!(times(&store, &all()), [3, 4, 5, 6, 7, 9]);
        assert_eq!(
            times(
                &store,
                &Query {
                    start: 4,
                    end: 7,
                    ..all()
                }
            ),
            [4, 5, 6],
            "the end is not included"
        );
        assert_eq!(
            times(
                &store,
                &Query {
                    limit: 2,
                    descending: true,
                    ..all()
                }
            ),
            [9, 7]
        );
        assert_eq!(times(&store, &Query { limit: 2, ..all() }), [3, 4]);
        assert!(
            times(
                &store,
                &Query {
                    start: 7,
                    end: 3,
                    ..all()
                }
            )
            .is_empty()
        );
    }

    #[test]
    fn kinds_and_names_filter() {
        let mut store = Store::new(Limits::default());
        store.insert(line("a", 1, "x"));
        store.insert(Envelope {
            message: Some(Message::Counter(Counter {
                name: "requests".into(),
                delta: 1,
                total: 1,
            })),
            ..line("a", 2, "")
        });
        assert_eq!(
            times(
                &store,
                &Query {
                    kinds: vec![Kind::Counter],
                    ..all()
                }
            ),
            [2]
        );
        assert_eq!(
            times(
                &store,
                &Query {
                    name: Some(Regex::new("^req").unwrap()),
                    ..all()
                }
            ),
            [2]
        );
        assert!(
            times(
                &store,
                &Query {
                    name: Some(Regex::new("^x").unwrap()),
                    ..all()
                }
            )
            .is_empty()
        );
    }

    #[test]
    fn the_source_with_the_most_bytes_is_evicted_first() {
        let mut store = Store::new(Limits {
            envelopes: 100,
            envelopes_per_source: 90,
            bytes: 1 << 20,
            bytes_per_source: 1 << 20,
        });
        store.insert(line("quiet", 1, "x"));
        for t in 0..500 {
            store.insert(line("a", t, "x"));
            assert!(store.envelopes <= 100 && store.sources["a"].kept.len() <= 90);
        }
        let meta = store.meta();
        assert_eq!((meta["quiet"].count, meta["a"].newest), (1, 499));
        assert_eq!(meta["a"].expired as usize + meta["a"].count, 500);
    }

    #[test]
    fn bytes_are_bounded_and_an_emptied_source_is_removed() {
        let mut store = Store::new(Limits {
            envelopes: 1_000_000,
            envelopes_per_source: 1_000_000,
            bytes: 1 << 20,
            bytes_per_source: 1 << 18,
        });
        let text = "x".repeat(1000);
        for n in 0..5_000i64 {
            store.insert(line(&format!("s{}", n % 50), n, &text));
            assert!(store.bytes <= 1 << 20);
        }
        store.insert(line("huge", 1, &"x".repeat(1 << 20)));
        assert!(
            !store.meta().contains_key("huge"),
            "one envelope may not push all others out"
        );
        assert_eq!(store.bytes, counted(&store));
        assert_eq!(
            store.envelopes,
            store.sources.values().map(|s| s.kept.len()).sum::<usize>()
        );
    }

    fn counted(store: &Store) -> usize {
        let sources = store.sources.values();
        sources.map(|s| s.bytes + SOURCE_SIZE).sum()
    }

    #[test]
    fn one_source_cannot_occupy_all_bytes() {
        let mut store = Store::new(Limits {
            bytes: 1 << 20,
            bytes_per_source: 1 << 18,
            ..Limits::default()
        });
        for n in 0..2_000 {
            store.insert(line("a", n, &"x".repeat(1000)));
            assert!(store.sources["a"].bytes <= 1 << 18);
        }
        assert_eq!(store.meta()["a"].newest, 1_999);
        assert_eq!(store.bytes, counted(&store));
    }

    #[test]
    fn many_sources_and_many_tags_are_bounded() {
        let mut store = Store::new(Limits {
            bytes: 1 << 20,
            bytes_per_source: 1 << 18,
            ..Limits::default()
        });
        let tagged = |source: &str, n: i64, length: usize| Envelope {
            tags: [(format!("k{n}"), "v".repeat(length))].into(),
            ..line(source, n, "x")
        };
        for n in 0..10_000 {
            store.insert(line(&format!("s{n}"), n, "x"));
            store.insert(tagged("tags", n, 10_000));
            // No component sends such envelopes.
            store.insert(line(&"s".repeat(MAX_NAME + 1), n, "x"));
            store.insert(tagged("many", n, MAX_TAGS));
            store.insert(line(&format!("huge{n}"), n, &"x".repeat(1 << 18)));
            assert!(store.bytes <= 1 << 20);
        }
        assert!(store.sources.len() < 2_000, "{}", store.sources.len());
        assert!(store.sources.values().all(|source| !source.kept.is_empty()));
        assert!(!store.sources.contains_key("many"));
        assert_eq!(store.bytes, counted(&store));
    }

    #[test]
    fn equal_tags_are_stored_once() {
        let mut store = Store::new(Limits::default());
        store.insert(line("a", 1, "x"));
        store.insert(line("a", 2, "y"));
        let kept = store.read("a", &all());
        assert!(Arc::ptr_eq(&kept[0].tags, &kept[1].tags));
        store.insert(Envelope {
            message: None,
            ..line("a", 3, "")
        });
        store.insert(line("", 4, "nobody"));
        assert_eq!(store.envelopes, 2);
    }
}
