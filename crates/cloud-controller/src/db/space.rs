//! Spaces.

use super::{Connection, Json, Select, rows};
use crate::metadata::Metadata;

rows! {
    Space in "spaces" { name: String, organization_guid: String, quota_guid: Option<String>, allow_ssh: bool, suspended: bool, metadata: Json<Metadata> }
}

pub(crate) async fn by_name(
    conn: &mut Connection,
    organization: &str,
    name: &str,
) -> sqlx::Result<Option<Space>> {
    Select::new()
        .is("organization_guid", organization)
        .is("name", name)
        .first(conn)
        .await
}

pub(crate) async fn of_organization(
    conn: &mut Connection,
    organization: &str,
) -> sqlx::Result<Vec<Space>> {
    Select::new()
        .is("organization_guid", organization)
        .all(conn)
        .await
}
