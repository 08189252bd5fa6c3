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
    let syncing = reconcile("cc-diego-sync", cc.settings.sync_interval, cc.driver.nudge(), shutdown.clone(), {
        let cc = cc.clone();
        move || sync_once(cc.clone())
    });
    let rolling = reconcile("cc-deployments", Duration::from_secs(2), cc.driver.rollout_nudge(), shutdown.clone(), {
        let cc = cc.clone();
        move || {
            let cc = cc.clone();
            async move { rollout::run(&cc).await }
        }
    });
    tokio::join!(syncing, rolling, events::watch(&cc, shutdown.clone()));
}

/// One sync; a failed one is tried again soon.
async fn sync_once(cc: Cc) -> anyhow::Result<()> {
    let result = sync::run(&cc).await;
    if result.is_err() {
        let nudge = cc.driver.nudge();
        tokio::spawn(async move {
            tokio::time::sleep(RETRY).await;
            nudge.nudge();
        });
    }
    result
}
