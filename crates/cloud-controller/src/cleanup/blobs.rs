//! Removes the bits of packages and droplets whose row was removed.

use super::BATCH;
use crate::bits::store::{Kind, Store};
use crate::db::{Db, cleanup as sql};
use anyhow::{Context as _, Result};

/// The age from which a blob without a row is an orphan. Uploads and copies under way are younger.
const ORPHAN_AGE_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Removes the blobs of deleted and expired rows. A note is removed after its blob, so that a crash in between only repeats the
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
        let named = dead
            .iter()
            .filter_map(|(kind, name)| Some((Kind::named(kind)?, name.clone())))
            .collect();
        delete(store, named).await?;
        let mut upkeep = db.upkeep().await?;
        for (kind, name) in &dead {
            sql::delete_dead_blob(&mut upkeep, kind, name).await?;
        }
        upkeep.commit().await?;
        removed += dead.len() as u64;
    }
}

/// Removes blobs that no row names, once they are a day old: uploads that were not accepted, and files of packages that no space
/// has any more.
pub(super) async fn remove_orphans(db: &Db, store: &Store, now: i64) -> Result<u64> {
    let before = now.saturating_sub(ORPHAN_AGE_MICROS);
    let mut removed = 0;
    for kind in Kind::ALL {
        let lister = store.clone();
        let listed = tokio::task::spawn_blocking(move || lister.list(kind))
            .await
            .context("list blobs")??;
        let old: Vec<String> = listed
            .into_iter()
            .filter(|blob| blob.written < before)
            .map(|blob| blob.name)
            .collect();
        for names in old.chunks(usize::try_from(BATCH)?) {
            let known = {
                let mut conn = db.read_own().await?;
                sql::known(&mut conn, kind, names).await?
            };
            let orphans: Vec<(Kind, String)> = names
                .iter()
                .filter(|name| !known.contains(*name))
                .map(|name| (kind, name.clone()))
                .collect();
            for (kind, name) in &orphans {
                tracing::info!(kind = kind.directory(), name, "blob-without-row-deleted");
            }
            removed += orphans.len() as u64;
            delete(store, orphans).await?;
        }
    }
    Ok(removed)
}

async fn delete(store: &Store, blobs: Vec<(Kind, String)>) -> Result<()> {
    let store = store.clone();
    let delete = move || {
        blobs
            .iter()
            .try_for_each(|(kind, name)| store.delete(*kind, name))
    };
    tokio::task::spawn_blocking(delete)
        .await
        .context("delete blobs")?
}
