//! The users that the Cloud Controller knows.

use super::role::Role;
use super::{Arg, Condition, Connection, Json, Select, execute, rows};
use cc_rules::metadata::Metadata;

rows! {
    User in "users" { username: Option<String>, origin: Option<String>, metadata: Json<Metadata> }
}

/// Stores the user to whom a token belongs, so that roles can be assigned by user name.
pub(crate) async fn store_user(
    conn: &mut Connection,
    guid: &str,
    username: Option<&str>,
    origin: Option<&str>,
) -> sqlx::Result<()> {
    let now = crate::clock::now();
    let args = [
        guid.into(),
        now.into(),
        Arg::from(username.unwrap_or_default()),
        origin.unwrap_or_default().into(),
    ];
    execute(
        conn,
        "INSERT INTO users (guid, created_at, updated_at, username, origin, metadata)
         VALUES ($1, $2, $2, NULLIF($3, ''), NULLIF($4, ''), '{\"labels\":{},\"annotations\":{}}')
         ON CONFLICT (guid) DO UPDATE SET username = COALESCE(NULLIF($3, ''), users.username), origin = COALESCE(NULLIF($4, ''), users.origin)",
        &args,
    )
    .await
    .map(drop)
}

pub(crate) async fn known(conn: &mut Connection, guid: &str) -> sqlx::Result<Option<User>> {
    super::by_guid(conn, guid).await
}

/// Returns all users with this name who were seen here, whatever the case of the name.
pub(crate) async fn by_name(
    conn: &mut Connection,
    username: &str,
    origin: Option<&str>,
) -> sqlx::Result<Vec<User>> {
    let folded = username.to_ascii_lowercase();
    let select = Select::new().and("lower(username) = ?", [folded.into()]);
    match origin {
        Some(origin) => select.is("origin", origin),
        None => select,
    }
    .all_readable(conn)
    .await
}

/// Stores a user. One who is stored already stays unchanged.
pub(crate) async fn add(conn: &mut Connection, wanted: User) -> sqlx::Result<User> {
    if let Some(known) = known(conn, &wanted.guid).await? {
        return Ok(known);
    }
    super::insert(conn, &wanted).await?;
    Ok(wanted)
}

pub(crate) async fn of_roles(conn: &mut Connection, roles: &[Role]) -> sqlx::Result<Vec<User>> {
    let guids = roles.iter().map(|role| &role.user_guid);
    Select::new().any("guid", guids).all_readable(conn).await
}

/// Selects the users whose name contains this part.
pub(crate) fn name_has(part: &str) -> Condition {
    Condition::each(
        "instr(username, ?) > 0",
        "strpos(username, ?) > 0",
        [part.into()],
    )
}

/// Selects the users with a role in an organization itself.
pub(crate) fn is_of_organization(organization: &str) -> Condition {
    let sql = "guid IN (SELECT user_guid FROM roles WHERE organization_guid = ?)";
    Condition::new(sql, [organization.into()])
}

/// Selects the users with a role in a space.
pub(crate) fn is_of_space(space: &str) -> Condition {
    let sql = "guid IN (SELECT user_guid FROM roles WHERE space_guid = ?)";
    Condition::new(sql, [space.into()])
}
