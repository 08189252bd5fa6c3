//! Carries out the effects of transitions after they are durable: auctions, calls to reps, task results.
//!
//! One task reads the effects and never waits for a peer: each kind of effect waits in a task of its own. Convergence issues
//! again the effects that are lost with the process. The id of the request that caused an effect goes with every call.

mod auctions;
mod callbacks;
mod reps;

use crate::journal::{Caused, Effect};
use crate::store::Store;
use anyhow::Result;
use auctions::Auctions;
use callbacks::Callbacks;
use clients::request_id;
use futures::future::BoxFuture;
use kit::CancellationToken;
use kit::tls::Identity;
use reps::Reps;
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Debug)]
pub(crate) struct Effects {
    queue: mpsc::UnboundedReceiver<Caused>,
    auctions: Arc<Auctions>,
    reps: Arc<Reps>,
    callbacks: Arc<Callbacks>,
}

impl Effects {
    pub(crate) fn build(
        queue: mpsc::UnboundedReceiver<Caused>,
        store: &Arc<Store>,
        identity: &Identity,
        auctioneer_url: &str,
    ) -> Result<Self> {
        Ok(Self {
            queue,
            auctions: Arc::new(Auctions::new(
                store.clone(),
                clients::rep::AuctioneerClient::new(auctioneer_url, identity)?,
            )),
            reps: Arc::new(Reps::new(
                store.clone(),
                clients::rep::Client::new(identity)?,
            )),
            callbacks: Arc::new(Callbacks::new(store.clone(), identity)?),
        })
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let auctions = tokio::spawn(self.auctions.clone().run(shutdown.clone()));
        loop {
            let caused = tokio::select! {
                () = shutdown.cancelled() => break,
                caused = self.queue.recv() => caused,
            };
            let Some((effect, request_id)) = caused else {
                break;
            };
            let spawn = |work: BoxFuture<'static, ()>| {
                let work = request_id::scope(request_id.clone(), work);
                let shutdown = shutdown.clone();
                tokio::spawn(async move { shutdown.run_until_cancelled(work).await });
            };
            let (reps, callbacks) = (self.reps.clone(), self.callbacks.clone());
            match effect {
                Effect::AuctionLrp(guid, index) => {
                    self.auctions.request_lrp(guid, index, &request_id);
                }
                Effect::AuctionTask(guid) => self.auctions.request_task(guid, &request_id),
                Effect::StopLrp(guid, instance) => spawn(Box::pin(reps.stop(guid, instance))),
                Effect::UpdateLrp(guid, index, instance) => {
                    spawn(Box::pin(reps.update(guid, index, instance)));
                }
                Effect::CancelTask(guid, cell) => spawn(Box::pin(reps.cancel(guid, cell))),
                Effect::DeliverTask(guid) => spawn(Box::pin(callbacks.deliver(guid))),
            }
        }
        let _ = auctions.await;
    }
}
