//! The requests that the surrounding process may make to a rep.

use crate::cell::Cell;
use crate::cell::adopt::is_ours;
use crate::instance::container::StopReason;
use kit::reconcile::Pass;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A handle to a running rep. It is cheap to clone and valid until the rep's `run` has returned.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) cell: Arc<Cell>,
}

impl Handle {
    /// Accepts no new work, and stops and destroys all containers (unroutable first, then SIGTERM, then SIGKILL). Containers that
    /// remain after `limit` are destroyed at once. Call it before shutdown, while `run` still runs, if nothing should outlive the
    /// process. Returns how many containers had to be destroyed without having stopped.
    pub async fn drain_all(&self, limit: Duration) -> usize {
        let cell = &self.cell;
        cell.closed.store(true, Ordering::SeqCst);
        for container in cell.containers() {
            container.request_stop(StopReason::Requested);
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
        // Garden does not list a container that is being made, but the table has it.
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

    /// Returns the last comparison of containers with the BBS, and the number of its operations by kind.
    pub fn last_bulk(&self) -> Option<Pass> {
        self.cell.last_bulk.read()
    }

    /// Compares containers with the BBS now instead of at the next interval.
    pub fn nudge(&self) {
        self.cell.bulk.nudge();
    }
}
