//! The entrance of all envelopes, however they were received: each is passed to the log drains of its app, and stored.

use crate::store::Store;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use wire::loggregator::Envelope;

#[derive(Clone, Debug)]
pub(crate) struct Intake {
    store: Arc<Mutex<Store>>,
    /// The entrance of the log drains; `None`: there are none.
    drains: Option<drains::Intake>,
}

impl Intake {
    pub(crate) fn new(store: Arc<Mutex<Store>>, drains: Option<drains::Intake>) -> Self {
        Self { store, drains }
    }

    /// Accepts envelopes in their order. Those without a time get the present one.
    pub(crate) fn accept(&self, mut envelopes: Vec<Envelope>) {
        let now = now();
        for envelope in &mut envelopes {
            if envelope.timestamp == 0 {
                envelope.timestamp = now;
            }
        }
        if let Some(drains) = &self.drains {
            for envelope in &envelopes {
                drains.offer(envelope);
            }
        }
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        for envelope in envelopes {
            store.insert(envelope);
        }
    }
}

/// Returns the current time in Unix nanoseconds.
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
