//! The parts that all reconcilers have: a nudge, and the result of the last pass.
//!
//! Level-triggered work runs every period, and at once when nudged. A nudge during a run causes one more run. A page that shows a
//! reconciler's state reads [`LastPass`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// A handle that wakes a reconciler; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn nudge(&self) {
        self.0.notify_one();
    }

    /// Waits for a nudge. One that came before the call counts.
    pub async fn nudged(&self) {
        self.0.notified().await;
    }
}

/// The number of things that a pass changed, by kind.
pub type Changed = BTreeMap<&'static str, u64>;

/// The result of one pass.
#[derive(Clone, Debug)]
pub struct Pass {
    pub began: SystemTime,
    pub took: Duration,
    /// The changes that the pass made. A pass that failed may have made some of them before.
    pub changed: Changed,
    /// The reason of a pass that failed.
    pub error: Option<String>,
}

/// The last pass of a reconciler that has ended. The reconciler and those who show it share it; it is cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LastPass(Arc<Mutex<Option<Pass>>>);

/// A pass that is under way. One that is dropped leaves the last pass as it is.
#[derive(Debug)]
pub struct Begun {
    last: LastPass,
    at: SystemTime,
    since: Instant,
}

impl LastPass {
    /// Begins a pass.
    pub fn begin(&self) -> Begun {
        Begun {
            last: self.clone(),
            at: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// Returns the last pass, or `None` if none has ended yet.
    pub fn read(&self) -> Option<Pass> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// Ends the pass, which is then the last one.
    pub fn end<T>(self, changed: Changed, result: &anyhow::Result<T>) {
        let pass = Pass {
            began: self.at,
            took: self.since.elapsed(),
            changed: changed.into_iter().filter(|(_, n)| *n > 0).collect(),
            error: result.as_ref().err().map(|error| format!("{error:#}")),
        };
        *self.last.lock() = Some(pass);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn the_last_pass_that_ended_is_kept() {
        let last = LastPass::default();
        assert!(last.read().is_none());
        let before = SystemTime::now();
        let changed = Changed::from([("removed", 2), ("added", 0)]);
        last.begin().end(changed, &Ok(()));
        let pass = last.read().unwrap();
        assert_eq!(pass.changed, Changed::from([("removed", 2)]));
        assert!(pass.error.is_none() && pass.began >= before);
        let failed: anyhow::Result<()> = Err(anyhow!("no route").context("call the peer"));
        last.begin().end(Changed::new(), &failed);
        let error = last.read().unwrap().error;
        assert_eq!(error.as_deref(), Some("call the peer: no route"));
        // A pass that does not end changes nothing.
        drop(last.begin());
        assert!(last.read().unwrap().error.is_some());
    }
}
