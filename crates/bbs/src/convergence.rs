//! Convergence runs once per period, whenever a cell appears or disappears, and when a restart or an auction falls due.
//! `state/converge.rs` and the core decide what a pass does.

use crate::failure::Failure;
use crate::locket::Locket;
use crate::metrics::Metrics;
use crate::state::{Departure, now};
use crate::store::Store;
use anyhow::Result;
use kit::CancellationToken;
use kit::reconcile::{Changed, LastPass, Nudge};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::locket::TypeCode;

#[derive(Debug)]
pub(crate) struct Convergence {
    nudge: Nudge,
    cell_appeared: AtomicBool,
    last: LastPass,
    metrics: Metrics,
}

impl Convergence {
    /// Makes a convergence that keeps the result of its last pass in `last`.
    pub(crate) fn new(last: LastPass, metrics: Metrics) -> Self {
        Self {
            nudge: Nudge::default(),
            cell_appeared: AtomicBool::new(false),
            last,
            metrics,
        }
    }

    /// Runs until `shutdown`. It works like `kit::reconcile`, but the next pass comes earlier if the last one found a step that
    /// falls due earlier.
    pub(crate) async fn run(
        self: Arc<Self>,
        store: Arc<Store>,
        period: Duration,
        shutdown: CancellationToken,
    ) {
        loop {
            let wait = match self.pass(&store).await {
                Ok(due) => due.map_or(period, |wait| wait.min(period)),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "convergence-failed");
                    period
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.nudge.nudged() => {}
            }
        }
    }

    /// Makes one pass and returns how long it is until the next step falls due.
    async fn pass(&self, store: &Store) -> Result<Option<Duration>> {
        let cell_appeared = self.cell_appeared.swap(false, Ordering::Relaxed);
        let begun = self.last.begin();
        let mut changed = Changed::new();
        let pass = store
            .write("", |state, journal| {
                let pass = state.converge(journal, cell_appeared);
                changed.insert("rows", journal.writes.len() as u64);
                changed.insert("requests", journal.effects.len() as u64);
                Ok::<_, Failure>(pass)
            })
            .await;
        if pass.is_err() && cell_appeared {
            // This pass failed, so the next one must look for a cell again.
            self.cell_appeared.store(true, Ordering::Relaxed);
        }
        let pass = pass.map_err(|failure| anyhow::anyhow!(failure.message));
        begun.end(changed, &pass);
        let pass = pass?;
        self.metrics.converged(&pass);
        Ok(pass
            .due
            .map(|at| Duration::from_nanos(u64::try_from(at - now()).unwrap_or_default())))
    }

    /// Keeps the state's list of cells equal to locket's presences, and wakes convergence when a cell appears or disappears.
    pub(crate) async fn follow_cells(
        &self,
        store: &Store,
        locket: &Arc<Locket>,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut changes = locket.watch_presences();
        loop {
            let cells = locket
                .fetch_all(TypeCode::Presence)
                .iter()
                .filter_map(clients::locket::cell_presence)
                .collect();
            let departure = |cell: &ids::CellId| {
                if locket.was_released(cell) {
                    Departure::Released
                } else {
                    Departure::Expired
                }
            };
            let (appeared, went) = store.adjust(|state| state.cells.set(cells, departure, now()));
            if appeared {
                self.cell_appeared.store(true, Ordering::Relaxed);
            }
            if appeared || went {
                self.nudge.nudge();
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                changed = changes.changed() => changed?,
            }
        }
    }
}
