//! Users as far as the Cloud Controller knows them, and their roles.

use super::organization::Organization;
use super::space::Space;
use super::{Arg, Condition, Connection, Json, Select, execute, rows};
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
        .all_readable(conn)
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

pub(crate) async fn user(conn: &mut Connection, guid: &str) -> sqlx::Result<Option<User>> {
    super::by_guid(conn, guid).await
}

/// Everybody of this name who was seen here, whatever the case of the name.
pub(crate) async fn users_by_name(
    conn: &mut Connection,
    username: &str,
    origin: Option<&str>,
) -> sqlx::Result<Vec<User>> {
    let select = Select::new().and("username = ? COLLATE NOCASE", [username.into()]);
    match origin {
        Some(origin) => select.is("origin", origin),
        None => select,
    }
    .all_readable(conn)
    .await
}

/// Makes a user known; one who is known already stays as they are.
pub(crate) async fn add_user(conn: &mut Connection, wanted: User) -> sqlx::Result<User> {
    if let Some(known) = user(conn, &wanted.guid).await? {
        return Ok(known);
    }
    super::insert(conn, &wanted).await?;
    Ok(wanted)
}

pub(crate) async fn users_of(conn: &mut Connection, roles: &[Role]) -> sqlx::Result<Vec<User>> {
    let guids = roles.iter().map(|role| &role.user_guid);
    Select::new().any("guid", guids).all_readable(conn).await
}

pub(crate) async fn spaces_of(conn: &mut Connection, roles: &[Role]) -> sqlx::Result<Vec<Space>> {
    let guids = roles.iter().filter_map(|role| role.space_guid.as_ref());
    Select::new().any("guid", guids).all_readable(conn).await
}

pub(crate) async fn organizations_of(
    conn: &mut Connection,
    roles: &[Role],
) -> sqlx::Result<Vec<Organization>> {
    let guids = roles
        .iter()
        .filter_map(|role| role.organization_guid.as_ref());
    Select::new().any("guid", guids).all_readable(conn).await
}

/// Holds for users whose name has this part.
pub(crate) fn user_name_has(part: &str) -> Condition {
    Condition::new("instr(username, ?) > 0", [part.into()])
}

/// Holds for users with a role in an organization itself.
pub(crate) fn is_user_of_organization(organization: &str) -> Condition {
    let sql = "guid IN (SELECT user_guid FROM roles WHERE organization_guid = ?)";
    Condition::new(sql, [organization.into()])
}

/// Holds for users with a role in a space.
pub(crate) fn is_user_of_space(space: &str) -> Condition {
    let sql = "guid IN (SELECT user_guid FROM roles WHERE space_guid = ?)";
    Condition::new(sql, [space.into()])
}

/// Whether a user has a role in any of an organization's spaces.
pub(crate) async fn has_any_in_spaces_of(
    conn: &mut Connection,
    user: &str,
    organization: &str,
) -> sqlx::Result<bool> {
    Select::new()
        .is("user_guid", user)
        .and(
            "space_guid IN (SELECT guid FROM spaces WHERE organization_guid = ?)",
            [organization.into()],
        )
        .exists::<Role>(conn)
        .await
}
