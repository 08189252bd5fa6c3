//! Calls to the cells' reps. A few tries each; after that convergence looks again.

use crate::store::Store;
use clients::rep::Client;
use ids::{CellId, ProcessGuid, TaskGuid};
use lrp::{InstanceKey, Slot};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use wire::rep::LrpUpdate;

const TRIES: u32 = 5;
/// Calls at the same time.
const CALLS: usize = 64;

#[derive(Debug)]
pub(super) struct Reps {
    store: Arc<Store>,
    client: Client,
    calls: Semaphore,
}

#[derive(Debug)]
enum Call {
    Stop(ProcessGuid, InstanceKey),
    Update(LrpUpdate),
    Cancel(TaskGuid),
}

impl Reps {
    pub(super) fn new(store: Arc<Store>, client: Client) -> Self {
        Self { store, client, calls: Semaphore::new(CALLS) }
    }

    pub(super) async fn stop(self: Arc<Self>, process_guid: ProcessGuid, instance: InstanceKey) {
        let cell = instance.cell_id.clone();
        self.call(&cell, Call::Stop(process_guid, instance)).await;
    }

    pub(super) async fn update(self: Arc<Self>, cell: CellId, update: LrpUpdate) {
        self.call(&cell, Call::Update(update)).await;
    }

    pub(super) async fn cancel(self: Arc<Self>, guid: TaskGuid, cell: CellId) {
        self.call(&cell, Call::Cancel(guid)).await;
    }

    /// Calls the cell until that works, the cell or the reason is gone, or the tries are used up.
    async fn call(&self, cell: &CellId, call: Call) {
        for attempt in 1..=TRIES {
            if !self.is_needed(&call) {
                return;
            }
            let Some(url) = self.store.peek(|state| state.cells.rep_url(cell)) else {
                tracing::debug!(cell_id = %cell, ?call, "cell-not-there-to-call");
                return;
            };
            let Ok(permit) = self.calls.acquire().await else { return };
            let result = match &call {
                Call::Stop(guid, instance) => self.client.stop_lrp(&url, guid, &instance.instance_guid).await,
                Call::Update(update) => self.client.update_lrp(&url, update).await,
                Call::Cancel(guid) => self.client.cancel_task(&url, guid).await,
            };
            drop(permit);
            match result {
                Ok(()) => return,
                Err(error) => tracing::warn!(cell_id = %cell, attempt, error = format!("{error:#}"), "rep-call-failed"),
            }
            tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        }
    }

    fn is_needed(&self, call: &Call) -> bool {
        match call {
            Call::Stop(guid, instance) => self.store.peek(|state| {
                let mut slots = state.actual.get(guid).into_iter().flat_map(|slots| slots.values());
                slots.any(|slot: &Slot| slot.rows().any(|row| row.is_of(instance)))
            }),
            Call::Update(_) | Call::Cancel(_) => true,
        }
    }
}
