//! Instances of services. All of them are user-provided: their owners write down how to reach a service that runs elsewhere.

use super::{Connection, Json, Select, rows, spelled};
use crate::clock;
use crate::sealing::Sealed;
use cc_rules::metadata::Metadata;
use serde::{Deserialize, Serialize};

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
    /// Returns an operation that succeeded at once.
    pub(crate) fn done(kind: &str, description: Option<&str>) -> Self {
        let now = clock::now();
        Self {
            r#type: kind.to_owned(),
            state: "succeeded".to_owned(),
            description: description.map(str::to_owned),
            created_at: now,
            updated_at: now,
        }
    }
}

pub(crate) async fn by_name(
    conn: &mut Connection,
    space: &str,
    name: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    let named = Select::new().is("space_guid", space).is("name", name);
    named.first(conn).await
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

/// Returns the oldest instance of a space.
pub(crate) async fn first_of_space(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    Select::new().is("space_guid", space).first(conn).await
}
