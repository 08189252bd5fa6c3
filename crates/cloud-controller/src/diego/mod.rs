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

mod events;
pub(crate) mod rollout;
mod sync;

use crate::controller::Cc;
use kit::CancellationToken;
use kit::reconcile::reconcile;
use std::time::Duration;

/// How soon a failed sync is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The background work: sync, crash events, deployments. Ends with `shutdown`.
pub(crate) async fn run(cc: Cc, shutdown: CancellationToken) {
    let nudge = cc.driver.nudge();
    let syncing = reconcile("cc-diego-sync", cc.settings.sync_interval, nudge.clone(), shutdown.clone(), async || {
        let result = sync::run(&cc).await;
        if result.is_err() {
            let nudge = nudge.clone();
            tokio::spawn(async move {
                tokio::time::sleep(RETRY).await;
                nudge.nudge();
            });
        }
        result
    });
    let rolling = reconcile("cc-deployments", Duration::from_secs(2), cc.driver.rollout_nudge(), shutdown.clone(), async || rollout::run(&cc).await);
    tokio::join!(syncing, rolling, events::watch(&cc, shutdown.clone()));
}
