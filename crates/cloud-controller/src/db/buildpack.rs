//! Buildpacks.

use super::{Connection, Json, Order, Select, rows};
use cc_rules::metadata::Metadata;

rows! {
    Buildpack in "buildpacks" {
        name: String, stack: Option<String>, position: i64, enabled: bool, locked: bool, filename: String, metadata: Json<Metadata>,
    }
}

/// The order in which buildpacks are tried.
pub(crate) const BY_POSITION: Order = Order::terms("position, id");

pub(crate) async fn all(conn: &mut Connection) -> sqlx::Result<Vec<Buildpack>> {
    Select::new().ordered(&BY_POSITION).all_readable(conn).await
}
