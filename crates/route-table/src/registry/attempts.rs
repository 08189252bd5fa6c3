//! Limits how often a request is tried.

use super::endpoint::Endpoint;
use super::pick::Want;
use super::pool::{Failure, Pool};
use std::sync::Arc;
use std::time::Instant;

/// The attempts of one request. When the table still has an endpoint that is gone (nothing listens there, or another instance
/// does), a try of it costs no attempt while there is another endpoint whose stale threshold has not passed. So a healthy
/// instance answers however many stale endpoints a route has. The number of tries is bounded, because no endpoint is tried twice.
#[derive(Debug)]
pub struct Attempts {
    left: usize,
    tried: Vec<Arc<Endpoint>>,
}

impl Attempts {
    /// Makes the count of a request that may make `most` attempts, and at least one.
    pub fn new(most: usize) -> Self {
        Self {
            left: most.max(1),
            tried: Vec::new(),
        }
    }

    /// Returns the endpoints that were tried, for [`Want::tried`].
    pub fn tried(&self) -> &[Arc<Endpoint>] {
        &self.tried
    }

    /// Records a failed attempt and returns whether the number of attempts allows another one. (Whether the request can be sent
    /// again at all is another question.) `want` belongs to the attempt that failed. Call [`Pool::fail`] before.
    pub fn failed(
        &mut self,
        pool: &Pool,
        endpoint: Arc<Endpoint>,
        failure: Option<Failure>,
        want: &Want<'_>,
        now: Instant,
    ) -> bool {
        self.tried.push(endpoint);
        let want = Want {
            tried: &self.tried,
            ..*want
        };
        let stale = failure.is_some_and(Failure::looks_stale);
        if !(stale && pool.has_spare(&want, now)) {
            self.left = self.left.saturating_sub(1);
        }
        self.left > 0
    }
}
