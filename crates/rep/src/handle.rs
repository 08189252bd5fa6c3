//! What the process around a rep may ask of it.

use crate::cell::Cell;
use crate::cell::adopt::is_ours;
use crate::instance::container::StopReason;
use std::collections::BTreeSet;
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
        // A container that is being made is not listed yet, but it is in the table.
        let mut ours: BTreeSet<String> = self
            .cell
            .containers()
            .iter()
            .map(|c| c.guid.clone())
            .collect();
        match self.cell.garden.containers().await {
            Ok(left) => ours.extend(left.into_iter().filter(is_ours).map(|c| c.handle)),
            Err(error) => tracing::error!(error = format!("{error:#}"), "containers-not-listed"),
        }
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
