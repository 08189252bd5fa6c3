//! Verbs of routes and their destinations. They decide who may have which route, and which processes a change affects.

use crate::change::Change;
use crate::controller::Settings;
use crate::db::app::App;
use crate::db::destination::{self, Destination, Protocol};
use crate::db::domain::{self, Domain};
use crate::db::route::{self, Route};
use crate::db::space::Space;
use crate::db::{self, Connection, process};
use crate::error::{ApiError, ApiResult};
use crate::quota::{Meter, Subject};
use cc_rules::route_rules::{self, DomainFacts};
use std::collections::BTreeSet;

/// A destination as a request names it. The caller has found the app.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub app: App,
    pub process_type: String,
    pub port: Option<i64>,
    pub protocol: Option<String>,
    pub weight: Option<i64>,
}

/// Creates a route, unless the quota of the space or its organization has no room for one more.
pub(crate) async fn create(
    conn: &mut Connection,
    settings: &Settings,
    route: &Route,
    domain: &Domain,
    space: &Space,
    admin: bool,
) -> ApiResult<()> {
    let meter = Meter::of_space(conn, space).await?;
    create_unmetered(conn, settings, route, domain, space, admin).await?;
    meter.check(conn, Subject::Route).await
}

/// Creates a route without checking quotas. The caller checks them; a manifest does so once for all its routes.
pub(super) async fn create_unmetered(
    conn: &mut Connection,
    settings: &Settings,
    route: &Route,
    domain: &Domain,
    space: &Space,
    admin: bool,
) -> ApiResult<()> {
    must_be_usable(conn, domain, space).await?;
    let facts = DomainFacts {
        name: &domain.name,
        shared: domain.organization_guid.is_none(),
        internal: domain.internal,
    };
    route_rules::check(&route.host, &route.path, route.port, &facts, admin)?;
    settings
        .names
        .route(&route.host, &domain.name, facts.shared)
        .map_err(|reserved| {
            let url = route_rules::url(&route.host, &domain.name, &route.path, route.port);
            ApiError::unprocessable(reserved.of_route(&url))
        })?;
    if route::find(conn, &route.host, &domain.guid, &route.path, route.port)
        .await?
        .is_some()
    {
        return Err(ApiError::unprocessable(route_rules::taken(
            &route.host,
            &route.path,
            route.port,
            &domain.name,
        )));
    }
    let full = route_rules::url(&route.host, &domain.name, "", 0);
    if !route.host.is_empty() && domain::by_name(conn, &full).await?.is_some() {
        return Err(ApiError::unprocessable(format!(
            "Route conflicts with domain '{full}'."
        )));
    }
    must_be_in_one_space(conn, settings, route, domain, space).await?;
    db::insert(conn, route).await?;
    Ok(())
}

/// Refuses a domain of another organization that is not shared with the space's organization.
async fn must_be_usable(conn: &mut Connection, domain: &Domain, space: &Space) -> ApiResult<()> {
    if domain::is_usable(conn, &domain.guid, &space.organization_guid).await? {
        return Ok(());
    }
    let organization: Option<db::organization::Organization> =
        db::by_guid(conn, &space.organization_guid).await?;
    let name = organization
        .map(|organization| organization.name)
        .unwrap_or_default();
    Err(ApiError::unprocessable(format!(
        "Invalid domain. Domain '{}' is not available in organization '{name}'.",
        domain.name
    )))
}

/// Refuses a route whose host has routes with other paths in another space. On private domains the configuration may allow it.
async fn must_be_in_one_space(
    conn: &mut Connection,
    settings: &Settings,
    route: &Route,
    domain: &Domain,
    space: &Space,
) -> ApiResult<()> {
    if domain.organization_guid.is_some() && !settings.private_hosts_in_one_space {
        return Ok(());
    }
    if route::host_elsewhere(conn, route, &space.guid).await? {
        return Err(ApiError::unprocessable(format!(
            "Routes for this host and domain have been reserved for another space. Host '{}' on domain '{}' is used there; choose another host.",
            route.host, domain.name
        )));
    }
    Ok(())
}

