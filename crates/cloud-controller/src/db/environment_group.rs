//! Environment variable groups.

use super::{Connection, Json, Select, rows};
use std::collections::BTreeMap;

rows! {
    /// A group of variables: `running` or `staging`.
    EnvironmentGroup in "environment_variable_groups" { name: String, var: Json<BTreeMap<String, String>> }
}

/// Returns a group. A group that cannot be read counts as empty, because otherwise no app could start. Setting it overwrites the
/// row.
pub(crate) async fn by_name(conn: &mut Connection, name: &str) -> sqlx::Result<EnvironmentGroup> {
    let found = Select::new().is("name", name).readable(conn).await?;
    let empty = |guid: Option<String>| EnvironmentGroup {
        guid: guid.unwrap_or_default(),
        name: name.to_owned(),
        ..EnvironmentGroup::default()
    };
    Ok(found.only_or(empty).unwrap_or_else(|| empty(None)))
}
