//! Removes what is no longer needed: old droplets, packages and their files, and old records.
//!
//! ```text
//! every ten minutes, and at once after something was deleted:
//!   records older than they are kept ──▶ rows deleted, a batch per transaction
//!   droplets and packages beyond the last of each app, unless in use ──▶ EXPIRED
//!   deleted and expired rows ──(triggers)──▶ dead_blobs ──▶ blobs deleted
//!   blobs without a row, a day old ──▶ deleted
//! ```
//!
//! A trigger writes the blob's name of every removed row into `dead_blobs`. So no deletion can leave a blob behind, whichever way
//! it removes the row.

mod blobs;
mod records;

use crate::bits::store::Store;
use crate::clock;
use crate::config::Retention;
use crate::controller::Cc;
use crate::db::Db;
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use std::time::Duration;

/// The maximum number of rows that one transaction removes. Other writers get their turn between two batches.
const BATCH: i64 = 200;

/// The pause before a failed pass is repeated.
const RETRY: Duration = Duration::from_secs(60);

/// Runs passes until shutdown.
pub(crate) async fn run(cc: &Cc, shutdown: &CancellationToken) {
    let retention = cc.settings.retention;
    while !shutdown.is_cancelled() {
        let pause = match in_turn(&cc.db, &cc.blobs, &retention).await {
            Ok(None) => RETRY,
            Ok(Some(removed)) => {
                if removed > 0 {
                    tracing::info!(removed, "cleaned-up");
                }
                retention.interval
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cleanup-failed");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            () = cc.cleanup.nudged() => {}
        }
    }
}

/// Runs one pass, unless another Cloud Controller runs one.
async fn in_turn(db: &Db, store: &Store, retention: &Retention) -> Result<Option<u64>> {
    let Some(turn) = db.turn("clean-up").await? else {
        return Ok(None);
    };
    let removed = pass(db, store, retention, clock::now()).await;
    turn.end().await;
    removed.map(Some)
}

/// Runs one pass at the time `now` (microseconds since the epoch). Returns the number of removed and expired rows and files.
async fn pass(db: &Db, store: &Store, retention: &Retention, now: i64) -> Result<u64> {
    let kept = i64::try_from(retention.records.as_micros()).unwrap_or(i64::MAX);
    let mut removed = records::remove(db, now.saturating_sub(kept))
        .await
        .context("remove old records")?;
    if db.is_shared() {
        records::fail_interrupted_copies(db, now)
            .await
            .context("fail interrupted copies")?;
    }
    removed += records::expire(db, retention, now)
        .await
        .context("expire old droplets and packages")?;
    removed += blobs::remove_dead(db, store)
        .await
        .context("remove files of deleted rows")?;
    removed += blobs::remove_orphans(db, store, now)
        .await
        .context("remove files without a row")?;
    Ok(removed)
}

#[cfg(test)]
mod tests;
