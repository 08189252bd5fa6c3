//! The turns of callers: a caller has few requests under way at once, so that nobody reads so much that others cannot.

use crate::error::{ApiError, ApiResult};
use cc_rules::limits::Limits;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The maximum time for which a request waits for its caller's turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// The callers that have requests under way.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<Caller>>>);

/// The requests of one caller of one kind of work.
#[derive(Debug)]
struct Caller {
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// The kind of work of a request: it only reads the database, or it also changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Reads,
    Writes,
}

impl Work {
    /// Returns how many requests of one caller work at once, how many may wait, and the verb for them.
    fn bounds(self, limits: &Limits) -> (u32, u32, &'static str) {
        match self {
            Self::Reads => (
                limits.reads_per_caller,
                limits.waiting_reads_per_caller,
                "read",
            ),
            Self::Writes => (
                limits.writes_per_caller,
                limits.waiting_writes_per_caller,
                "write",
            ),
        }
    }
}

/// A caller's permit for one request. It is released when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _working: OwnedSemaphorePermit,
    _caller: Arc<Caller>,
}

impl Turns {
    /// Waits while too many requests of this caller do the same kind of work, and refuses the request when too many wait
    /// already.
    pub(crate) async fn take(&self, caller: &str, work: Work, limits: &Limits) -> ApiResult<Turn> {
        let (most, waiting, verb) = work.bounds(limits);
        let caller = self.caller(&format!("{verb} {caller}"), most, waiting);
        let busy = || {
            ApiError::unavailable(format!(
                "You have too many requests under way: {most} {verb} at once, {waiting} may wait; send fewer at a time"
            ))
        };
        let queue = caller
            .waiting
            .clone()
            .try_acquire_owned()
            .map_err(|_| busy())?;
        let working = tokio::time::timeout(PATIENCE, caller.working.clone().acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        drop(queue);
        Ok(Turn {
            _working: working,
            _caller: caller,
        })
    }

    fn caller(&self, name: &str, most: u32, waiting: u32) -> Arc<Caller> {
        let mut callers = self.0.lock().expect("no panic while holding it");
        if let Some(caller) = callers.get(name).and_then(Weak::upgrade) {
            return caller;
        }
        if callers.len() > 1000 {
            callers.retain(|_, caller| caller.strong_count() > 0);
        }
        let caller = Arc::new(Caller {
            working: Arc::new(Semaphore::new(most as usize)),
            waiting: Arc::new(Semaphore::new(waiting as usize)),
        });
        callers.insert(name.to_owned(), Arc::downgrade(&caller));
        caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_caller_waits_for_itself_and_not_for_others() {
        let limits = Limits {
            reads_per_caller: 1,
            waiting_reads_per_caller: 1,
            writes_per_caller: 1,
            waiting_writes_per_caller: 1,
            ..Limits::default()
        };
        for (work, other) in [(Work::Reads, Work::Writes), (Work::Writes, Work::Reads)] {
            let turns = Turns::default();
            let take = |caller, work| turns.take(caller, work, &limits);
            let first = take("a", work).await.unwrap();
            take("b", work).await.unwrap();
            take("a", other).await.unwrap();
            let mut second = std::pin::pin!(take("a", work));
            assert!(futures::poll!(second.as_mut()).is_pending());
            let error = take("a", work).await.unwrap_err();
            assert_eq!(error.status, 503);
            drop(first);
            second.await.unwrap();
            take("a", work).await.unwrap();
        }
    }
}