/// Transfers a route to another space under the same rules as its creation. The previous space keeps its destinations.
pub(crate) async fn transfer(
    conn: &mut Connection,
    settings: &Settings,
    route: &mut Route,
    space: &Space,
) -> ApiResult<()> {
    if route.space_guid == space.guid {
        return Ok(());
    }
    let Some(domain) = db::by_guid::<Domain>(conn, &route.domain_guid).await? else {
        return Err(ApiError::not_found("Domain"));
    };
    must_be_usable(conn, &domain, space).await?;
    must_be_in_one_space(conn, settings, route, &domain, space).await?;
    let meter = Meter::of_space(conn, space).await?;
    let before = std::mem::replace(&mut route.space_guid, space.guid.clone());
    route.touch();
    db::update(conn, route).await?;
    route::share(conn, &route.guid, &before).await?;
    route::unshare(conn, &route.guid, &space.guid).await?;
    meter.check(conn, Subject::Route).await
}

/// Removes a route, and marks the processes whose routes change.
pub(crate) async fn delete(tx: &mut Change, route: &Route) -> ApiResult<()> {
    let destinations = destination::of_route(tx, &route.guid).await?;
    mark_processes(tx, &destinations).await?;
    db::delete::<Route>(tx, &route.guid).await?;
    Ok(())
}

/// Changes the options of a route, and marks the processes whose routes change. The caller updates the row.
pub(crate) async fn set_options(
    tx: &mut Change,
    route: &mut Route,
    change: &serde_json::Value,
) -> ApiResult<()> {
    let options = route_rules::merge_options(route.options.0.as_ref(), change)?;
    if options == route.options.0 {
        return Ok(());
    }
    route.options.0 = options;
    mark_processes_of(tx, &route.guid).await
}

/// Marks the processes to which a route leads. Their desired LRPs change with the route.
pub(super) async fn mark_processes_of(tx: &mut Change, route: &str) -> ApiResult<()> {
    let destinations = destination::of_route(tx, route).await?;
    mark_processes(tx, &destinations).await
}

/// Marks the processes to which some routes lead, in one generation. A destination that cannot be read is left out.
pub(super) async fn mark_processes_of_all(tx: &mut Change, routes: &[String]) -> ApiResult<()> {
    let destinations = destination::of_routes(tx, routes).await?;
    mark_processes(tx, &destinations).await
}

/// Adds destinations to those that the route has; one that exists already stays unchanged. Marks the processes whose routes change.
/// Returns the added destinations.
pub(crate) async fn map(
    tx: &mut Change,
    settings: &Settings,
    route: &Route,
    before: &[Destination],
    targets: Vec<Target>,
) -> ApiResult<Vec<Destination>> {
    check_targets(tx, route, &targets).await?;
    let mut added: Vec<Destination> = Vec::new();
    for target in targets {
        let destination = destination(route, target)?;
        if !before
            .iter()
            .chain(&added)
            .any(|other| is_same_destination(other, &destination))
        {
            db::insert(tx, &destination).await?;
            added.push(destination);
        }
    }
    check_count(settings, before.len() + added.len())?;
    mark_processes(tx, &added).await?;
    Ok(added)
}

/// Makes `targets` the only destinations instead of those that the route has, and marks the processes whose routes change. Returns the
/// route's destinations.
pub(crate) async fn replace(
    tx: &mut Change,
    settings: &Settings,
    route: &Route,
    before: &[Destination],
    targets: Vec<Target>,
) -> ApiResult<Vec<Destination>> {
    check_count(settings, targets.len())?;
    check_targets(tx, route, &targets).await?;
    let wanted: Vec<Destination> = targets
        .into_iter()
        .map(|target| destination(route, target))
        .collect::<ApiResult<_>>()?;
    let is_kept = |old: &Destination, new: &Destination| {
        is_same_destination(new, old) && new.protocol == old.protocol && new.weight == old.weight
    };
    let mut changed = Vec::new();
    let mut after = Vec::new();
    for old in before {
        match wanted.iter().find(|new| is_same_destination(new, old)) {
            Some(new) if is_kept(old, new) => after.push(old.clone()),
            _ => {
                db::delete::<Destination>(tx, &old.guid).await?;
                changed.push(old.clone());
            }
        }
    }
    for new in wanted {
        if !before.iter().any(|old| is_kept(old, &new)) {
            db::insert(tx, &new).await?;
            changed.push(new.clone());
            after.push(new);
        }
    }
    mark_processes(tx, &changed).await?;
    Ok(after)
}

