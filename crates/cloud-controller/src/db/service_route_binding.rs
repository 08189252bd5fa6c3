//! Bindings of service instances to routes: the service that a request visits before it reaches the apps of its route.

use super::service_instance::LastOperation;
use super::{Connection, Json, Select, rows};
use cc_rules::metadata::Metadata;

rows! {
    ServiceRouteBinding in "service_route_bindings" {
        route_guid: String, service_instance_guid: String,
        /// The address to which requests go. `None`: the service did not name one, and requests go to the apps directly.
        route_service_url: Option<String>,
        last_operation: Json<LastOperation>, metadata: Json<Metadata>,
    }
}

/// Returns the binding of a route. A route has one at most.
pub(crate) async fn of_route(
    conn: &mut Connection,
    route: &str,
) -> sqlx::Result<Option<ServiceRouteBinding>> {
    Select::new().is("route_guid", route).first(conn).await
}

/// Returns the bindings of an instance in the order of their creation.
pub(crate) async fn of_instance(
    conn: &mut Connection,
    instance: &str,
) -> sqlx::Result<Vec<ServiceRouteBinding>> {
    let of_instance = Select::new().is("service_instance_guid", instance);
    of_instance.all(conn).await
}

pub(crate) async fn count_of_instance(conn: &mut Connection, instance: &str) -> sqlx::Result<i64> {
    let of_instance = Select::new().is("service_instance_guid", instance);
    of_instance.count::<ServiceRouteBinding>(conn).await
}
