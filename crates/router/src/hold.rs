//! Holding a request for a route whose instances are starting, instead of failing it.
//!
//! The table knows which routes are starting ([`Registry::announce_start`](routing::registry::Registry::announce_start));
//! here requests wait until one of their endpoints registers.

use crate::router::Shared;
use routing::registry::{Pool, RouteKey};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A request that waits looks again at least this often: its route may end without a word.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The requests that wait, by uri.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
    count: AtomicUsize,
}

impl Holds {
    /// An endpoint was added to this uri.
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

    /// Requests that wait now.
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
}

/// One waiting request.
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
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&self.notify) == 2 {
            waiting.remove(&self.uri);
        }
        self.holds.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request found `pool` empty: while instances of its route are starting it waits for one, for `hold_timeout` at most.
/// The pool that it goes to then; `None`: nobody came, or nobody is on the way, and the request fails as it would have.
pub(crate) async fn hold(
    shared: &Shared,
    pool: &Pool,
    host: &str,
    path: &str,
) -> Option<Arc<Pool>> {
    let limit = shared.lasting.hold_timeout;
    if limit.is_zero() || !pool.is_starting(Instant::now()) {
        return None;
    }
    let seat = shared.holds.join(pool.uri());
    let arrival = async {
        loop {
            let mut notified = std::pin::pin!(seat.notify.notified());
            notified.as_mut().enable();
            let left = match shared.registry.lookup(host, path) {
                Some(pool) if !pool.is_empty() => return Some(pool),
                Some(pool) => pool.starting_for(Instant::now())?,
                None => return None,
            };
            // The announcement may run out without a word.
            let _ = tokio::time::timeout(left.min(LOOK_AGAIN), notified).await;
        }
    };
    tokio::time::timeout(limit, arrival).await.ok().flatten()
}
