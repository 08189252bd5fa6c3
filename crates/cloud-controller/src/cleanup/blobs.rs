//! Removes the files of packages and droplets whose row was removed.

use super::BATCH;
use crate::bits::store::{Kind, Store};
use crate::db::{Db, cleanup as sql};
use anyhow::{Context as _, Result};

/// The age from which a file without a row is an orphan. Uploads and copies under way are younger.
const ORPHAN_AGE_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Removes the files of deleted and expired rows. A note is removed after its file, so that a crash in between only repeats the
/// work.
pub(super) async fn remove_dead(db: &Db, store: &Store) -> Result<u64> {
    let mut removed = 0;
    loop {
        let dead = {
            let mut conn = db.read_own().await?;
            sql::dead_blobs(&mut conn, BATCH).await?
        };
        if dead.is_empty() {
            return Ok(removed);
        }
        let (store, files) = (store.clone(), dead.clone());
        tokio::task::spawn_blocking(move || {
            files
                .iter()
                .filter_map(|(kind, guid)| Some((Kind::named(kind)?, guid)))
                .try_for_each(|(kind, guid)| store.delete(kind, guid))
        })
        .await
        .context("delete files")??;
        let mut upkeep = db.upkeep().await?;
        for (kind, guid) in &dead {
            sql::delete_dead_blob(&mut upkeep, kind, guid).await?;
        }
        upkeep.commit().await?;
        removed += dead.len() as u64;
    }
}

/// Removes files that have no row, once they are a day old.
pub(super) async fn remove_orphans(db: &Db, store: &Store, now: i64) -> Result<u64> {
    let mut removed = 0;
    for kind in [Kind::Package, Kind::Droplet] {
        let lister = store.clone();
        let before = now.saturating_sub(ORPHAN_AGE_MICROS);
        let old = tokio::task::spawn_blocking(move || lister.written_before(kind, before))
            .await
            .context("list files")??;
        for guids in old.chunks(usize::try_from(BATCH)?) {
            let known = {
                let mut conn = db.read_own().await?;
                sql::known(&mut conn, kind.directory(), guids).await?
            };
            for guid in guids.iter().filter(|guid| !known.contains(guid)) {
                tracing::info!(kind = kind.directory(), guid, "file-without-row-deleted");
                store.delete(kind, guid)?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}
