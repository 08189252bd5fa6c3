//! Holding a request for a route whose instances are starting, instead of failing it.
//!
//! The table knows which routes are starting ([`Registry::announce_start`]); here requests wait until one of their
//! endpoints registers.

use route_table::registry::{Pool, Registry, RouteKey};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The longest time after which a waiting request looks its route up again: the route may end without a notification.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The requests that wait, by uri.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
    count: AtomicUsize,
}

impl Holds {
    /// Wakes the requests that wait for this uri, because an endpoint was added to it.
    pub(crate) fn arrived(&self, uri: &str) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let key = RouteKey::new(uri);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.get(key.uri()) {
            notify.notify_waiters();
        }
    }

    /// Returns the number of requests that wait now.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    fn join(&self, uri: &str) -> Seat<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let notify = waiting.entry(uri.to_owned()).or_default().clone();
        Seat {
            holds: self,
            uri: uri.to_owned(),
            notify,
        }
    }

    /// Waits for an instance when a request for `host` and `path` found `pool` empty and instances of its route are starting, for
    /// `limit` at most. Returns the pool that the request then goes to. `None` means that no instance came or that none is
    /// starting; the request then fails as it would have failed without waiting.
    pub(crate) async fn hold(
        &self,
        registry: &Registry,
        limit: Duration,
        pool: &Pool,
        (host, path): (&str, &str),
    ) -> Option<Arc<Pool>> {
        if limit.is_zero() || !pool.is_starting(Instant::now()) {
            return None;
        }
        let seat = self.join(pool.uri());
        let arrival = async {
            loop {
                let mut notified = std::pin::pin!(seat.notify.notified());
                notified.as_mut().enable();
                let left = match registry.lookup(host, path) {
                    Some(pool) if !pool.is_empty() => return Some(pool),
                    Some(pool) => pool.starting_for(Instant::now())?,
                    None => return None,
                };
                // The announcement may expire without a notification.
                let _ = tokio::time::timeout(left.min(LOOK_AGAIN), notified).await;
            }
        };
        tokio::time::timeout(limit, arrival).await.ok().flatten()
    }
}

/// A request that waits.
struct Seat<'a> {
    holds: &'a Holds,
    uri: String,
    notify: Arc<Notify>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut waiting = self
            .holds
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Two references are the map's and ours: no other request waits.
        if Arc::strong_count(&self.notify) == 2 {
            waiting.remove(&self.uri);
        }
        self.holds.count.fetch_sub(1, Ordering::SeqCst);
    }
}
