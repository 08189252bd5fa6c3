//! Stacks.

use super::{Connection, Json, Select, rows};
use cc_rules::metadata::Metadata;

rows! {
    Stack in "stacks" { name: String, description: String, is_default: bool, metadata: Json<Metadata> }
}

pub(crate) async fn by_name(conn: &mut Connection, name: &str) -> sqlx::Result<Option<Stack>> {
    Select::new().is("name", name).first(conn).await
}

pub(crate) async fn default_one(conn: &mut Connection) -> sqlx::Result<Option<Stack>> {
    Select::new().is("is_default", 1).first(conn).await
}
