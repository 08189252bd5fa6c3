//! Copies the bits of a package or droplet. The row of the copy is created first, in state COPYING, so that its file is never
//! removed as a file without a row. A copy that a crash interrupted fails at the next start.

use crate::bits::store::Kind;
use crate::controller::Cc;
use crate::db::app::App;
use crate::db::droplet::{self, Droplet, DropletState};
use crate::db::package::{self, Package, PackageState};
use crate::db::{self, Connection, Db, Row, Unrecorded};
use crate::error::{ApiError, ApiResult};

/// A resource whose bits can be copied.
pub(crate) trait Copied: Row + Clone {
    const KIND: Kind;
    /// Stores the outcome of copying in the row: the checksum and the name of the blob, or what is wrong.
    fn set_outcome(&mut self, outcome: Result<(String, String), String>);
    fn is_copying(&self) -> bool;
}

impl Copied for Droplet {
    const KIND: Kind = Kind::Droplet;
    fn set_outcome(&mut self, outcome: Result<(String, String), String>) {
        self.state = match outcome {
            Ok(_) => DropletState::Staged,
            Err(_) => DropletState::Failed,
        };
        match outcome {
            Ok((checksum, blob)) => (self.checksum, self.blob) = (Some(checksum), Some(blob)),
            Err(problem) => self.error = Some(problem),
        }
        self.touch();
    }
    fn is_copying(&self) -> bool {
        self.state == DropletState::Copying
    }
}

impl Copied for Package {
    const KIND: Kind = Kind::Package;
    fn set_outcome(&mut self, outcome: Result<(String, String), String>) {
        self.state = match outcome {
            Ok(_) => PackageState::Ready,
            Err(_) => PackageState::Failed,
        };
        match outcome {
            Ok((checksum, blob)) => (self.checksum, self.blob) = (Some(checksum), Some(blob)),
            Err(problem) => self.error = Some(problem),
        }
        self.touch();
    }
    fn is_copying(&self) -> bool {
        self.state == PackageState::Copying
    }
}

/// Returns the row of a copied droplet for another app, without its bits.
pub(crate) fn droplet(source: &Droplet, app: &App) -> ApiResult<Droplet> {
    if source.state != DropletState::Staged {
        return Err(ApiError::unprocessable("source droplet is not staged"));
    }
    Ok(Droplet {
        app_guid: app.guid.clone(),
        package_guid: None,
        state: DropletState::Copying,
        error: None,
        stack: source.stack.clone(),
        buildpacks: source.buildpacks.clone(),
        process_types: source.process_types.clone(),
        execution_metadata: source.execution_metadata.clone(),
        sidecars: source.sidecars.clone(),
        ..Droplet::fresh()
    })
}

/// Copies the blob `source` and writes the outcome into the row. It is called after the commit of the copy's row.
pub(crate) async fn bits<R: Copied>(cc: &Cc, source: Option<String>, copy: &R) -> ApiResult<R> {
    let (store, target) = (cc.blobs.clone(), copy.guid().to_owned());
    let copy_blob = move || {
        let source = source.ok_or_else(|| anyhow::anyhow!("the source has no bits"))?;
        store.copy(R::KIND, &source, &target)
    };
    let copied = tokio::task::spawn_blocking(copy_blob)
        .await
        .map_err(anyhow::Error::from)?;
    let mut tx = cc.change().await?;
    let row = db::by_guid::<R>(&mut tx, copy.guid())
        .await?
        .filter(R::is_copying);
    let Some(mut row) = row else {
        // The row was removed in the meantime. Nothing names the blob, so that it is removed.
        return Ok(copy.clone());
    };
    let (outcome, stored) = match copied {
        Ok(stored) => {
            let outcome = (stored.blob.sha256.clone(), stored.name.clone());
            (Ok(outcome), Some(stored))
        }
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "copy-failed");
            (Err("The bits could not be copied".to_owned()), None)
        }
    };
    row.set_outcome(outcome);
    db::update(&mut tx, &row).await?;
    if let Some(stored) = stored {
        stored.keep();
    }
    tx.commit(Unrecorded::Consequence).await?;
    Ok(row)
}

/// The time after which a copy of another Cloud Controller counts as interrupted, in microseconds.
const LONGEST: i64 = 3600 * 1_000_000;

/// Returns the time before which every copy that has not ended was interrupted. It is called at the start, and now and then.
/// Other Cloud Controllers may copy bits at the same time if they share the database; otherwise nobody copies at the start.
pub(crate) fn interrupted_before(db: &Db, now: i64) -> i64 {
    match db.is_shared() {
        true => now.saturating_sub(LONGEST),
        false => i64::MAX,
    }
}

/// Fails the copies that began before `cutoff` and have not ended.
pub(crate) async fn fail_interrupted(conn: &mut Connection, cutoff: i64) -> sqlx::Result<()> {
    droplet::fail_interrupted_copies(conn, cutoff).await?;
    package::fail_interrupted_copies(conn, cutoff).await
}
