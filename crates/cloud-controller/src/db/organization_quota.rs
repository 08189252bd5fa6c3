//! Quotas of organizations.

use super::{Connection, Json, Select, rows};

rows! {
    /// A quota. `limits` is the API's object: apps, services, routes, domains.
    OrganizationQuota in "organization_quotas" { name: String, limits: Json<serde_json::Value> }
}

pub(crate) async fn default_one(conn: &mut Connection) -> sqlx::Result<Option<OrganizationQuota>> {
    Select::new().is("name", "default").first(conn).await
}

/// Returns whether another quota has the same name.
pub(crate) async fn is_name_taken(
    conn: &mut Connection,
    quota: &OrganizationQuota,
) -> sqlx::Result<bool> {
    Select::new()
        .is("name", &quota.name)
        .and("guid <> ?", [(&quota.guid).into()])
        .exists::<OrganizationQuota>(conn)
        .await
}
