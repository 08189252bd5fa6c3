//! Waking a reconciler before its period is over. Level-triggered work runs every period, and at once when nudged; a
//! nudge during a run makes one more run.

use std::sync::Arc;
use tokio::sync::Notify;

/// Wakes a reconciler; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn nudge(&self) {
        self.0.notify_one();
    }

    /// Waits for a nudge (one that came before counts).
    pub async fn nudged(&self) {
        self.0.notified().await;
    }
}
