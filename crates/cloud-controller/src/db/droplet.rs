//! Droplets: builds create them, and apps run them.

use super::{Condition, Connection, Json, Select, rows, spelled};
use cc_rules::metadata::Metadata;
use staging_result::StagedSidecar;
use std::collections::BTreeMap;

spelled! {
    DropletState {
        AwaitingUpload = "AWAITING_UPLOAD", Staging = "STAGING", Copying = "COPYING", Staged = "STAGED", Failed = "FAILED", Expired = "EXPIRED",
    }
}

rows! {
    /// A droplet. `buildpacks` contains the API's objects; `checksum` is a SHA-256, and `blob` is the name of its bits in the
    /// store.
    Droplet in "droplets" {
        app_guid: String, package_guid: Option<String>, state: DropletState, error: Option<String>, stack: Option<String>, buildpacks: Json<Vec<serde_json::Value>>,
        process_types: Json<BTreeMap<String, String>>, execution_metadata: String, checksum: Option<String>, metadata: Json<Metadata>,
        sidecars: Json<Vec<StagedSidecar>>, blob: Option<String>,
    }
}

/// Returns the droplet that an app runs.
pub(crate) async fn current(
    conn: &mut Connection,
    app: &super::app::App,
) -> sqlx::Result<Option<Droplet>> {
    let Some(guid) = &app.droplet_guid else {
        return Ok(None);
    };
    of_app(conn, &app.guid, guid).await
}

/// Returns a droplet, unless it belongs to another app.
pub(crate) async fn of_app(
    conn: &mut Connection,
    app: &str,
    guid: &str,
) -> sqlx::Result<Option<Droplet>> {
    Select::new()
        .is("guid", guid)
        .is("app_guid", app)
        .first(conn)
        .await
}

/// Selects the droplets that the API shows, whose staging has ended.
pub(crate) fn is_staged() -> Condition {
    Condition::new("state <> 'STAGING'", [])
}

/// Selects the droplets that apps run.
pub(crate) fn is_current() -> Condition {
    Condition::new("guid IN (SELECT droplet_guid FROM apps)", [])
}

/// Fails the droplets whose copy began before `cutoff` and has not ended.
pub(crate) async fn fail_interrupted_copies(
    conn: &mut Connection,
    cutoff: i64,
) -> sqlx::Result<()> {
    let sql = "UPDATE droplets SET state = 'FAILED', error = 'The copy was interrupted' WHERE state = 'COPYING' AND updated_at < $1";
    super::execute(conn, sql, &[cutoff.into()]).await.map(drop)
}
