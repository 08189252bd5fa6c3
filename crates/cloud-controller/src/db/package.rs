//! Packages: an app's uploaded source.

use super::{Connection, Json, rows, spelled};
use cc_rules::metadata::Metadata;

spelled! {
    PackageState { AwaitingUpload = "AWAITING_UPLOAD", Copying = "COPYING", Ready = "READY", Failed = "FAILED", Expired = "EXPIRED" }
}

spelled! {
    PackageType { Bits = "bits" }
}

rows! {
    /// A package. `checksum` is a SHA-256.
    Package in "packages" { app_guid: String, r#type: PackageType, state: PackageState, error: Option<String>, checksum: Option<String>, metadata: Json<Metadata> }
}

/// Fails the packages that were being copied when the process ended. It is called at the start.
pub(crate) async fn fail_interrupted_copies(conn: &mut Connection) -> sqlx::Result<()> {
    let sql = "UPDATE packages SET state = 'FAILED', error = 'The copy was interrupted' WHERE state = 'COPYING'";
    super::execute(conn, sql, &[]).await.map(drop)
}
