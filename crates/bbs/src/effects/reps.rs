//! Calls the cells' reps. Each call is tried a few times; after that convergence decides whether it is still needed.

use crate::state::State;
use crate::store::Store;
use clients::rep::Client;
use ids::{CellId, ProcessGuid, TaskGuid};
use lrp::{InstanceKey, Slot};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use wire::rep::LrpUpdate;

const TRIES: u32 = 5;
/// The maximum number of concurrent calls.
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
    Update(ProcessGuid, i32, InstanceKey),
    Cancel(TaskGuid),
}

/// The body of a call, made from the state at the moment of sending: a late retry must not undo a change made in the meantime.
enum Body {
    Stop,
    Update(LrpUpdate),
    Cancel,
}

impl Reps {
    pub(super) fn new(store: Arc<Store>, client: Client) -> Self {
        Self {
            store,
            client,
            calls: Semaphore::new(CALLS),
        }
    }

    pub(super) async fn stop(self: Arc<Self>, process_guid: ProcessGuid, instance: InstanceKey) {
        let cell = instance.cell_id.clone();
        self.call(&cell, Call::Stop(process_guid, instance)).await;
    }

    pub(super) async fn update(
        self: Arc<Self>,
        process_guid: ProcessGuid,
        index: i32,
        instance: InstanceKey,
    ) {
        let cell = instance.cell_id.clone();
        self.call(&cell, Call::Update(process_guid, index, instance))
            .await;
    }

    pub(super) async fn cancel(self: Arc<Self>, guid: TaskGuid, cell: CellId) {
        self.call(&cell, Call::Cancel(guid)).await;
    }

    /// Calls the cell until the call succeeds, the cell or the reason for the call is gone, or the tries are used up.
    async fn call(&self, cell: &CellId, call: Call) {
        for attempt in 1..=TRIES {
            let Some(body) = self.store.peek(|state| body(state, &call)) else {
                return;
            };
            let Some(url) = self.store.peek(|state| state.cells.rep_url(cell)) else {
                tracing::debug!(cell_id = %cell, ?call, "call-to-missing-cell");
                return;
            };
            let Ok(permit) = self.calls.acquire().await else {
                return;
            };
            let result = match (&call, &body) {
                (Call::Stop(guid, instance), Body::Stop) => {
                    self.client
                        .stop_lrp(&url, guid, &instance.instance_guid)
                        .await
                }
                (Call::Update(..), Body::Update(update)) => {
                    self.client.update_lrp(&url, update).await
                }
                (Call::Cancel(guid), Body::Cancel) => self.client.cancel_task(&url, guid).await,
                _ => return,
            };
            drop(permit);
            match result {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(cell_id = %cell, attempt, error = format!("{error:#}"), "rep-call-failed")
                }
            }
            tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        }
    }
}

/// Returns the body of the call, or `None` if the reason for the call is gone.
fn body(state: &State, call: &Call) -> Option<Body> {
    let has_row = |guid: &ProcessGuid, instance: &InstanceKey| {
        let slots = state.actual.get(guid).into_iter().flat_map(|s| s.values());
        slots.flat_map(Slot::rows).any(|row| row.is_of(instance))
    };
    match call {
        Call::Stop(guid, instance) => has_row(guid, instance).then_some(Body::Stop),
        Call::Update(guid, index, instance) => has_row(guid, instance)
            .then(|| state.lrp_update(guid, *index, instance))
            .flatten()
            .map(Body::Update),
        // Only a task that has ended is cancelled: a task of the same guid may have been desired again in the meantime.
        Call::Cancel(guid) => state
            .tasks
            .get(guid)
            .is_none_or(|record| record.task.state.outcome().is_some())
            .then_some(Body::Cancel),
    }
}
