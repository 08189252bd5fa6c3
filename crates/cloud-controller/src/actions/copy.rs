//! Copying the bits of a package or droplet. The copy's row is there first, in state COPYING, so that its file is never
//! taken for one without a row; a copy that a crash interrupted fails at the next start.

use crate::bits::store::{Blob, Kind};
use crate::controller::Cc;
use crate::db::app::App;
use crate::db::droplet::{self, Droplet};
use crate::db::package::{self, Package};
use crate::db::{self, Connection, Row, Unrecorded};
use crate::error::{ApiError, ApiResult};

/// Something whose bits can be copied.
pub(crate) trait Copied: Row + Clone {
    const KIND: Kind;
    const DONE: &'static str;
    fn settle(&mut self, state: &str, checksum: Option<String>, error: Option<String>);
    fn is_copying(&self) -> bool;
}

impl Copied for Droplet {
    const KIND: Kind = Kind::Droplet;
    const DONE: &'static str = "STAGED";
    fn settle(&mut self, state: &str, checksum: Option<String>, error: Option<String>) {
        state.clone_into(&mut self.state);
        (self.checksum, self.error) = (checksum, error);
        self.touch();
    }
    fn is_copying(&self) -> bool {
        self.state == "COPYING"
    }
}

impl Copied for Package {
    const KIND: Kind = Kind::Package;
    const DONE: &'static str = "READY";
    fn settle(&mut self, state: &str, checksum: Option<String>, error: Option<String>) {
        state.clone_into(&mut self.state);
        (self.checksum, self.error) = (checksum, error);
        self.touch();
    }
    fn is_copying(&self) -> bool {
        self.state == "COPYING"
    }
}

/// A droplet of another app, without its bits yet.
pub(crate) fn droplet(source: &Droplet, app: &App) -> ApiResult<Droplet> {
    if source.state != Droplet::DONE {
        return Err(ApiError::unprocessable("source droplet is not staged"));
    }
    Ok(Droplet {
        app_guid: app.guid.clone(),
        package_guid: None,
        state: "COPYING".to_owned(),
        error: None,
        stack: source.stack.clone(),
        buildpacks: source.buildpacks.clone(),
        process_types: source.process_types.clone(),
        execution_metadata: source.execution_metadata.clone(),
        sidecars: source.sidecars.clone(),
        ..Droplet::fresh()
    })
}

/// After the commit of the copy's row: copies the bits and says in the row how it went.
pub(crate) async fn bits<R: Copied>(cc: &Cc, source: String, copy: &R) -> ApiResult<R> {
    let (store, target) = (cc.blobs.clone(), copy.guid().to_owned());
    let copied = tokio::task::spawn_blocking(move || store.copy(R::KIND, &source, &target))
        .await
        .map_err(anyhow::Error::from)?;
    let mut tx = cc.db.write().await?;
    let row = db::by_guid::<R>(&mut tx, copy.guid())
        .await?
        .filter(R::is_copying);
    let Some(mut row) = row else {
        // It was deleted meanwhile, and with it the file.
        return Ok(copy.clone());
    };
    match copied {
        Ok(Blob { sha256, .. }) => row.settle(R::DONE, Some(sha256), None),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "copy-failed");
            row.settle(
                "FAILED",
                None,
                Some("The bits could not be copied".to_owned()),
            );
        }
    }
    db::update(&mut tx, &row).await?;
    tx.commit(Unrecorded::Consequence).await?;
    Ok(row)
}

/// At start: whatever was being copied will never be whole.
pub(crate) async fn fail_interrupted(conn: &mut Connection) -> sqlx::Result<()> {
    droplet::fail_interrupted_copies(conn).await?;
    package::fail_interrupted_copies(conn).await
}
