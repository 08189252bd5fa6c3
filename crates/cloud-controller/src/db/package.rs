//! Packages: an app's uploaded source.

use super::{Connection, Json, Select, rows};
use crate::metadata::Metadata;

rows! {
    /// `state` is AWAITING_UPLOAD, READY or FAILED; `checksum` is SHA-256.
    Package in "packages" { app_guid: String, r#type: String, state: String, error: Option<String>, checksum: Option<String>, metadata: Json<Metadata> }
}

pub(crate) async fn of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<Package>> {
    Select::new().is("app_guid", app).all(conn).await
}
