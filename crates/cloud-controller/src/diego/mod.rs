//! Driving Diego: what the Cloud Controller asks of the BBS, and what it hears from it.
//!
//! Recipes are pure. The shells read the database afresh for every step, so that whatever comes last is what Diego has:
//! [`driver`] settles single processes right after a change, [`sync`] repairs everything else.

pub mod recipe;
pub mod recipe_egress;
pub mod recipe_environment;
pub mod recipe_routes;
pub mod recipe_staging;

pub(crate) mod driver;
pub(crate) mod instances;
pub(crate) mod spec;
pub(crate) mod staging;
pub(crate) mod task;
pub(crate) mod usage;

mod egress;
mod events;
mod fault;
mod freshness;
mod pass;
pub(crate) mod rollout;
mod sync;
pub(crate) mod troubles;

use crate::controller::Cc;
use kit::CancellationToken;
use kit::reconcile::Nudge;
use std::time::Duration;

/// How soon a failed sync is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How often deployments are looked at when nothing happens.
const ROLLOUT_INTERVAL: Duration = Duration::from_secs(2);

/// The background work: sync, crash events, deployments. Ends with `shutdown`.
pub(crate) async fn run(cc: Cc, shutdown: CancellationToken) {
    tokio::join!(
        keep_syncing(&cc, &shutdown),
        keep_rolling(&cc, &shutdown),
        events::watch(&cc, shutdown.clone())
    );
}

async fn keep_syncing(cc: &Cc, shutdown: &CancellationToken) {
    let nudge = cc.driver.nudge();
    let mut sync = sync::Sync::new();
    while !shutdown.is_cancelled() {
        let pause = match sync.run(cc).await {
            Ok(()) => cc.settings.sync_interval,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "diego-sync-failed");
                RETRY
            }
        };
        wait(pause, &nudge, shutdown).await;
    }
}

async fn keep_rolling(cc: &Cc, shutdown: &CancellationToken) {
    let nudge = cc.driver.rollout_nudge();
    while !shutdown.is_cancelled() {
        if let Err(error) = rollout::run(cc).await {
            tracing::warn!(error = format!("{error:#}"), "deployments-failed");
        }
        wait(ROLLOUT_INTERVAL, &nudge, shutdown).await;
    }
}

async fn wait(pause: Duration, nudge: &Nudge, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
        () = nudge.nudged() => {}
    }
}
