//! Packages: an app's uploaded source.

use super::{Connection, Json, rows, spelled};
use crate::metadata::Metadata;

spelled! {
    PackageState { AwaitingUpload = "AWAITING_UPLOAD", Copying = "COPYING", Ready = "READY", Failed = "FAILED", Expired = "EXPIRED" }
}

rows! {
    /// `checksum` is SHA-256.
    Package in "packages" { app_guid: String, r#type: String, state: PackageState, error: Option<String>, checksum: Option<String>, metadata: Json<Metadata> }
}

/// At start: a package that was being copied will never be whole.
pub(crate) async fn fail_interrupted_copies(conn: &mut Connection) -> sqlx::Result<()> {
    let sql = "UPDATE packages SET state = 'FAILED', error = 'The copy was interrupted' WHERE state = 'COPYING'";
    super::execute(conn, sql, &[]).await.map(drop)
}
