//! Wakes a reconciler before its period is over. Level-triggered work runs every period, and at once when nudged. A nudge during
//! a run causes one more run.

use std::sync::Arc;
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