/// Removes a destination, and marks its process.
pub(crate) async fn unmap(tx: &mut Change, destination: &Destination) -> ApiResult<()> {
    db::delete::<Destination>(tx, &destination.guid).await?;
    mark_processes(tx, std::slice::from_ref(destination)).await
}

/// Changes the protocol of a destination, and marks its process.
pub(crate) async fn set_protocol(
    tx: &mut Change,
    destination: &mut Destination,
    protocol: Protocol,
) -> ApiResult<()> {
    destination.protocol = protocol;
    destination.touch();
    db::update(tx, destination).await?;
    mark_processes(tx, std::slice::from_ref(destination)).await
}

/// Removes all destinations in an app, and marks its processes.
pub(crate) async fn unmap_all(tx: &mut Change, app: &App) -> ApiResult<()> {
    let destinations = destination::of_app(tx, &app.guid).await?;
    for destination in &destinations {
        db::delete::<Destination>(tx, &destination.guid).await?;
    }
    mark_processes(tx, &destinations).await
}

/// Reads the protocol that a request or a manifest names.
pub(super) fn protocol(name: &str) -> ApiResult<Protocol> {
    name.parse()
        .map_err(|_| ApiError::unprocessable("Destination protocol must be 'http1' or 'http2'."))
}

fn destination(route: &Route, target: Target) -> ApiResult<Destination> {
    let protocol = target.protocol.as_deref().map(protocol).transpose()?;
    Ok(Destination {
        route_guid: route.guid.clone(),
        app_guid: target.app.guid,
        process_type: target.process_type,
        port: target.port,
        protocol: protocol.unwrap_or_default(),
        weight: target.weight,
        ..Destination::fresh()
    })
}

fn is_same_destination(a: &Destination, b: &Destination) -> bool {
    let port = |destination: &Destination| destination.port.unwrap_or(8080);
    a.app_guid == b.app_guid && a.process_type == b.process_type && port(a) == port(b)
}

fn check_count(settings: &Settings, destinations: usize) -> ApiResult<()> {
    let most = settings.limits.destinations_per_route;
    if destinations > most as usize {
        return Err(ApiError::unprocessable(format!(
            "Routes can be mapped to at most {most} destinations."
        )));
    }
    Ok(())
}

async fn check_targets(conn: &mut Connection, route: &Route, targets: &[Target]) -> ApiResult<()> {
    let is_foreign = |target: &&Target| target.app.space_guid != route.space_guid;
    let foreign: Vec<&Target> = targets.iter().filter(is_foreign).collect();
    if !foreign.is_empty() {
        let shares = route::shares(conn, &route.guid).await?;
        let has_no_share = |target: &&Target| !shares.contains(&target.app.space_guid);
        if foreign.iter().any(has_no_share) {
            return Err(ApiError::unprocessable(
                "Routes cannot be mapped to destinations in different spaces",
            ));
        }
    }
    for (at, target) in targets.iter().enumerate() {
        target.protocol.as_deref().map(protocol).transpose()?;
        if target
            .port
            .is_some_and(|port| !(1024..=65535).contains(&port))
        {
            return Err(ApiError::unprocessable(
                "Destination port must be between 1024 and 65535.",
            ));
        }
        let twice = |other: &Target| {
            other.app.guid == target.app.guid
                && other.process_type == target.process_type
                && other.port == target.port
        };
        if targets[..at].iter().any(twice) {
            return Err(ApiError::unprocessable(
                "Destinations cannot contain duplicate entries",
            ));
        }
    }
    Ok(())
}

/// Begins a generation of routes with these changed destinations, and marks the processes behind them. Each row is touched as well,
/// so that the sync sees a change even if the driver fails.
async fn mark_processes(tx: &mut Change, destinations: &[Destination]) -> ApiResult<()> {
    if !destinations.is_empty()
        && let Some(generation) = route::begin_generation(tx, destinations).await?
    {
        for destination in destinations {
            tx.propagate(&destination.route_guid, generation);
        }
    }
    let types: BTreeSet<(&str, &str)> = destinations
        .iter()
        .map(|destination| (&*destination.app_guid, &*destination.process_type))
        .collect();
    for (app, process_type) in types {
        for process in process::touch_of_type(tx, app, process_type).await? {
            tx.reconcile(process);
        }
    }
    Ok(())
}
