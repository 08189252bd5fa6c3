//! Packages: an app's uploaded source.

use super::{Json, rows};
use crate::metadata::Metadata;

rows! {
    /// `state` is AWAITING_UPLOAD, READY or FAILED; `checksum` is SHA-256.
    Package in "packages" { app_guid: String, r#type: String, state: String, error: Option<String>, checksum: Option<String>, metadata: Json<Metadata> }
}
