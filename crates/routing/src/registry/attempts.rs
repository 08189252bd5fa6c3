//! How often a request may be tried.

use super::endpoint::Endpoint;
use super::pick::Want;
use super::pool::{Failure, Pool};
use std::sync::Arc;
use std::time::Instant;

/// The attempts of one request. An endpoint that is only still in the table (nobody listens there, or somebody else does)
/// costs no attempt while there is another that was heard of lately: so that however many stale endpoints a route has,
/// a healthy app answers. Bounded all the same: no endpoint is tried twice.
#[derive(Debug)]
pub struct Attempts {
    left: usize,
    tried: Vec<Arc<Endpoint>>,
}

impl Attempts {
    /// At least one attempt is made.
    pub fn new(most: usize) -> Self {
        Self {
            left: most.max(1),
            tried: Vec::new(),
        }
    }

    /// For [`Want::tried`].
    pub fn tried(&self) -> &[Arc<Endpoint>] {
        &self.tried
    }

    /// Notes a failed attempt; whether there may be another one, as far as the number is concerned (whether the request
    /// can be sent again at all is another question). `want`: of the attempt that failed; call [`Pool::fail`] before.
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
