//! Apps.

use super::{Connection, Json, Select, rows};
use crate::metadata::Metadata;
use std::collections::BTreeMap;

rows! {
    /// `state` is STARTED or STOPPED.
    App in "apps" {
        name: String, space_guid: String, state: String, lifecycle_type: String, buildpacks: Json<Vec<String>>, stack: Option<String>,
        droplet_guid: Option<String>, environment: Json<BTreeMap<String, String>>, enable_ssh: bool, revisions_enabled: bool, metadata: Json<Metadata>,
    }
}

/// The stack of an app's row: its own, else the default one.
pub(crate) const STACK: &str =
    "COALESCE(stack, (SELECT s.name FROM stacks s WHERE s.is_default = 1 ORDER BY s.id LIMIT 1))";

impl App {
    pub(crate) fn is_started(&self) -> bool {
        self.state == "STARTED"
    }
}

pub(crate) async fn by_name(
    conn: &mut Connection,
    space: &str,
    name: &str,
) -> sqlx::Result<Option<App>> {
    Select::new()
        .is("space_guid", space)
        .is("name", name)
        .first(conn)
        .await
}

pub(crate) async fn of_space(conn: &mut Connection, space: &str) -> sqlx::Result<Vec<App>> {
    Select::new().is("space_guid", space).all(conn).await
}

pub(crate) async fn by_guids(conn: &mut Connection, guids: &[String]) -> sqlx::Result<Vec<App>> {
    Select::new().any("guid", guids).all(conn).await
}
