//! Bindings of service instances: the credentials with which an app reaches a service, and keys, which belong to an instance alone.

use super::service_instance::{CREATE, LastOperation, SUCCEEDED};
use super::{Connection, Json, ListCondition, Select, readable_rows, rows, spelled};
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;
use kit::db::query;

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

impl ServiceCredentialBinding {
    /// Returns whether the binding can be used.
    pub(crate) fn is_made(&self) -> bool {
        is_made(&self.last_operation.0)
    }
}

/// Returns whether a binding with this last operation can be used.
pub(super) fn is_made(last: &LastOperation) -> bool {
    last.is(CREATE, SUCCEEDED)
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

/// Returns the bindings that an app finds in its environment: the newest one of each instance that was made, in the order of their
/// creation.
pub(crate) async fn active_of_app(
    conn: &mut Connection,
    app: &str,
) -> sqlx::Result<Vec<ServiceCredentialBinding>> {
    Ok(active(of_app(conn, app).await?))
}

/// Returns the active ones among the bindings of one app, which are in the order of their creation.
fn active(mut bindings: Vec<ServiceCredentialBinding>) -> Vec<ServiceCredentialBinding> {
    bindings.retain(ServiceCredentialBinding::is_made);
    let mut kept: Vec<ServiceCredentialBinding> = Vec::new();
    for binding in bindings {
        kept.retain(|other| other.service_instance_guid != binding.service_instance_guid);
        kept.push(binding);
    }
    kept
}

/// Returns the bindings of an instance to the apps of a space.
pub(crate) async fn of_instance_in_space(
    conn: &mut Connection,
    instance: &str,
    space: &str,
) -> sqlx::Result<Vec<ServiceCredentialBinding>> {
    let in_space = "app_guid IN (SELECT guid FROM apps WHERE space_guid = ?)";
    let of_instance = Select::new().is("service_instance_guid", instance);
    of_instance.and(in_space, [space.into()]).all(conn).await
}

/// Returns the key of an instance with a name.
pub(crate) async fn key_by_name(
    conn: &mut Connection,
    instance: &str,
    name: &str,
) -> sqlx::Result<Option<ServiceCredentialBinding>> {
    let keys = Select::new()
        .is("service_instance_guid", instance)
        .is("type", BindingType::Key);
    keys.is("name", name).first(conn).await
}

/// Returns whether an app is bound to an instance. Keys do not count.
pub(crate) async fn is_bound(conn: &mut Connection, instance: &str) -> sqlx::Result<bool> {
    let bound = Select::new()
        .is("service_instance_guid", instance)
        .is("type", BindingType::App);
    bound.exists::<ServiceCredentialBinding>(conn).await
}

/// Returns the URLs of the platform's brokers of all instances to which an app is bound. Brokers of spaces are not among them, and
/// neither are bindings that are being made or removed.
pub(crate) async fn broker_urls(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<String>> {
    let bindings = active_of_app(conn, app).await?;
    if bindings.is_empty() {
        return Ok(Vec::new());
    }
    let instances: Vec<String> = bindings
        .into_iter()
        .map(|binding| binding.service_instance_guid)
        .collect();
    let sql = "SELECT DISTINCT b.url FROM service_instances i
        JOIN service_plans p ON p.guid = i.service_plan_guid
        JOIN service_offerings o ON o.guid = p.service_offering_guid
        JOIN service_brokers b ON b.guid = o.service_broker_guid
        WHERE i.guid IN LIST($1) AND b.space_guid IS NULL ORDER BY b.url";
    let rows = query(sql).bind(&instances[..]).fetch_all(conn).await?;
    Ok(readable_rows(&rows, |row| row.try_get(0)))
}

/// The condition for bindings of apps with some names.
pub(crate) const OF_APP_NAMES: ListCondition =
    ListCondition("app_guid IN (SELECT guid FROM apps WHERE name IN LIST(?))");

/// The condition for bindings of instances with some names.
pub(crate) const OF_INSTANCE_NAMES: ListCondition = ListCondition(
    "service_instance_guid IN (SELECT guid FROM service_instances WHERE name IN LIST(?))",
);

/// The condition for bindings of instances of some plans.
pub(crate) const OF_PLANS: ListCondition = ListCondition(
    "service_instance_guid IN (SELECT guid FROM service_instances WHERE service_plan_guid IN LIST(?))",
);

/// The condition for bindings of instances of plans with some names.
pub(crate) const OF_PLAN_NAMES: ListCondition = ListCondition(
    "service_instance_guid IN (SELECT i.guid FROM service_instances i JOIN service_plans p ON p.guid = i.service_plan_guid WHERE p.name IN LIST(?))",
);

/// The condition for bindings of instances of some offerings.
pub(crate) const OF_OFFERINGS: ListCondition = ListCondition(
    "service_instance_guid IN (SELECT i.guid FROM service_instances i JOIN service_plans p ON p.guid = i.service_plan_guid WHERE p.service_offering_guid IN LIST(?))",
);

/// The condition for bindings of instances of offerings with some names.
pub(crate) const OF_OFFERING_NAMES: ListCondition = ListCondition(
    "service_instance_guid IN (SELECT i.guid FROM service_instances i JOIN service_plans p ON p.guid = i.service_plan_guid
        JOIN service_offerings o ON o.guid = p.service_offering_guid WHERE o.name IN LIST(?))",
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::service_instance::{DELETE, FAILED, INITIAL};

    fn binding(guid: &str, instance: &str, kind: &str, state: &str) -> ServiceCredentialBinding {
        let mut last_operation = LastOperation::default();
        last_operation.note(kind, state, None);
        ServiceCredentialBinding {
            guid: guid.to_owned(),
            service_instance_guid: instance.to_owned(),
            last_operation: Json(last_operation),
            ..ServiceCredentialBinding::default()
        }
    }

    #[test]
    fn an_app_finds_the_newest_binding_of_each_instance_that_was_made() {
        let all = vec![
            binding("1", "a", CREATE, SUCCEEDED),
            binding("2", "b", CREATE, SUCCEEDED),
            binding("3", "a", CREATE, SUCCEEDED),
            binding("4", "a", CREATE, INITIAL),
            binding("5", "b", DELETE, FAILED),
            binding("6", "c", CREATE, FAILED),
        ];
        let found: Vec<String> = active(all).into_iter().map(|b| b.guid).collect();
        assert_eq!(found, ["2", "3"]);
    }
}
