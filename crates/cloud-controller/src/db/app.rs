//! Apps.

use super::space::Space;
use super::{Condition, Connection, Json, ListCondition, Select, rows, spelled, with_parent};
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;
use cc_rules::services::Delivery;

spelled! {
    AppState { Stopped = "STOPPED", Started = "STARTED" }
}

spelled! {
    /// The way in which an app gets its service bindings. The files are features of apps with these names.
    BindingDelivery { Variable = "variable", VcapFile = "file-based-vcap-services", Folders = "service-binding-k8s" }
}

impl From<BindingDelivery> for Delivery {
    fn from(delivery: BindingDelivery) -> Self {
        match delivery {
            BindingDelivery::Variable => Self::Variable,
            BindingDelivery::VcapFile => Self::VcapFile,
            BindingDelivery::Folders => Self::Folders,
        }
    }
}

rows! {
    App in "apps" folding ["name"] {
        name: String, space_guid: String, state: AppState, lifecycle_type: String, buildpacks: Json<Vec<String>>, stack: Option<String>,
        droplet_guid: Option<String>, environment: Sealed, enable_ssh: bool, revisions_enabled: bool, delivery: BindingDelivery,
        metadata: Json<Metadata>,
    }
}

/// The stack of an app's row: its own, or else the default one.
pub(crate) const STACK: &str =
    "COALESCE(stack, (SELECT s.name FROM stacks s WHERE s.is_default = 1 ORDER BY s.id LIMIT 1))";

impl App {
    pub(crate) fn is_started(&self) -> bool {
        self.state == AppState::Started
    }
}

/// Returns an app and its space.
pub(crate) async fn with_space(
    conn: &mut Connection,
    guid: &str,
) -> sqlx::Result<Option<(App, Space)>> {
    with_parent(conn, guid, "space_guid").await
}

/// Returns the app of a name in a space. An older version may have stored names that differ only in case; of these the one with
/// the same spelling is preferred.
pub(crate) async fn by_name(
    conn: &mut Connection,
    space: &str,
    name: &str,
) -> sqlx::Result<Option<App>> {
    let alike = Select::new().is("space_guid", space).is("name", name);
    let mut apps: Vec<App> = alike.all(conn).await?;
    let exact = apps.iter().position(|app| app.name == name).unwrap_or(0);
    Ok((exact < apps.len()).then(|| apps.swap_remove(exact)))
}

/// Returns the oldest app of a space.
pub(crate) async fn first_of_space(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<App>> {
    Select::new().is("space_guid", space).first(conn).await
}

pub(crate) async fn by_guids(conn: &mut Connection, guids: &[String]) -> sqlx::Result<Vec<App>> {
    Select::new().any("guid", guids).all_readable(conn).await
}

/// The condition for rows of apps in some spaces.
pub(crate) const OF_SPACES: ListCondition =
    ListCondition("app_guid IN (SELECT guid FROM apps WHERE space_guid IN LIST(?))");

/// The condition for rows of apps in some organizations.
pub(crate) const OF_ORGANIZATIONS: ListCondition = ListCondition(
    "app_guid IN (SELECT a.guid FROM apps a JOIN spaces s ON s.guid = a.space_guid WHERE s.organization_guid IN LIST(?))",
);

/// Selects apps that have a stack. An app without a stack of its own has the default one.
pub(crate) fn has_stack(stack: &str) -> Condition {
    Condition::new(format!("{STACK} = ?"), [stack.into()])
}

/// Returns whether any app has a stack.
pub(crate) async fn is_stack_used(conn: &mut Connection, stack: &str) -> sqlx::Result<bool> {
    let with_stack = Select::new().that(has_stack(stack));
    with_stack.exists::<App>(conn).await
}
