//! Instances of services. A broker makes a managed one from a plan of its catalog. A user-provided one is what its owner writes down
//! about a service that runs elsewhere.

use super::{Condition, Connection, Json, ListCondition, Select, rows, spelled};
use crate::clock;
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;
use osb::MaintenanceInfo;
use serde::{Deserialize, Serialize};
use serde_json::Value;

spelled! {
    InstanceType { UserProvided = "user-provided", Managed = "managed" }
}

rows! {
    ServiceInstance in "service_instances" {
        name: String, r#type: InstanceType, space_guid: String, tags: Json<Vec<String>>,
        /// A JSON object in the order in which it was sent. `None`: the instance was created without credentials.
        credentials: Option<Sealed>,
        syslog_drain_url: Option<String>, route_service_url: Option<String>, last_operation: Json<LastOperation>, metadata: Json<Metadata>,
        /// The plan of a managed instance.
        service_plan_guid: Option<String>,
        dashboard_url: Option<String>,
        /// The version of the plan with which the instance was made or to which it was upgraded.
        maintenance_info: Option<Json<MaintenanceInfo>>,
        /// The labels and attributes that the broker returned.
        broker_metadata: Option<Json<Value>>,
    }
}

impl ServiceInstance {
    pub(crate) fn is_managed(&self) -> bool {
        self.r#type == InstanceType::Managed
    }

    /// Returns the version of the plan that the instance has.
    pub(crate) fn version(&self) -> Option<&str> {
        let info = self.maintenance_info.as_ref();
        info.map(|info| info.0.version.as_str())
    }
}

/// The kinds of operations.
pub(crate) const CREATE: &str = "create";
pub(crate) const UPDATE: &str = "update";
pub(crate) const DELETE: &str = "delete";

/// The states of operations.
pub(crate) const INITIAL: &str = "initial";
pub(crate) const IN_PROGRESS: &str = "in progress";
pub(crate) const SUCCEEDED: &str = "succeeded";
pub(crate) const FAILED: &str = "failed";

impl ServiceInstance {
    /// Returns whether routes can be bound to the instance.
    pub(crate) fn is_route_service(&self) -> bool {
        let url = self.route_service_url.as_deref();
        url.is_some_and(|url| !url.is_empty())
    }
}

/// The last thing that was done with an instance or a binding. Times are in microseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastOperation {
    pub r#type: String,
    pub state: String,
    pub description: Option<String>,
    pub created_at: i64,
    pub updated_at: i64,
}

impl LastOperation {
    fn of(kind: &str, state: &str, description: Option<&str>) -> Self {
        let now = clock::now();
        Self {
            r#type: kind.to_owned(),
            state: state.to_owned(),
            description: description.map(str::to_owned),
            created_at: now,
            updated_at: now,
        }
    }

    /// Returns an operation that succeeded at once.
    pub(crate) fn done(kind: &str, description: Option<&str>) -> Self {
        Self::of(kind, SUCCEEDED, description)
    }

    /// Returns an operation that a job does next.
    pub(crate) fn initial(kind: &str) -> Self {
        Self::of(kind, INITIAL, None)
    }

    /// Notes the progress of an operation of a kind. It begins with the first note.
    pub(crate) fn note(&mut self, kind: &str, state: &str, description: Option<&str>) {
        let began = match self.r#type == kind && self.is_under_way() {
            true => self.created_at,
            false => clock::now(),
        };
        *self = Self {
            created_at: began,
            ..Self::of(kind, state, description)
        };
    }

    pub(crate) fn is_under_way(&self) -> bool {
        [INITIAL, IN_PROGRESS].contains(&self.state.as_str())
    }

    pub(crate) fn is(&self, kind: &str, state: &str) -> bool {
        self.r#type == kind && self.state == state
    }

    /// Returns whether an operation of a kind is under way.
    pub(crate) fn does(&self, kind: &str) -> bool {
        self.r#type == kind && self.is_under_way()
    }
}

