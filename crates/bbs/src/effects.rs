//! Carries out the effects of transitions after they are durable: auctions, calls to reps, task results.
//!
//! One task reads the effects and never waits for a peer: each kind of effect waits in a task of its own. Convergence issues
//! again the effects that are lost with the process.

mod auctions;
mod callbacks;
mod reps;

use crate::journal::Effect;
use crate::store::Store;
use anyhow::Result;
use auctions::Auctions;
use callbacks::Callbacks;
use kit::CancellationToken;
use kit::tls::Identity;
use reps::Reps;
use std::sync::Arc;
use tokio::sync::mpsc;

#[derive(Debug)]
pub(crate) struct Effects {
    queue: mpsc::UnboundedReceiver<Effect>,
    auctions: Arc<Auctions>,
    reps: Arc<Reps>,
    callbacks: Arc<Callbacks>,
}

impl Effects {
    pub(crate) fn build(
        queue: mpsc::UnboundedReceiver<Effect>,
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
            let effect = tokio::select! {
                () = shutdown.cancelled() => break,
                effect = self.queue.recv() => effect,
            };
            match effect {
                None => break,
                Some(Effect::AuctionLrp(guid, index)) => self.auctions.request_lrp(guid, index),
                Some(Effect::AuctionTask(guid)) => self.auctions.request_task(guid),
                Some(Effect::StopLrp(guid, instance)) => {
                    spawn(&shutdown, self.reps.clone().stop(guid, instance))
                }
                Some(Effect::UpdateLrp(guid, index, instance)) => {
                    spawn(&shutdown, self.reps.clone().update(guid, index, instance))
                }
                Some(Effect::CancelTask(guid, cell)) => {
                    spawn(&shutdown, self.reps.clone().cancel(guid, cell))
                }
                Some(Effect::DeliverTask(guid)) => {
                    spawn(&shutdown, self.callbacks.clone().deliver(guid))
                }
            }
        }
        let _ = auctions.await;
    }
}

fn spawn(shutdown: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move { shutdown.run_until_cancelled(work).await });
}
