//! What belongs to the platform and not to an organization: stacks, buildpacks, flags, environment groups, security groups, jobs.

use super::{
    Arg, Condition, Connection, Json, ListCondition, Order, Readable, Select, execute, rows,
};
use crate::metadata::Metadata;
use serde_json::Value;
use sqlx::Row as _;
use std::borrow::Cow;
use std::collections::BTreeMap;

rows! {
    Stack in "stacks" { name: String, description: String, is_default: bool, metadata: Json<Metadata> }
}

rows! {
    Buildpack in "buildpacks" {
        name: String, stack: Option<String>, position: i64, enabled: bool, locked: bool, filename: String, metadata: Json<Metadata>,
    }
}

rows! {
    FeatureFlag in "feature_flags" { name: String, enabled: bool, custom_error_message: Option<String> }
}

rows! {
    /// `running` and `staging`.
    EnvironmentGroup in "environment_variable_groups" { name: String, var: Json<BTreeMap<String, String>> }
}

rows! {
    SecurityGroup in "security_groups" { name: String, rules: Json<Vec<Value>>, running: bool, staging: bool }
}

rows! {
    Job in "jobs" {
        operation: String, state: String, errors: Json<Vec<wire::cc::Error>>, warnings: Json<Vec<Value>>, resource_type: String, resource_guid: String,
    }
}

pub(crate) async fn stack_by_name(
    conn: &mut Connection,
    name: &str,
) -> sqlx::Result<Option<Stack>> {
    Select::new().is("name", name).first(conn).await
}

pub(crate) async fn default_stack(conn: &mut Connection) -> sqlx::Result<Option<Stack>> {
    Select::new().is("is_default", 1).first(conn).await
}

/// The order in which buildpacks are tried.
pub(crate) const BUILDPACKS_BY_POSITION: Order = Order(Cow::Borrowed("position, id"));
/// Feature flags come by their names.
pub(crate) const FLAGS_BY_NAME: Order = Order(Cow::Borrowed("name"));

pub(crate) async fn buildpacks(conn: &mut Connection) -> sqlx::Result<Vec<Buildpack>> {
    Select::new()
        .ordered(&BUILDPACKS_BY_POSITION)
        .all_readable(conn)
        .await
}

/// A stored flag that cannot be read is off: it may have been. Setting it writes it anew.
pub(crate) async fn flag(conn: &mut Connection, name: &str) -> sqlx::Result<Option<FeatureFlag>> {
    let found = Select::new().is("name", name).readable(conn).await?;
    let unreadable = |guid: Option<String>| FeatureFlag {
        guid: guid.unwrap_or_default(),
        name: name.to_owned(),
        custom_error_message: Some(format!(
            "the stored flag '{name}' cannot be read; set it with 'cf enable-feature-flag {name}' or 'cf disable-feature-flag {name}'"
        )),
        ..FeatureFlag::default()
    };
    Ok(only(found, unreadable))
}

/// A group that cannot be read is empty: no app could be started otherwise. Setting it writes it anew.
pub(crate) async fn environment_group(
    conn: &mut Connection,
    name: &str,
) -> sqlx::Result<EnvironmentGroup> {
    let found = Select::new().is("name", name).readable(conn).await?;
    let empty = |guid: Option<String>| EnvironmentGroup {
        guid: guid.unwrap_or_default(),
        name: name.to_owned(),
        ..EnvironmentGroup::default()
    };
    Ok(only(found, empty).unwrap_or_else(|| empty(None)))
}

/// The row that was found, or what stands for it when it cannot be read.
fn only<R>(found: Readable<R>, unreadable: impl FnOnce(Option<String>) -> R) -> Option<R> {
    if let Some(broken) = found.broken.into_iter().next() {
        tracing::warn!(guid = broken.guid, problem = broken.problem, "row-damaged");
        return Some(unreadable(broken.guid));
    }
    found.rows.into_iter().next()
}

/// Holds for the groups of a space's running instances: global ones and those bound to it. `?` is the space.
const RUNNING_IN_SPACE: &str = "(running = 1 OR guid IN (SELECT security_group_guid FROM security_group_spaces WHERE space_guid = ? AND phase = 'running'))";
/// As [`RUNNING_IN_SPACE`], for staging.
const STAGING_IN_SPACE: &str = "(staging = 1 OR guid IN (SELECT security_group_guid FROM security_group_spaces WHERE space_guid = ? AND phase = 'staging'))";

/// Whether another group has this one's name.
pub(crate) async fn is_group_name_taken(
    conn: &mut Connection,
    group: &SecurityGroup,
) -> sqlx::Result<bool> {
    Select::new()
        .is("name", &group.name)
        .and("guid <> ?", [(&group.guid).into()])
        .exists::<SecurityGroup>(conn)
        .await
}

/// Holds for groups that are bound to one of some spaces for its running instances.
pub(crate) const BOUND_TO_RUNNING_IN_SPACES: ListCondition = ListCondition(
    "guid IN (SELECT security_group_guid FROM security_group_spaces WHERE phase = 'running' AND space_guid IN (?))",
);
/// As [`BOUND_TO_RUNNING_IN_SPACES`], for staging.
pub(crate) const BOUND_TO_STAGING_IN_SPACES: ListCondition = ListCondition(
    "guid IN (SELECT security_group_guid FROM security_group_spaces WHERE phase = 'staging' AND space_guid IN (?))",
);

/// Holds for the groups of a space in a phase (`running`, `staging`): global ones and those bound to it.
pub(crate) fn holds_for(space: &str, phase: &str) -> Condition {
    let sql = if phase == "running" {
        RUNNING_IN_SPACE
    } else {
        STAGING_IN_SPACE
    };
    Condition::new(sql, [space.into()])
}

/// The groups that hold for a space in a phase.
pub(crate) fn groups_for(space: &str, phase: &str) -> Select {
    Select::new().that(holds_for(space, phase))
}

pub(crate) async fn group_spaces(
    conn: &mut Connection,
    group: &str,
    phase: &str,
) -> sqlx::Result<Vec<String>> {
    let rows = sqlx::query("SELECT space_guid FROM security_group_spaces WHERE security_group_guid = $1 AND phase = $2 ORDER BY rowid")
        .bind(group.to_owned())
        .bind(phase.to_owned())
        .fetch_all(conn)
        .await?;
    Ok(super::readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn bind_group(
    conn: &mut Connection,
    group: &str,
    space: &str,
    phase: &str,
) -> sqlx::Result<()> {
    let sql = "INSERT OR IGNORE INTO security_group_spaces (security_group_guid, space_guid, phase) VALUES ($1, $2, $3)";
    execute(conn, sql, &[Arg::from(group), space.into(), phase.into()])
        .await
        .map(drop)
}

pub(crate) async fn unbind_group(
    conn: &mut Connection,
    group: &str,
    space: &str,
    phase: &str,
) -> sqlx::Result<bool> {
    let sql = "DELETE FROM security_group_spaces WHERE security_group_guid = $1 AND space_guid = $2 AND phase = $3";
    Ok(execute(conn, sql, &[Arg::from(group), space.into(), phase.into()]).await? > 0)
}