/// Selects the instances of some spaces, and those that are shared with one of them.
pub(crate) fn is_of_or_shared_with(spaces: &[String]) -> Condition {
    let sql = "(space_guid IN LIST(?) OR guid IN (SELECT service_instance_guid FROM service_instance_shares WHERE space_guid IN LIST(?)))";
    Condition::new(sql, [spaces.into(), spaces.into()])
}

/// Selects the instances of the spaces of some organizations, and those that are shared with one of these spaces.
pub(crate) fn is_of_or_shared_within(organizations: &[String]) -> Condition {
    let sql = "(space_guid IN (SELECT guid FROM spaces WHERE organization_guid IN LIST(?)) OR guid IN (SELECT h.service_instance_guid
        FROM service_instance_shares h JOIN spaces s ON s.guid = h.space_guid WHERE s.organization_guid IN LIST(?)))";
    Condition::new(sql, [organizations.into(), organizations.into()])
}

/// The condition for instances of plans with one of some names.
pub(crate) const OF_PLAN_NAMES: ListCondition =
    ListCondition("service_plan_guid IN (SELECT guid FROM service_plans WHERE name IN LIST(?))");

pub(crate) async fn by_name(
    conn: &mut Connection,
    space: &str,
    name: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    let named = Select::new().is("space_guid", space).is("name", name);
    named.first(conn).await
}

/// Returns the instance that apps of a space can be bound to by a name: one of the space, or one that is shared with it.
pub(crate) async fn usable_by_name(
    conn: &mut Connection,
    space: &str,
    name: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    if let Some(own) = by_name(conn, space, name).await? {
        return Ok(Some(own));
    }
    let shared =
        "guid IN (SELECT service_instance_guid FROM service_instance_shares WHERE space_guid = ?)";
    let named = Select::new().is("name", name).and(shared, [space.into()]);
    named.first(conn).await
}

/// Returns the managed instances among some guids.
pub(crate) async fn managed_among(
    conn: &mut Connection,
    guids: &[String],
) -> sqlx::Result<Vec<String>> {
    let managed = Select::new().is("type", InstanceType::Managed);
    let found: Vec<ServiceInstance> = managed
        .any("guid", guids.iter().cloned())
        .all_readable(conn)
        .await?;
    Ok(found.into_iter().map(|instance| instance.guid).collect())
}

pub(crate) async fn count_in_space(conn: &mut Connection, space: &str) -> sqlx::Result<i64> {
    let of_space = Select::new().is("space_guid", space);
    of_space.count::<ServiceInstance>(conn).await
}

/// Returns the names of the instances to which an app is bound.
pub(crate) async fn names_of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<String>> {
    let of_app = "guid IN (SELECT service_instance_guid FROM service_credential_bindings WHERE app_guid = ?)";
    let bound = Select::new().and(of_app, [app.into()]);
    let instances: Vec<ServiceInstance> = bound.all(conn).await?;
    let mut names: Vec<String> = instances.into_iter().map(|one| one.name).collect();
    names.sort_by_key(|name| name.to_lowercase());
    Ok(names)
}

/// Returns the oldest user-provided instance of a space.
pub(crate) async fn first_provided(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    let of_space = Select::new().is("space_guid", space);
    let provided = of_space.is("type", InstanceType::UserProvided);
    provided.first(conn).await
}

/// Returns the managed instances of a space, the oldest first.
pub(crate) async fn managed_of_space(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Vec<ServiceInstance>> {
    let of_space = Select::new().is("space_guid", space);
    of_space.is("type", InstanceType::Managed).all(conn).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_an_operation_stays_while_it_is_under_way() {
        let mut operation = LastOperation {
            created_at: 5,
            ..LastOperation::initial(CREATE)
        };
        assert!(operation.does(CREATE) && !operation.does(UPDATE));
        operation.note(CREATE, IN_PROGRESS, Some("half"));
        assert_eq!(operation.created_at, 5);
        assert_eq!(operation.description.as_deref(), Some("half"));
        operation.note(CREATE, SUCCEEDED, None);
        assert_eq!(operation.created_at, 5);
        assert!(operation.is(CREATE, SUCCEEDED) && !operation.is_under_way());
        operation.note(DELETE, IN_PROGRESS, None);
        assert!(operation.created_at > 5, "another operation begins now");
    }
}
