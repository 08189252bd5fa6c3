//! Route policies: the permitted callers of a route of a domain that enforces them.

use super::route::Route;
use super::{Connection, Json, ListCondition, Select, rows};
use cc_rules::metadata::Metadata;

rows! {
    /// A route policy. `source_guid` is the guid in `source`; it is empty for `cf:any`.
    RoutePolicy in "route_policies" { route_guid: String, source: String, source_guid: String, metadata: Json<Metadata> }
}

/// The condition for policies of routes that some spaces own.
pub(crate) const OF_SPACES: ListCondition =
    ListCondition("route_guid IN (SELECT guid FROM routes WHERE space_guid IN LIST(?))");

pub(crate) async fn of_route(conn: &mut Connection, route: &str) -> sqlx::Result<Vec<RoutePolicy>> {
    Select::new().is("route_guid", route).all(conn).await
}

pub(crate) async fn of_routes(
    conn: &mut Connection,
    routes: &[Route],
) -> sqlx::Result<Vec<RoutePolicy>> {
    let guids = routes.iter().map(|route| &route.guid);
    Select::new().any("route_guid", guids).all(conn).await
}
