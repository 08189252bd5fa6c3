//! Builds: each one stages a package into a droplet.

use super::{Connection, Json, Readable, Select, rows, spelled};
use cc_rules::metadata::Metadata;

spelled! {
    BuildState { Staging = "STAGING", Staged = "STAGED", Failed = "FAILED" }
}

rows! {
    Build in "builds" {
        app_guid: String, package_guid: String, droplet_guid: Option<String>, state: BuildState, error: Option<String>, buildpacks: Json<Vec<String>>, stack: String,
        memory_in_mb: i64, disk_in_mb: i64, created_by_guid: String, created_by_name: String, metadata: Json<Metadata>,
    }
}

pub(crate) async fn staging(conn: &mut Connection) -> sqlx::Result<Readable<Build>> {
    Select::new()
        .is("state", BuildState::Staging)
        .readable(conn)
        .await
}

pub(crate) async fn staging_of_app(
    conn: &mut Connection,
    app: &str,
) -> sqlx::Result<Option<Build>> {
    Select::new()
        .is("state", BuildState::Staging)
        .is("app_guid", app)
        .first(conn)
        .await
}
