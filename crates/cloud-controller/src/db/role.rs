//! Users as far as the Cloud Controller knows them, and their roles.

use super::{Arg, Connection, Json, Select, execute, rows};
use crate::metadata::Metadata;

rows! {
    User in "users" { username: Option<String>, origin: Option<String>, metadata: Json<Metadata> }
}

rows! {
    /// Exactly one of `organization_guid` and `space_guid` is set.
    Role in "roles" { r#type: String, user_guid: String, organization_guid: Option<String>, space_guid: Option<String> }
}

/// All roles of a user that matter in an organization and, when given, one of its spaces.
pub(crate) async fn of_user(
    conn: &mut Connection,
    user: &str,
    organization: &str,
    space: Option<&str>,
) -> sqlx::Result<Vec<Role>> {
    let space = space.unwrap_or("");
    Select::new()
        .is("user_guid", user)
        .and(
            "(organization_guid = ? OR space_guid = ?)",
            [organization.into(), space.into()],
        )
        .all(conn)
        .await
}

pub(crate) async fn find(conn: &mut Connection, role: &Role) -> sqlx::Result<Option<Role>> {
    let select = Select::new()
        .is("type", &role.r#type)
        .is("user_guid", &role.user_guid);
    match (&role.organization_guid, &role.space_guid) {
        (Some(organization), _) => select.is("organization_guid", organization),
        (None, space) => select.is("space_guid", space.as_deref().unwrap_or_default()),
    }
    .first(conn)
    .await
}

/// Remembers who a token belongs to, so that roles can be given by user name.
pub(crate) async fn see_user(
    conn: &mut Connection,
    guid: &str,
    username: Option<&str>,
    origin: Option<&str>,
) -> sqlx::Result<()> {
    let now = crate::clock::now();
    let args = [
        guid.into(),
        Arg::Int(now),
        Arg::from(username.unwrap_or_default()),
        origin.unwrap_or_default().into(),
    ];
    execute(
        conn,
        "INSERT INTO users (guid, created_at, updated_at, username, origin, metadata)
         VALUES ($1, $2, $2, NULLIF($3, ''), NULLIF($4, ''), '{\"labels\":{},\"annotations\":{}}')
         ON CONFLICT (guid) DO UPDATE SET username = COALESCE(NULLIF($3, ''), username), origin = COALESCE(NULLIF($4, ''), origin)",
        &args,
    )
    .await
    .map(drop)
}

const VISIBLE_SPACES: &str = "SELECT space_guid FROM roles WHERE user_guid = ? AND space_guid IS NOT NULL
    UNION SELECT s.guid FROM spaces s JOIN roles r ON r.organization_guid = s.organization_guid WHERE r.user_guid = ? AND r.type = 'organization_manager'";

fn twice(user: &str) -> [Arg; 2] {
    [user.into(), user.into()]
}

pub(crate) fn in_visible_organizations(select: Select, column: &str, user: &str) -> Select {
    let condition = format!(
        "{column} IN (SELECT organization_guid FROM roles WHERE user_guid = ? AND organization_guid IS NOT NULL
            UNION SELECT s.organization_guid FROM spaces s JOIN roles r ON r.space_guid = s.guid WHERE r.user_guid = ?)"
    );
    select.and(&condition, twice(user))
}

pub(crate) fn in_visible_spaces(select: Select, column: &str, user: &str) -> Select {
    select.and(&format!("{column} IN ({VISIBLE_SPACES})"), twice(user))
}

pub(crate) fn of_visible_apps(select: Select, column: &str, user: &str) -> Select {
    select.and(
        &format!("{column} IN (SELECT guid FROM apps WHERE space_guid IN ({VISIBLE_SPACES}))"),
        twice(user),
    )
}

pub(crate) fn with_visible_routes(select: Select, column: &str, user: &str) -> Select {
    let condition = format!(
        "{column} IN ({VISIBLE_SPACES} UNION SELECT s.guid FROM spaces s JOIN roles r ON r.organization_guid = s.organization_guid
            WHERE r.user_guid = ? AND r.type = 'organization_auditor')"
    );
    select.and(&condition, [user.into(), user.into(), user.into()])
}
