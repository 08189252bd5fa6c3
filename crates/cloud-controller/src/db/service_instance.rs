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

/// Returns the oldest instance of a space.
pub(crate) async fn first_of_space(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<ServiceInstance>> {
    Select::new().is("space_guid", space).first(conn).await
}
