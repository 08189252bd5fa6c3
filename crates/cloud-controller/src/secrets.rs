//! Keeps stored secrets sealed with the newest key: it notes which keys are in use, and seals secrets again after a rotation.
//!
//! A Cloud Controller without a key that the database needs does not start, so that none seals with a key that others lack.
//! Callers: the component checks the keys before it serves and runs [`run`]; the binary calls [`rotate_key`].

use crate::controller::Cc;
use crate::db::app::{self, App};
use crate::db::sealed::{self, Secret};
use crate::db::service_credential_binding::ServiceCredentialBinding;
use crate::db::service_instance::ServiceInstance;
use crate::db::{self, Db};
use crate::sealing::{self, Keyring, Sealed};
use anyhow::{Context as _, Result};
use kit::CancellationToken;
use kit::watched::Watched;
use std::collections::BTreeMap;
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

/// Seals the variables of apps that an older version stored in clear. Values that are no JSON stay as they are, and are damaged.
pub(crate) async fn seal_clear(db: &Db, keys: &Keyring) -> Result<()> {
    let clear = app::with_clear_environment(&mut *db.read_own().await?).await?;
    let is_right = |text: &str| serde_json::from_str::<BTreeMap<String, String>>(text).is_ok();
    let clear: Vec<_> = clear.into_iter().filter(|app| is_right(&app.2)).collect();
    if clear.is_empty() {
        return Ok(());
    }
    let mut upkeep = db.upkeep().await?;
    for (id, guid, text) in &clear {
        let sealed = match text.as_str() {
            "{}" => Sealed::default(),
            text => keys.seal(guid, text)?,
        };
        app::set_environment(&mut upkeep, *id, &sealed).await?;
    }
    upkeep.commit().await?;
    tracing::info!(apps = clear.len(), "variables-sealed");
    Ok(())
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
            let guid = row.guid().to_owned();
            let Some(secret) = row.secret() else { continue };
            match keys.open(&guid, secret) {
                Ok(text) => *secret = keys.seal(&guid, &text)?,
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
mod tests {
    use super::*;
    use crate::db::organization::Organization;
    use crate::db::space::Space;
    use crate::db::{Select, insert};
    use kit::db::Location;

    #[tokio::test]
    async fn variables_in_clear_are_sealed_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cc.db");
        let location = Location::File(path.clone());
        let (db, _writer) = Db::open(&location, Duration::from_secs(1)).await.unwrap();
        let keys = Keyring::load(&folder.path().join(KEY_FILE)).unwrap();
        let (organization, space) = (Organization::fresh(), Space::fresh());
        let mut upkeep = db.upkeep().await.unwrap();
        insert(&mut upkeep, &organization).await.unwrap();
        let space = Space {
            organization_guid: organization.guid,
            ..space
        };
        insert(&mut upkeep, &space).await.unwrap();
        let apps = ["one", "two", "bad"].map(|name| App {
            name: name.to_owned(),
            space_guid: space.guid.clone(),
            ..App::fresh()
        });
        for app in &apps {
            insert(&mut upkeep, app).await.unwrap();
        }
        upkeep.commit().await.unwrap();
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut conn = sqlx::ConnectOptions::connect(&options).await.unwrap();
        for statement in [
            r#"UPDATE apps SET environment = '{"A":"1"}' WHERE name = 'one'"#,
            "UPDATE apps SET environment = '{}' WHERE name = 'two'",
            "UPDATE apps SET environment = '{' WHERE name = 'bad'",
        ] {
            sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
        }
        for _ in 0..2 {
            seal_clear(&db, &keys).await.unwrap();
        }
        let mut conn = db.read().await.unwrap();
        let found = Select::new().readable::<App>(&mut conn).await.unwrap();
        assert_eq!(found.broken.len(), 1, "the damaged one stays");
        let variables = found.rows.iter().map(|app| {
            let opened = keys.open_as::<BTreeMap<String, String>>(&app.guid, &app.environment);
            (app.name.as_str(), opened.unwrap().len())
        });
        assert_eq!(variables.collect::<Vec<_>>(), [("one", 1), ("two", 0)]);
        assert!(found.rows[1].environment.is_nothing());
        drop(conn);
        db.close().await;
    }

    #[tokio::test]
    async fn after_a_rotation_every_secret_is_sealed_with_the_new_key() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("cc.db"));
        let (db, _writer) = Db::open(&location, Duration::from_secs(1)).await.unwrap();
        let file = folder.path().join(KEY_FILE);
        let keys = Keyring::load(&file).unwrap();
        let old = keys.labels().remove(0);
        assert_eq!(pass(&db, &keys).await.unwrap(), 0);
        let (organization, space) = (Organization::fresh(), Space::fresh());
        let space = Space {
            organization_guid: organization.guid.clone(),
            ..space
        };
        let mut upkeep = db.upkeep().await.unwrap();
        insert(&mut upkeep, &organization).await.unwrap();
        insert(&mut upkeep, &space).await.unwrap();
        for number in 0..BATCH + 2 {
            let mut instance = ServiceInstance {
                name: format!("i{number}"),
                space_guid: space.guid.clone(),
                ..ServiceInstance::fresh()
            };
            let secret = keys.seal(&instance.guid, &instance.name).unwrap();
            instance.credentials = (number > 0).then_some(secret);
            insert(&mut upkeep, &instance).await.unwrap();
        }
        upkeep.commit().await.unwrap();

        let (new, _) = rotate_key(&file).unwrap();
        keys.reload().unwrap();
        let sealed = u64::try_from(BATCH + 1).unwrap();
        assert_eq!(pass(&db, &keys).await.unwrap(), sealed);
        assert_eq!(pass(&db, &keys).await.unwrap(), 0);
        let mut conn = db.read().await.unwrap();
        let instances: Vec<ServiceInstance> = Select::new().all(&mut conn).await.unwrap();
        for instance in &instances {
            let Some(sealed) = &instance.credentials else {
                assert_eq!(instance.name, "i0");
                continue;
            };
            assert!(sealed.stored().starts_with(&format!("v1.{new}.")));
            assert_eq!(keys.open(&instance.guid, sealed).unwrap(), instance.name);
        }
        assert_eq!(sealed::labels(&mut conn).await.unwrap(), [new]);
        drop(conn);

        // The file of another foundation, or an old copy, is refused.
        let other = Keyring::load(&folder.path().join("other")).unwrap();
        let error = format!("{:#}", check(&db, &other).await.unwrap_err());
        assert!(error.contains("restore the file"), "{error}");
        assert!(!error.contains(&old), "{error}");
        check(&db, &keys).await.unwrap();
        db.close().await;
    }
}
