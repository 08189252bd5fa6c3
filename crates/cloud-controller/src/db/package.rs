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
    /// A package. `checksum` is a SHA-256, and `blob` is the name of its bits in the store.
    Package in "packages" {
        app_guid: String, r#type: PackageType, state: PackageState, error: Option<String>, checksum: Option<String>, metadata: Json<Metadata>,
        blob: Option<String>,
    }
}

/// Fails the packages whose copy began before `cutoff` and has not ended.
pub(crate) async fn fail_interrupted_copies(
    conn: &mut Connection,
    cutoff: i64,
) -> sqlx::Result<()> {
    let sql = "UPDATE packages SET state = 'FAILED', error = 'The copy was interrupted' WHERE state = 'COPYING' AND updated_at < $1";
    super::execute(conn, sql, &[cutoff.into()]).await.map(drop)
}
