//! Bindings of service instances to apps: the credentials with which an app reaches a service.

use super::service_instance::LastOperation;
use super::{Connection, Json, ListCondition, Select, rows, spelled};
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;

spelled! {
    BindingType { App = "app", Key = "key" }
}

rows! {
    ServiceCredentialBinding in "service_credential_bindings" {
        r#type: BindingType, name: Option<String>,
        /// The app. `None`: a key, which belongs to its instance alone.
        app_guid: Option<String>,
        service_instance_guid: String, credentials: Option<Sealed>, syslog_drain_url: Option<String>,
        last_operation: Json<LastOperation>, metadata: Json<Metadata>,
    }
}

pub(crate) async fn of_instance(
    conn: &mut Connection,
    instance: &str,
) -> sqlx::Result<Vec<ServiceCredentialBinding>> {
    let of_instance = Select::new().is("service_instance_guid", instance);
    of_instance.all(conn).await
}

/// Returns the bindings of an app in the order of their creation.
pub(crate) async fn of_app(
    conn: &mut Connection,
    app: &str,
) -> sqlx::Result<Vec<ServiceCredentialBinding>> {
    Select::new().is("app_guid", app).all(conn).await
}

/// The condition for bindings of apps with some names.
pub(crate) const OF_APP_NAMES: ListCondition =
    ListCondition("app_guid IN (SELECT guid FROM apps WHERE name IN LIST(?))");

/// The condition for bindings of instances with some names.
pub(crate) const OF_INSTANCE_NAMES: ListCondition = ListCondition(
    "service_instance_guid IN (SELECT guid FROM service_instances WHERE name IN LIST(?))",
);
