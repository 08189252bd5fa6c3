//! Security groups, and the spaces to which they are bound.

use super::{Arg, Condition, Connection, Json, ListCondition, Select, execute, rows, spelled};
use kit::db::query;
use serde_json::Value;

spelled! {
    /// The phase of an app's life in which a group's rules apply.
    Phase { Running = "running", Staging = "staging" }
}

rows! {
    SecurityGroup in "security_groups" { name: String, rules: Json<Vec<Value>>, running: bool, staging: bool }
}

/// The condition for the groups of a space's running instances: global ones and those bound to it. `?` is the space.
const RUNNING_IN_SPACE: &str = "(running = 1 OR guid IN (SELECT security_group_guid FROM security_group_spaces WHERE space_guid = ? AND phase = 'running'))";
/// The condition for the groups of a space's staging: global ones and those bound to it. `?` is the space.
const STAGING_IN_SPACE: &str = "(staging = 1 OR guid IN (SELECT security_group_guid FROM security_group_spaces WHERE space_guid = ? AND phase = 'staging'))";

/// Returns whether another group has the same name.
pub(crate) async fn is_name_taken(
    conn: &mut Connection,
    group: &SecurityGroup,
) -> sqlx::Result<bool> {
    Select::new()
        .is("name", &group.name)
        .and("guid <> ?", [(&group.guid).into()])
        .exists::<SecurityGroup>(conn)
        .await
}

/// The condition for groups that are bound to one of some spaces for its running instances.
pub(crate) const BOUND_TO_RUNNING_IN_SPACES: ListCondition = ListCondition(
    "guid IN (SELECT security_group_guid FROM security_group_spaces WHERE phase = 'running' AND space_guid IN LIST(?))",
);
/// The condition for groups that are bound to one of some spaces for its staging.
pub(crate) const BOUND_TO_STAGING_IN_SPACES: ListCondition = ListCondition(
    "guid IN (SELECT security_group_guid FROM security_group_spaces WHERE phase = 'staging' AND space_guid IN LIST(?))",
);

/// Selects the groups of a space in a phase: global ones and those bound to it.
pub(crate) fn holds_for(space: &str, phase: Phase) -> Condition {
    let sql = match phase {
        Phase::Running => RUNNING_IN_SPACE,
        Phase::Staging => STAGING_IN_SPACE,
    };
    Condition::new(sql, [space.into()])
}

/// Selects the groups that apply to a space in a phase.
pub(crate) fn all_for(space: &str, phase: Phase) -> Select {
    Select::new().that(holds_for(space, phase))
}

pub(crate) async fn spaces(
    conn: &mut Connection,
    group: &str,
    phase: Phase,
) -> sqlx::Result<Vec<String>> {
    let rows = query("SELECT space_guid FROM security_group_spaces WHERE security_group_guid = $1 AND phase = $2 ORDER BY id")
        .bind(group)
        .bind(phase)
        .fetch_all(conn)
        .await?;
    Ok(super::readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn bind(
    conn: &mut Connection,
    group: &str,
    space: &str,
    phase: Phase,
) -> sqlx::Result<()> {
    let sql = "INSERT INTO security_group_spaces (security_group_guid, space_guid, phase) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    execute(conn, sql, &[Arg::from(group), space.into(), phase.into()])
        .await
        .map(drop)
}

pub(crate) async fn unbind(
    conn: &mut Connection,
    group: &str,
    space: &str,
    phase: Phase,
) -> sqlx::Result<bool> {
    let sql = "DELETE FROM security_group_spaces WHERE security_group_guid = $1 AND space_guid = $2 AND phase = $3";
    Ok(execute(conn, sql, &[Arg::from(group), space.into(), phase.into()]).await? > 0)
}
