//! Requests auctions from the auctioneer. One call carries everything that was wanted since the last call. While the auctioneer
//! cannot be reached, the wanted auctions are kept; those that have become unnecessary in the meantime are left out.

use crate::store::Store;
use clients::rep::AuctioneerClient;
use clients::request_id;
use ids::{ProcessGuid, TaskGuid};
use kit::CancellationToken;
use kit::backoff::Backoff;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

#[derive(Debug)]
pub(super) struct Auctions {
    store: Arc<Store>,
    auctioneer: AuctioneerClient,
    wanted: Mutex<Wanted>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    lrps: BTreeSet<(ProcessGuid, i32)>,
    tasks: BTreeSet<TaskGuid>,
    /// The ids of the requests that want them.
    request_ids: BTreeSet<String>,
}

impl Auctions {
    pub(super) fn new(store: Arc<Store>, auctioneer: AuctioneerClient) -> Self {
        Self {
            store,
            auctioneer,
            wanted: Mutex::default(),
            more: Notify::new(),
        }
    }

    pub(super) fn request_lrp(&self, process_guid: ProcessGuid, index: i32, request_id: &str) {
        let mut wanted = self.wanted();
        wanted.lrps.insert((process_guid, index));
        wanted.request_ids.insert(request_id.to_owned());
        self.more.notify_one();
    }

    pub(super) fn request_task(&self, guid: TaskGuid, request_id: &str) {
        let mut wanted = self.wanted();
        wanted.tasks.insert(guid);
        wanted.request_ids.insert(request_id.to_owned());
        self.more.notify_one();
    }

    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.more.notified() => {}
            }
            let request = self.request();
            let Some(result) = shutdown.run_until_cancelled(request).await else {
                return;
            };
            match result {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "auction-request-failed");
                    if shutdown
                        .run_until_cancelled(tokio::time::sleep(backoff.next_delay()))
                        .await
                        .is_none()
                    {
                        return;
                    }
                    self.more.notify_one();
                }
            }
        }
    }

    /// Sends one call for all wanted LRPs and one for all wanted tasks. If a call fails, its auctions stay wanted.
    async fn request(&self) -> anyhow::Result<()> {
        let wanted = std::mem::take(&mut *self.wanted());
        let id = request_id::joined(&wanted.request_ids);
        request_id::scope(id, self.request_wanted(wanted)).await
    }

    async fn request_wanted(&self, wanted: Wanted) -> anyhow::Result<()> {
        let Wanted {
            lrps,
            tasks,
            request_ids,
        } = wanted;
        let (lrp_requests, task_requests) = self
            .store
            .peek(|state| (state.lrp_auctions(&lrps), state.task_auctions(&tasks)));
        let asked_lrps = if lrp_requests.is_empty() {
            Ok(())
        } else {
            self.auctioneer.request_lrp_auctions(&lrp_requests).await
        };
        if asked_lrps.is_err() {
            self.wanted().lrps.extend(lrps);
        }
        let asked_tasks = if task_requests.is_empty() {
            Ok(())
        } else {
            self.auctioneer.request_task_auctions(&task_requests).await
        };
        if asked_tasks.is_err() {
            self.wanted().tasks.extend(tasks);
        }
        if asked_lrps.is_err() || asked_tasks.is_err() {
            self.wanted().request_ids.extend(request_ids);
        }
        asked_lrps.and(asked_tasks)
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
