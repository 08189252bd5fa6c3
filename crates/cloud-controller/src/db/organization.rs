//! Organizations and their quotas.

use super::{Arg, Connection, Json, Select, rows};
use crate::metadata::Metadata;

rows! {
    Organization in "organizations" { name: String, suspended: bool, quota_guid: String, metadata: Json<Metadata> }
}

rows! {
    /// `limits` is the API's object: apps, services, routes, domains.
    OrganizationQuota in "organization_quotas" { name: String, limits: Json<serde_json::Value> }
}

rows! {
    SpaceQuota in "space_quotas" { name: String, organization_guid: String, limits: Json<serde_json::Value> }
}

pub(crate) async fn by_name(
    conn: &mut Connection,
    name: &str,
) -> sqlx::Result<Option<Organization>> {
    Select::new().is("name", name).first(conn).await
}

pub(crate) async fn default_quota(
    conn: &mut Connection,
) -> sqlx::Result<Option<OrganizationQuota>> {
    Select::new().is("name", "default").first(conn).await
}

pub(crate) async fn of_quota(
    conn: &mut Connection,
    quota_guid: &str,
) -> sqlx::Result<Vec<Organization>> {
    Select::new()
        .is("quota_guid", quota_guid)
        .all_readable(conn)
        .await
}

/// Whether another quota has this one's name.
pub(crate) async fn is_quota_name_taken(
    conn: &mut Connection,
    quota: &OrganizationQuota,
) -> sqlx::Result<bool> {
    Select::new()
        .is("name", &quota.name)
        .and("guid <> ?", [(&quota.guid).into()])
        .exists::<OrganizationQuota>(conn)
        .await
}

pub(crate) async fn assign_quota(
    conn: &mut Connection,
    organization: &str,
    quota: &str,
) -> sqlx::Result<()> {
    super::execute(
        conn,
        "UPDATE organizations SET quota_guid = $1 WHERE guid = $2",
        &[Arg::from(quota), organization.into()],
    )
    .await
    .map(drop)
}

/// Whether another quota of the same organization has this name.
pub(crate) async fn is_space_quota_name_taken(
    conn: &mut Connection,
    quota: &SpaceQuota,
) -> sqlx::Result<bool> {
    Select::new()
        .is("organization_guid", &quota.organization_guid)
        .is("name", &quota.name)
        .and("guid <> ?", [(&quota.guid).into()])
        .exists::<SpaceQuota>(conn)
        .await
}
