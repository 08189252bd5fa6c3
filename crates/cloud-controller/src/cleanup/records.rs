//! Removes old rows, and expires droplets and packages beyond the newest ones of their app.

use super::BATCH;
use crate::actions::copy;
use crate::config::Retention;
use crate::db::{Db, cleanup as sql};
use anyhow::Result;

/// Removes rows that were last changed before `cutoff`, batch by batch.
pub(super) async fn remove(db: &Db, cutoff: i64) -> Result<u64> {
    let mut removed = 0;
    for statement in sql::OLD_RECORDS {
        loop {
            let mut upkeep = db.upkeep().await?;
            let batch = sql::remove_old(&mut upkeep, statement, cutoff, BATCH).await?;
            upkeep.commit().await?;
            removed += batch;
            if batch < BATCH.unsigned_abs() {
                break;
            }
        }
    }
    Ok(removed)
}

/// Expires droplets and packages. The transaction that expires them checks again whether they are in use.
pub(super) async fn expire(db: &Db, retention: &Retention, now: i64) -> Result<u64> {
    let kinds = [
        (&sql::DROPLETS, retention.droplets_per_app),
        (&sql::PACKAGES, retention.packages_per_app),
    ];
    let mut expired = 0;
    for (kind, keep) in kinds {
        loop {
            let surplus = {
                let mut conn = db.read_own().await?;
                sql::surplus(&mut conn, kind, i64::from(keep), BATCH).await?
            };
            if surplus.is_empty() {
                break;
            }
            let mut upkeep = db.upkeep().await?;
            let batch = sql::expire(&mut upkeep, kind, &surplus, now).await?;
            upkeep.commit().await?;
            expired += batch;
            if batch == 0 {
                break;
            }
        }
    }
    Ok(expired)
}

/// Fails the copies of Cloud Controllers that ended in the middle of them.
pub(super) async fn fail_interrupted_copies(db: &Db, now: i64) -> Result<()> {
    let mut upkeep = db.upkeep().await?;
    copy::fail_interrupted(&mut upkeep, copy::interrupted_before(db, now)).await?;
    upkeep.commit().await?;
    Ok(())
}
