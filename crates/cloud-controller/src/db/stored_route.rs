//! Finds the route that serves a URL, and reads everything that Diego must have of it. It is read for `why`.

use super::app;
use super::domain::{self, Domain};
use super::process::Process;
use super::route::{self, Route};
use super::{Connection, Select, destination};
use wire::cc::{StoredDestination, StoredRoute};

/// The port of an app whose destination names none.
const DEFAULT_PORT: u16 = 8080;

/// Returns the route that serves a URL, with its domain: the one with the host itself, else one with a wildcard above it; of several
/// paths the longest.
pub(crate) async fn serving(
    conn: &mut Connection,
    url: &str,
) -> sqlx::Result<Option<(Route, Domain)>> {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = url.find('/').map_or((url, ""), |at| url.split_at(at));
    let host = authority
        .split(':')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let mut readings = cc_rules::route_rules::candidates(&host);
    let mut above = host.as_str();
    while let Some((_, domain)) = above.split_once('.') {
        readings.push(("*".to_owned(), domain.to_owned()));
        above = domain;
    }
    for (host, name) in readings {
        let Some(domain) = domain::by_name(conn, &name).await? else {
            continue;
        };
        let alike = Select::new()
            .is("host", &host)
            .is("domain_guid", &domain.guid);
        let routes: Vec<Route> = alike.is("port", 0_i64).all(conn).await?;
        let serving = routes
            .into_iter()
            .filter(|route| is_below(path, &route.path));
        if let Some(route) = serving.max_by_key(|route| route.path.len()) {
            return Ok(Some((route, domain)));
        }
    }
    Ok(None)
}

/// Returns whether a path is the route's or begins with it, in whole parts.
fn is_below(path: &str, route: &str) -> bool {
    let (path, route) = (path.to_lowercase(), route.to_lowercase());
    let rest = path.strip_prefix(&route);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || route.is_empty())
}

/// Returns a route with its destinations and their processes. How far its last change has come is no matter of the database.
pub(crate) async fn read(
    conn: &mut Connection,
    route: &Route,
    domain: &Domain,
) -> sqlx::Result<StoredRoute> {
    let all = destination::of_route(conn, &route.guid).await?;
    let wanted = route::wanted(conn, &route.guid).await?;
    let guids: Vec<String> = all.iter().map(|found| found.app_guid.clone()).collect();
    let apps = app::by_guids(conn, &guids).await?;
    let mut destinations = Vec::new();
    for destination in all {
        let Some(app) = apps.iter().find(|app| app.guid == destination.app_guid) else {
            continue;
        };
        let mine = Select::new()
            .is("app_guid", &app.guid)
            .is("type", &destination.process_type);
        let processes: Vec<Process> = mine.all(conn).await?;
        let instances: i64 = processes.iter().map(|process| process.instances).sum();
        let port = destination.port.and_then(|port| u16::try_from(port).ok());
        let changed = processes
            .iter()
            .map(|process| wanted.processes.get(&process.guid));
        let generation = changed.flatten().min().copied();
        destinations.push(StoredDestination {
            generation: generation.unwrap_or_default(),
            app_guid: app.guid.clone(),
            app_name: app.name.clone(),
            is_started: app.is_started(),
            lacks_droplet: app.droplet_guid.is_none(),
            process_type: destination.process_type,
            process_guids: processes.into_iter().map(|process| process.guid).collect(),
            instances: u32::try_from(instances).unwrap_or_default(),
            port: port.unwrap_or(DEFAULT_PORT),
        });
    }
    Ok(StoredRoute {
        guid: route.guid.clone(),
        url: cc_rules::route_rules::url(&route.host, &domain.name, &route.path, route.port),
        space_guid: route.space_guid.clone(),
        is_internal: domain.internal,
        destinations,
        propagation: None,
    })
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn paths_are_compared_in_whole_parts() {
        for (path, route, expected) in [
            ("", "", true),
            ("/a", "", true),
            ("/A/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("", "/a", false),
        ] {
            assert_eq!(is_below(path, route), expected, "{path} {route}");
        }
    }
}
