//! Destinations: the processes to which a route leads.

use super::route::Route;
use super::{Connection, Select, rows, spelled};

spelled! {
    /// The protocol in which an app is called.
    Protocol { Http1 = "http1", Http2 = "http2" }
}

rows! {
    /// A destination. Without a port it has the app's default port (8080).
    Destination in "destinations" {
        route_guid: String, app_guid: String, process_type: String, port: Option<i64>, protocol: Protocol, weight: Option<i64>,
    }
}

/// Returns a destination, unless it belongs to another route.
pub(crate) async fn find(
    conn: &mut Connection,
    route: &Route,
    guid: &str,
) -> sqlx::Result<Option<Destination>> {
    Select::new()
        .is("guid", guid)
        .is("route_guid", &route.guid)
        .first(conn)
        .await
}

pub(crate) async fn of_route(conn: &mut Connection, route: &str) -> sqlx::Result<Vec<Destination>> {
    Select::new()
        .is("route_guid", route)
        .order("guid")
        .all(conn)
        .await
}

/// Returns the destinations of a route whose apps are in one space.
pub(crate) async fn in_space(
    conn: &mut Connection,
    route: &str,
    space: &str,
) -> sqlx::Result<Vec<Destination>> {
    Select::new()
        .is("route_guid", route)
        .and(
            "app_guid IN (SELECT guid FROM apps WHERE space_guid = ?)",
            [space.into()],
        )
        .all(conn)
        .await
}

pub(crate) async fn of_routes(
    conn: &mut Connection,
    routes: &[String],
) -> sqlx::Result<Vec<Destination>> {
    Select::new()
        .any("route_guid", routes)
        .order("guid")
        .all_readable(conn)
        .await
}

pub(crate) async fn of_app(conn: &mut Connection, app: &str) -> sqlx::Result<Vec<Destination>> {
    Select::new().is("app_guid", app).all(conn).await
}
