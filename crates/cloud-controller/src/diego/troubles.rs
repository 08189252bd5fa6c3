//! The rows that the background loops had to skip. Each trouble is logged once when it begins and once when it is over. The
//! number of present ones is a gauge (`skipped_<noun>`) of source `cloud-controller`.

use crate::clock;
use clients::loggregator::Emitter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use wire::loggregator::{Envelope, Gauge, GaugeValue, Message};

/// The troubles of all loops, by noun and guid.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<&'static str, BTreeMap<String, String>>>);

/// The rows that one pass of one loop skipped: guid and problem.
pub(crate) type Skipped = BTreeMap<String, String>;

impl Troubles {
    /// Replaces the skipped rows of a noun. Returns the guids whose trouble is new in this pass.
    pub(crate) fn report(
        &self,
        noun: &'static str,
        skipped: Skipped,
        emitter: &Emitter,
    ) -> BTreeSet<String> {
        let count = skipped.len();
        let before = self
            .0
            .lock()
            .expect("no panic while holding it")
            .insert(noun, skipped.clone())
            .unwrap_or_default();
        let mut new = BTreeSet::new();
        for (guid, problem) in &skipped {
            if before.get(guid) != Some(problem) {
                tracing::warn!(noun, guid, problem, "skipped");
                new.insert(guid.clone());
            }
        }
        for guid in before.keys().filter(|guid| !skipped.contains_key(*guid)) {
            tracing::info!(noun, guid, "no-longer-skipped");
        }
        if count > 0 || !before.is_empty() {
            emitter.emit(gauge(noun, count));
        }
        new
    }

    /// Returns the rows of a noun that are skipped now.
    #[cfg(test)]
    pub(crate) fn present(&self, noun: &str) -> Skipped {
        let all = self.0.lock().expect("no panic while holding it");
        all.get(noun).cloned().unwrap_or_default()
    }
}

fn gauge(noun: &str, count: usize) -> Envelope {
    let value = GaugeValue {
        unit: "count".to_owned(),
        value: f64::from(u32::try_from(count).unwrap_or(u32::MAX)),
    };
    Envelope {
        timestamp: clock::now() * 1000,
        source_id: "cloud-controller".to_owned(),
        instance_id: "0".to_owned(),
        tags: BTreeMap::new(),
        message: Some(Message::Gauge(Gauge {
            metrics: BTreeMap::from([(format!("skipped_{noun}"), value)]),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_new_once_and_then_again_when_it_changes() {
        let troubles = Troubles::default();
        let skipped = |problem: &str| Skipped::from([("a".to_owned(), problem.to_owned())]);
        let report = |skipped| {
            troubles
                .report("builds", skipped, &Emitter::discard())
                .len()
        };
        assert_eq!(report(skipped("one")), 1);
        assert_eq!(report(skipped("one")), 0);
        assert_eq!(report(skipped("two")), 1);
        assert_eq!(report(Skipped::new()), 0);
        assert_eq!(report(skipped("two")), 1);
        assert_eq!(troubles.present("builds").len(), 1);
        assert!(troubles.present("tasks").is_empty());
    }
}
