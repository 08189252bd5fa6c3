//! Spaces.

use super::organization::Organization;
use super::{Arg, Connection, Json, ListCondition, Select, execute, rows, with_parent};
use cc_rules::metadata::Metadata;

rows! {
    Space in "spaces" folding ["name"] { name: String, organization_guid: String, quota_guid: Option<String>, allow_ssh: bool, suspended: bool, metadata: Json<Metadata> }
}

/// Returns a space and its organization.
pub(crate) async fn with_organization(
    conn: &mut Connection,
    guid: &str,
) -> sqlx::Result<Option<(Space, Organization)>> {
    with_parent(conn, guid, "organization_guid").await
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

/// Returns the spaces among some guids that exist. One that cannot be read is left out.
pub(crate) async fn all_of(conn: &mut Connection, guids: &[String]) -> sqlx::Result<Vec<Space>> {
    let select = Select::new().any("guid", guids.iter().cloned());
    select.all_readable(conn).await
}

/// Returns the oldest space of an organization.
pub(crate) async fn first_of_organization(
    conn: &mut Connection,
    organization: &str,
) -> sqlx::Result<Option<Space>> {
    Select::new()
        .is("organization_guid", organization)
        .first(conn)
        .await
}

pub(crate) async fn of_quota(conn: &mut Connection, quota: &str) -> sqlx::Result<Vec<Space>> {
    Select::new()
        .is("quota_guid", quota)
        .all_readable(conn)
        .await
}

/// Assigns a quota to a space. Without a quota of its own, only the organization's quota applies to the space.
pub(crate) async fn assign_quota(
    conn: &mut Connection,
    space: &str,
    quota: Option<&str>,
) -> sqlx::Result<()> {
    execute(
        conn,
        "UPDATE spaces SET quota_guid = NULLIF($1, '') WHERE guid = $2",
        &[Arg::from(quota.unwrap_or_default()), space.into()],
    )
    .await
    .map(drop)
}

/// The condition for rows whose space belongs to one of some organizations.
pub(crate) const OF_ORGANIZATIONS: ListCondition =
    ListCondition("space_guid IN (SELECT guid FROM spaces WHERE organization_guid IN LIST(?))");
