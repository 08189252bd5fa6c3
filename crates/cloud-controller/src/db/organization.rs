//! Organizations.

use super::{Arg, Connection, Json, Select, rows};
use cc_rules::metadata::Metadata;

rows! {
    Organization in "organizations" folding ["name"] { name: String, suspended: bool, quota_guid: String, metadata: Json<Metadata> }
}

pub(crate) async fn by_name(
    conn: &mut Connection,
    name: &str,
) -> sqlx::Result<Option<Organization>> {
    Select::new().is("name", name).first(conn).await
}

/// Returns the organizations among some guids that exist. One that cannot be read is left out.
pub(crate) async fn all_of(
    conn: &mut Connection,
    guids: &[String],
) -> sqlx::Result<Vec<Organization>> {
    let select = Select::new().any("guid", guids.iter().cloned());
    select.all_readable(conn).await
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
