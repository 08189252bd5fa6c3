//! The metrics of the log-cache: the original's names in Prometheus' form. They are read from the store.

use crate::intake::now;
use crate::store::{Statistics, Store};
use kit::metrics::{Counter, Registry};
use std::sync::{Arc, Mutex, PoisonError};

/// A metric that is read from the store's statistics: its name, its help and its value.
type Reading<T> = (&'static str, &'static str, fn(&Statistics) -> T);

/// Adds the metrics of the store. Returns the counter of envelopes that readers received.
pub(crate) fn add(registry: &mut Registry, store: &Arc<Mutex<Store>>) -> Counter {
    let statistics = {
        let store = store.clone();
        move || {
            let store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.statistics()
        }
    };
    let totals: [Reading<u64>; 2] = [
        (
            "log_cache_ingress_total",
            "Envelopes that were received",
            |s| s.received,
        ),
        (
            "log_cache_expired_total",
            "Envelopes that were dropped to make room",
            |s| s.expired,
        ),
    ];
    for (name, help, total) in totals {
        let statistics = statistics.clone();
        registry.read_total(name, help, move || total(&statistics()));
    }
    let levels: [Reading<Option<f64>>; 4] = [
        ("log_cache_store_size", "Envelopes in the store", |s| {
            Some(s.envelopes as f64)
        }),
        (
            "log_cache_store_bytes",
            "Approximate memory of the envelopes in the store",
            |s| Some(s.bytes as f64),
        ),
        (
            "log_cache_sources",
            "Sources with envelopes in the store",
            |s| Some(s.sources as f64),
        ),
        (
            "log_cache_cache_period_seconds",
            "Age of the oldest envelope in the store",
            |s| Some(now().saturating_sub(s.oldest?).max(0) as f64 / 1e9),
        ),
    ];
    for (name, help, level) in levels {
        let statistics = statistics.clone();
        registry.read(name, help, move || level(&statistics()));
    }
    registry.counter("log_cache_egress_total", "Envelopes that readers received")
}
