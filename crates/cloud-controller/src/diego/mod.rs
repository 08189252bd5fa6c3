//! Drives Diego: the requests of the Cloud Controller to the BBS, and the events and callbacks from it.
//!
//! `cc_rules::recipe` builds what Diego gets. This module does the IO, and reads the database again for every step, so that Diego
//! always gets the newest state: [`driver`] reconciles single processes right after a change, and [`sync`] repairs everything else.

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
mod ssh_keys;
mod sync;
pub(crate) mod troubles;

use crate::controller::Cc;
use crate::db::Turn;
use anyhow::Context as _;
use kit::CancellationToken;
use kit::reconcile::Nudge;
use std::time::{Duration, Instant};

/// The pause before a failed sync is repeated.
const RETRY: Duration = Duration::from_secs(2);

/// The period in which deployments are advanced if no event wakes them.
const ROLLOUT_INTERVAL: Duration = Duration::from_secs(2);

/// Runs the background work until `shutdown`: the sync, the events of the BBS, and the deployments.
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
        let turn = match cc.db.turn("sync").await {
            // Another Cloud Controller syncs at this moment.
            Ok(None) => {
                wait(RETRY, &nudge, shutdown).await;
                continue;
            }
            turn => turn,
        };
        let (begun, began) = (cc.last_sync.begin(), Instant::now());
        let result = match turn {
            Ok(turn) => {
                let result = sync.run(cc).await;
                end(turn).await;
                result
            }
            Err(error) => Err(error).context("begin the turn of the sync"),
        };
        cc.metrics.diego_sync.observe(began.elapsed());
        cc.bbs_is_synced.attempted(&result);
        begun.end(sync.changed(), &result);
        let pause = match result {
            Ok(()) => cc.settings.sync_interval,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "diego-sync-failed");
                RETRY
            }
        };
        wait(pause, &nudge, shutdown).await;
    }
}

async fn end(turn: Option<Turn>) {
    if let Some(turn) = turn {
        turn.end().await;
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
