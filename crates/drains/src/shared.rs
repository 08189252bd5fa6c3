//! The drains of all apps, as the ingress of envelopes and the metrics see them.

use crate::drain::{Drain, State};
use crate::metrics::Metrics;
use kit::metrics::Registry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use wire::loggregator::Envelope;

/// The bounds of a drain's buffer in bytes, and of all buffers together. Each drain has an equal part, so that none takes the memory of
/// others.
const MOST_BYTES: usize = 8 << 20;
const LEAST_BYTES: usize = 64 << 10;
const MOST_BYTES_TOGETHER: usize = 128 << 20;

#[derive(Debug)]
pub(crate) struct Shared {
    /// The drains by the guid of their app. Those of all sources have an empty one.
    by_app: RwLock<HashMap<String, Vec<Arc<Drain>>>>,
    /// The bound of each drain's buffer in bytes.
    share: AtomicUsize,
    /// The number of drains that are refused.
    refused: AtomicUsize,
    /// Whether the list was read.
    is_known: AtomicBool,
    pub(crate) metrics: Metrics,
}

impl Shared {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            by_app: RwLock::default(),
            share: AtomicUsize::new(MOST_BYTES),
            refused: AtomicUsize::new(0),
            is_known: AtomicBool::new(false),
            metrics,
        }
    }

    /// Replaces the drains.
    pub(crate) fn set(&self, drains: impl Iterator<Item = Arc<Drain>>, refused: usize) {
        let mut by_app: HashMap<String, Vec<Arc<Drain>>> = HashMap::new();
        let mut count = 0;
        for drain in drains {
            count += 1;
            by_app.entry(drain.app.clone()).or_default().push(drain);
        }
        self.share.store(share(count), Ordering::Relaxed);
        self.refused.store(refused, Ordering::Relaxed);
        *self.by_app.write().unwrap_or_else(PoisonError::into_inner) = by_app;
    }

    /// Notes that the list was read.
    pub(crate) fn known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// Passes an envelope to the drains of its app and of all sources. It never waits for a drain.
    pub(crate) fn offer(&self, envelope: &Envelope) {
        let by_app = self.by_app.read().unwrap_or_else(PoisonError::into_inner);
        let of_all = by_app.get("");
        let of_app = by_app
            .get(&envelope.source_id)
            .filter(|_| !envelope.source_id.is_empty());
        let share = self.share.load(Ordering::Relaxed);
        for drain in of_app.into_iter().chain(of_all).flatten() {
            drain.offer(envelope, share, &self.metrics);
        }
    }

    /// Returns the number of drains in a state, or of all drains. It is not known before the list was read.
    fn count(&self, state: Option<State>) -> Option<f64> {
        if !self.is_known.load(Ordering::Relaxed) {
            return None;
        }
        let by_app = self.by_app.read().unwrap_or_else(PoisonError::into_inner);
        let drains = by_app.values().flatten();
        let counted = drains.filter(|drain| state.is_none_or(|state| drain.is(state)));
        Some(counted.count() as f64)
    }
}

/// Adds the levels of the metrics, which are read from the drains.
pub(crate) fn add_levels(registry: &mut Registry, shared: &Arc<Shared>) {
    let levels = [
        ("syslog_agent_drains", "Log drains, one for each app", None),
        (
            "syslog_agent_active_drains",
            "Log drains that are connected",
            Some(State::Connected),
        ),
        (
            "syslog_agent_blacklisted_drains",
            "Log drains to whose address the operator permits no connection",
            Some(State::Blacklisted),
        ),
    ];
    for (name, help, state) in levels {
        let shared = shared.clone();
        registry.read(name, help, move || shared.count(state));
    }
    let shared = shared.clone();
    registry.read(
        "syslog_agent_invalid_drains",
        "Log drains whose URL or certificate is wrong or whose host is unknown",
        move || {
            let refused = shared.refused.load(Ordering::Relaxed);
            Some(shared.count(Some(State::Invalid))? + refused as f64)
        },
    );
}

/// Returns the bound of each buffer if there are so many drains.
fn share(drains: usize) -> usize {
    (MOST_BYTES_TOGETHER / drains.max(1)).clamp(LEAST_BYTES, MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_share_the_memory_equally() {
        assert_eq!(share(0), 8 << 20);
        assert_eq!(share(16), 8 << 20);
        assert_eq!(share(1024), 128 << 10);
        assert_eq!(share(1_000_000), 64 << 10);
    }
}
