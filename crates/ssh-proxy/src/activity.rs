//! Remembers when a connection last copied a byte, and waits until that is too long ago.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The last activity of a connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    pub(crate) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Returns when nothing was copied for this time.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let end = last + limit;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_renewal_postpones_the_end() {
        let limit = Duration::from_millis(200);
        let (began, activity) = (Instant::now(), Activity::now());
        let idle = activity.idle_for(limit);
        tokio::pin!(idle);
        let early = tokio::time::timeout(limit / 2, idle.as_mut()).await;
        assert!(early.is_err());
        activity.renew();
        idle.await;
        assert!(began.elapsed() >= limit + limit / 2);
    }
}
