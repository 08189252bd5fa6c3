//! Keeps stored secrets sealed with the newest key: it notes which keys are in use, and seals secrets again after a rotation.
//!
//! A Cloud Controller without a key that the database needs does not start, so that none seals with a key that others lack.
//! Callers: the component checks the keys before it serves and runs [`run`]; the binary calls [`rotate_key`].

use crate::controller::Cc;
use crate::db::app::App;
use crate::db::job::Job;
use crate::db::sealed::{self, CLEAR, Clear, Secret};
use crate::db::service_broker::ServiceBroker;
use crate::db::service_credential_binding::ServiceCredentialBinding;
use crate::db::service_instance::ServiceInstance;
use crate::db::{self, Connection, Db};
use crate::sealing::{self, Keyring, Sealed};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::watched::Watched;
use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// The name of the file of keys in the data directory, unless the configuration names another file.
pub const KEY_FILE: &str = "secrets.keys";

/// The maximum number of secrets that one transaction seals again. Other writers get their turn between two batches.
const BATCH: i64 = 50;

/// The pause before a failed pass is repeated.
const RETRY: Duration = Duration::from_secs(5);

/// Adds a new key to the file of a Cloud Controller. Returns its label and the number of all keys.
///
/// # Errors
/// It fails if the file does not exist, is readable by others, or cannot be replaced.
pub fn rotate_key(file: &Path) -> Result<(String, usize)> {
    sealing::rotate(file)
}

/// Refuses keys that lack one with which secrets in the database are sealed.
pub(crate) async fn check(db: &Db, keys: &Keyring) -> Result<()> {
    let used = sealed::labels(&mut *db.read_own().await?).await?;
    let known = keys.labels();
    let missing: Vec<String> = used.into_iter().filter(|l| !known.contains(l)).collect();
    anyhow::ensure!(
        missing.is_empty(),
        "{} lacks the key {}, with which secrets in the database are sealed: restore the file from a backup, or copy it from another Cloud Controller of this database",
        keys.path().display(),
        missing.join(", ")
    );
    Ok(())
}

/// Seals what an older version stored in clear. Values that are no JSON stay as they are, and are damaged.
pub(crate) async fn seal_clear(db: &Db, keys: &Keyring) -> Result<()> {
    for column in CLEAR {
        if in_clear(&mut *db.read_own().await?, column)
            .await?
            .is_empty()
        {
            continue;
        }
        // They are read again in the transaction, because another Cloud Controller may have sealed them meanwhile.
        let mut upkeep = db.upkeep().await?;
        let clear = in_clear(&mut upkeep, column).await?;
        for (id, row, text) in &clear {
            let sealed = match text.as_str() {
                "{}" => Sealed::default(),
                text => keys.seal(row, text)?,
            };
            column.seal(&mut upkeep, *id, &sealed).await?;
        }
        upkeep.commit().await?;
        tracing::info!(rows = clear.len(), "clear-secrets-sealed");
    }
    Ok(())
}

/// Returns the JSON objects of a column that are in clear, as (id, row, text).
async fn in_clear(
    conn: &mut Connection,
    column: &Clear,
) -> sqlx::Result<Vec<(i64, String, String)>> {
    let mut clear = column.rows(conn).await?;
    clear.retain(|(.., text)| serde_json::from_str::<Map<String, Value>>(text).is_ok());
    Ok(clear)
}

/// Notes the newest key, seals with it what other keys have sealed, and does so again after each change of the file.
pub(crate) async fn run(cc: &Cc, shutdown: &CancellationToken) {
    let mut file = Watched::new(vec![cc.settings.keys.path().to_owned()]);
    loop {
        let is_done = match pass(&cc.db, &cc.settings.keys).await {
            Ok(0) => true,
            Ok(sealed) => {
                tracing::info!(sealed, "secrets-sealed-again");
                true
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "secrets-not-sealed-again");
                false
            }
        };
        let again = async {
            match is_done {
                true => drop(file.changed().await),
                false => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = again => {}
        }
        if let Err(error) = cc.settings.keys.reload() {
            tracing::warn!(error = format!("{error:#}"), "keys-not-read");
        }
    }
}

/// Seals all secrets with the newest key. Returns the number of those that were sealed again.
async fn pass(db: &Db, keys: &Keyring) -> Result<u64> {
    let label = keys
        .labels()
        .into_iter()
        .next()
        .context("there is no key")?;
    let used = sealed::labels(&mut *db.read_own().await?).await?;
    if used == [label.as_str()] {
        return Ok(0);
    }
    check(db, keys).await?;
    let mut upkeep = db.upkeep().await?;
    sealed::add_label(&mut upkeep, &label).await?;
    upkeep.commit().await?;
    let mut done = again::<App>(db, keys, &label).await?;
    done += again::<Job>(db, keys, &label).await?;
    done += again::<ServiceBroker>(db, keys, &label).await?;
    done += again::<ServiceInstance>(db, keys, &label).await?;
    done += again::<ServiceCredentialBinding>(db, keys, &label).await?;
    if done.left == 0 {
        let mut upkeep = db.upkeep().await?;
        sealed::keep_label(&mut upkeep, &label).await?;
        upkeep.commit().await?;
    }
    Ok(done.sealed)
}

/// The numbers of secrets that were sealed again, and of those that could not be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Again {
    sealed: u64,
    left: u64,
}

impl std::ops::AddAssign for Again {
    fn add_assign(&mut self, other: Self) {
        self.sealed += other.sealed;
        self.left += other.left;
    }
}

/// Seals the secrets of a table again, batch by batch. It ends when a batch has only secrets that cannot be opened.
async fn again<R: Secret>(db: &Db, keys: &Keyring, label: &str) -> Result<Again> {
    let mut all = Again::default();
    loop {
        let mut upkeep = db.upkeep().await?;
        let mut batch = Again::default();
        for mut row in sealed::of_other_keys::<R>(&mut upkeep, label, BATCH).await? {
            let owner = row.sealed_for().to_owned();
            let Some(secret) = row.secret() else { continue };
            match keys.open(&owner, secret) {
                Ok(text) => *secret = keys.seal(&owner, &text)?,
                Err(error) => {
                    tracing::warn!(%error, "secret-not-opened");
                    batch.left += 1;
                    continue;
                }
            }
            db::update(&mut upkeep, &row).await?;
            batch.sealed += 1;
        }
        upkeep.commit().await?;
        all.sealed += batch.sealed;
        if batch.sealed == 0 {
            all.left = batch.left;
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests;
