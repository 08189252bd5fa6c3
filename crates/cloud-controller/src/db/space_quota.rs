//! Quotas of spaces.

use super::{Connection, Json, Select, rows};

rows! {
    SpaceQuota in "space_quotas" { name: String, organization_guid: String, limits: Json<serde_json::Value> }
}

/// Returns whether another quota of the same organization has this name.
pub(crate) async fn is_name_taken(conn: &mut Connection, quota: &SpaceQuota) -> sqlx::Result<bool> {
    Select::new()
        .is("organization_guid", &quota.organization_guid)
        .is("name", &quota.name)
        .and("guid <> ?", [(&quota.guid).into()])
        .exists::<SpaceQuota>(conn)
        .await
}
