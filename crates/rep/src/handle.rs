//! What the process around a rep may ask of it.

use crate::cell::{Cell, OWNER_PROPERTY};
use crate::container::StopReason;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Cheap to clone; valid until the rep's `run` has returned.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) cell: Arc<Cell>,
}

impl Handle {
    /// Stops and destroys all containers (unroutable first, then SIGTERM, then SIGKILL), taking no new work; what is left after
    /// `limit` is destroyed at once. Call it before shutdown, while `run` still runs, when nothing shall outlive the process.
    /// Returns how many containers had to be destroyed without having stopped.
    pub async fn drain_all(&self, limit: Duration) -> usize {
        let cell = &self.cell;
        cell.closed.store(true, Ordering::SeqCst);
        for container in cell.containers() {
            container.ask_to_stop(StopReason::Asked);
        }
        let _ = tokio::time::timeout(limit, async {
            loop {
                let left = cell.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                if cell.containers().is_empty() {
                    return;
                }
                left.await;
            }
        })
        .await;
        self.destroy_leftovers().await
    }

    async fn destroy_leftovers(&self) -> usize {
        let left = match self.cell.garden.containers().await {
            Ok(left) => left,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "containers-not-listed");
                return 0;
            }
        };
        let ours: Vec<String> = left
            .into_iter()
            .filter(|c| {
                c.properties
                    .get(OWNER_PROPERTY.0)
                    .is_some_and(|o| o == OWNER_PROPERTY.1)
            })
            .map(|c| c.handle)
            .collect();
        futures::future::join_all(ours.iter().map(async |handle| {
            if let Err(error) = self.cell.garden.destroy(handle).await {
                tracing::error!(
                    container = handle,
                    error = format!("{error:#}"),
                    "container-not-destroyed"
                );
            }
        }))
        .await;
        ours.len()
    }

    /// Compares containers with the BBS now instead of at the next interval.
    pub fn nudge(&self) {
        self.cell.bulk.nudge();
    }
}
