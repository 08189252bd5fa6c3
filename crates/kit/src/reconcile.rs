//! A reconciler: level-triggered work that runs every period, and at once when nudged. A nudge during a run makes one more run.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

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

/// Runs `activate` now, then after every `period` and every nudge, until shutdown.
pub async fn reconcile<F, Fut>(
    name: &'static str,
    period: Duration,
    nudge: Nudge,
    shutdown: CancellationToken,
    mut activate: F,
) where
    F: FnMut() -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    loop {
        if let Err(error) = activate().await {
            tracing::warn!(
                reconciler = name,
                error = format!("{error:#}"),
                "reconcile-failed"
            );
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(period) => {}
            () = nudge.nudged() => {}
        }
    }
}
