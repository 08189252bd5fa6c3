//! When convergence runs: every period, whenever a cell comes or goes, and when a restart or an auction falls due.
//! What it does: `state/converge.rs` and the core.

use crate::failure::Failure;
use crate::locket::Locket;
use crate::state::{Departure, now};
use crate::store::Store;
use anyhow::Result;
use kit::CancellationToken;
use kit::reconcile::Nudge;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::locket::TypeCode;

#[derive(Debug, Default)]
pub(crate) struct Convergence {
    nudge: Nudge,
    cell_appeared: AtomicBool,
}

impl Convergence {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, store: Arc<Store>, period: Duration, shutdown: CancellationToken) {
        let nudge = self.nudge.clone();
        let until = shutdown.clone();
        let pass = async move || self.pass(&store, period, &shutdown).await;
        kit::reconcile::reconcile("convergence", period, nudge, until, pass).await;
    }

    async fn pass(&self, store: &Store, period: Duration, shutdown: &CancellationToken) -> Result<()> {
        let cell_appeared = self.cell_appeared.swap(false, Ordering::Relaxed);
        let due = store.write("", |state, journal| Ok::<_, Failure>(state.converge(journal, cell_appeared))).await;
        let due = due.map_err(|failure| anyhow::anyhow!(failure.message))?;
        let wait = due.map(|at| Duration::from_nanos(u64::try_from(at - now()).unwrap_or_default()));
        if let Some(wait) = wait.filter(|&wait| wait < period) {
            self.nudge_after(wait, shutdown);
        }
        Ok(())
    }

    fn nudge_after(&self, wait: Duration, shutdown: &CancellationToken) {
        let (nudge, shutdown) = (self.nudge.clone(), shutdown.clone());
        tokio::spawn(async move {
            if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                nudge.nudge();
            }
        });
    }

    /// Keeps the state's list of cells as locket's presences are, and nudges convergence when one comes or goes.
    pub(crate) async fn follow_cells(&self, store: &Store, locket: &Arc<Locket>, shutdown: CancellationToken) -> Result<()> {
        let mut changes = locket.watch_presences();
        loop {
            let cells = locket.fetch_all(TypeCode::Presence).iter().filter_map(clients::locket::cell_presence).collect();
            let departure = |cell: &ids::CellId| if locket.was_released(cell) { Departure::Released } else { Departure::Expired };
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
