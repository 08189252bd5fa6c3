//! Apps.

use super::{
    Condition, Connection, Json, ListCondition, Select, execute, readable_rows, rows, spelled,
};
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;
use cc_rules::services::Delivery;
use kit::db::query;

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

/// Returns apps whose variables an older version stored in clear, as (id, guid, JSON). Those that cannot be read are left out.
pub(crate) async fn with_clear_environment(
    conn: &mut Connection,
) -> sqlx::Result<Vec<(i64, String, String)>> {
    let rows = query(
        "SELECT id, guid, environment FROM apps WHERE environment NOT LIKE 'v1.%' ORDER BY id",
    )
    .fetch_all(conn)
    .await?;
    Ok(readable_rows(&rows, |row| {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    }))
}

/// Stores the sealed variables of an app. The time of its last change stays.
pub(crate) async fn set_environment(
    conn: &mut Connection,
    id: i64,
    sealed: &Sealed,
) -> sqlx::Result<()> {
    let sql = "UPDATE apps SET environment = $1 WHERE id = $2";
    execute(conn, sql, &[sealed.stored().into(), id.into()])
        .await
        .map(drop)
}

impl App {
    pub(crate) fn is_started(&self) -> bool {
        self.state == AppState::Started
    }
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
