//! Routes, and the spaces with which they are shared.

use super::destination::{Destination, Protocol};
use super::domain::PolicyScope;
use super::{Arg, Condition, Connection, Json, ListCondition, Select, execute, rows};
use cc_rules::metadata::Metadata;
use kit::db::query;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

rows! {
    /// A route. `host` and `path` are empty and `port` is 0 when they are absent.
    Route in "routes" folding ["host", "path"] {
        host: String, path: String, port: i64, domain_guid: String, space_guid: String, options: Json<Option<Map<String, Value>>>, metadata: Json<Metadata>,
    }
}

/// Selects the routes of some spaces, and those that are shared with one of them.
pub(crate) fn is_of_or_shared_with(spaces: &[String]) -> Condition {
    let sql = "(space_guid IN LIST(?) OR guid IN (SELECT route_guid FROM route_shares WHERE space_guid IN LIST(?)))";
    Condition::new(sql, [spaces.into(), spaces.into()])
}

/// The condition for routes with a destination in one of some apps.
pub(crate) const LEADS_TO_APPS: ListCondition =
    ListCondition("guid IN (SELECT route_guid FROM destinations WHERE app_guid IN LIST(?))");

/// The condition for routes that are bound to one of some service instances.
pub(crate) const BOUND_TO_INSTANCES: ListCondition = ListCondition(
    "guid IN (SELECT route_guid FROM service_route_bindings WHERE service_instance_guid IN LIST(?))",
);

/// Selects the routes with a destination in an app.
pub(crate) fn leads_to(app: &str) -> Condition {
    let sql = "guid IN (SELECT route_guid FROM destinations WHERE app_guid = ?)";
    Condition::new(sql, [app.into()])
}

pub(crate) async fn find(
    conn: &mut Connection,
    host: &str,
    domain: &str,
    path: &str,
    port: i64,
) -> sqlx::Result<Option<Route>> {
    Select::new()
        .is("host", host)
        .is("domain_guid", domain)
        .is("path", path)
        .is("port", port)
        .first(conn)
        .await
}

/// Returns whether another route of the same host and domain belongs to a space other than this one.
pub(crate) async fn host_elsewhere(
    conn: &mut Connection,
    route: &Route,
    space: &str,
) -> sqlx::Result<bool> {
    Select::new()
        .is("host", &route.host)
        .is("domain_guid", &route.domain_guid)
        .and(
            "space_guid <> ? AND guid <> ?",
            [space.into(), (&route.guid).into()],
        )
        .exists::<Route>(conn)
        .await
}

/// Returns whether any route has this host on a domain.
pub(crate) async fn has_host(
    conn: &mut Connection,
    domain: &str,
    host: &str,
) -> sqlx::Result<bool> {
    Select::new()
        .is("host", host)
        .is("domain_guid", domain)
        .exists::<Route>(conn)
        .await
}

/// Returns the oldest route of a domain.
pub(crate) async fn first_of_domain(
    conn: &mut Connection,
    domain: &str,
) -> sqlx::Result<Option<Route>> {
    Select::new().is("domain_guid", domain).first(conn).await
}

/// Returns whether an organization's spaces have routes on a domain.
pub(crate) async fn is_domain_used_by(
    conn: &mut Connection,
    domain: &str,
    organization: &str,
) -> sqlx::Result<bool> {
    Select::new()
        .is("domain_guid", domain)
        .and(
            "space_guid IN (SELECT guid FROM spaces WHERE organization_guid = ?)",
            [organization.into()],
        )
        .exists::<Route>(conn)
        .await
}

/// Returns the oldest route of a space.
pub(crate) async fn first_of_space(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<Route>> {
    Select::new().is("space_guid", space).first(conn).await
}

/// Returns the oldest route of a space that has no destination and is not bound to a service.
pub(crate) async fn first_unmapped(
    conn: &mut Connection,
    space: &str,
) -> sqlx::Result<Option<Route>> {
    Select::new()
        .is("space_guid", space)
        .and("guid NOT IN (SELECT route_guid FROM destinations)", [])
        .and(
            "guid NOT IN (SELECT route_guid FROM service_route_bindings)",
            [],
        )
        .first(conn)
        .await
}

pub(crate) async fn shares(conn: &mut Connection, route: &str) -> sqlx::Result<Vec<String>> {
    let rows = query("SELECT space_guid FROM route_shares WHERE route_guid = $1 ORDER BY id")
        .bind(route)
        .fetch_all(conn)
        .await?;
    Ok(super::readable_rows(&rows, |row| row.try_get(0)))
}

pub(crate) async fn share(conn: &mut Connection, route: &str, space: &str) -> sqlx::Result<()> {
    execute(
        conn,
        "INSERT INTO route_shares (route_guid, space_guid) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        &[Arg::from(route), space.into()],
    )
    .await
    .map(drop)
}

pub(crate) async fn unshare(conn: &mut Connection, route: &str, space: &str) -> sqlx::Result<bool> {
    Ok(execute(
        conn,
        "DELETE FROM route_shares WHERE route_guid = $1 AND space_guid = $2",
        &[Arg::from(route), space.into()],
    )
    .await?
        > 0)
}

/// Returns a stored generation; 0 stands for none.
fn generation(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok().filter(|number| *number > 0)
}

/// Begins the next generation of routes, and records that these destinations changed in it. Every change of a route, of its
/// destinations or of what its destinations send to the routers has a generation, whose number is higher than those of all changes
/// before. The destinations may be gone already. Returns the generation.
pub(crate) async fn begin_generation(
    conn: &mut Connection,
    changed: &[Destination],
) -> sqlx::Result<Option<u64>> {
    let next = query("UPDATE route_generations SET latest = latest + 1 RETURNING latest");
    let rows = next.fetch_all(conn).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let number: i64 = row.try_get(0)?;
    let guids = |guid: fn(&Destination) -> &String| -> Arg {
        let all: Vec<String> = changed
            .iter()
            .map(|changed| guid(changed).clone())
            .collect();
        all.into()
    };
    let destinations = guids(|destination| &destination.guid);
    let numbered = "UPDATE destinations SET generation = $1 WHERE guid IN LIST($2)";
    execute(conn, numbered, &[number.into(), destinations]).await?;
    let routes = guids(|destination| &destination.route_guid);
    let numbered = "UPDATE routes SET generation = $1 WHERE guid IN LIST($2)";
    execute(conn, numbered, &[number.into(), routes]).await?;
    Ok(generation(number))
}

/// The state that users want routers to have of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    /// The generation of the route's last change; 0 if there is none.
    pub generation: u64,
    /// The processes that should run and to which the route leads, and the generation of each destination. If the route leads to
    /// several ports of a process, the oldest one counts.
    pub processes: BTreeMap<String, u64>,
}

pub(crate) async fn wanted(conn: &mut Connection, route: &str) -> sqlx::Result<Wanted> {
    let number = |stored: i64| generation(stored).unwrap_or_default();
    let rows = query("SELECT generation FROM routes WHERE guid = $1")
        .bind(route)
        .fetch_all(conn)
        .await?;
    let stored = rows.first();
    let stored = stored.map(|row| row.try_get::<i64, _>(0).unwrap_or_default());
    let rows = query(
        "SELECT p.guid, MIN(t.generation) FROM destinations t JOIN apps a ON a.guid = t.app_guid
         JOIN processes p ON p.app_guid = t.app_guid AND p.type = t.process_type
         WHERE t.route_guid = $1 AND a.state = 'STARTED' AND a.droplet_guid IS NOT NULL AND p.instances > 0
         GROUP BY p.guid",
    )
    .bind(route)
    .fetch_all(conn)
    .await?;
    let processes = super::readable_rows(&rows, |row| {
        let guid: String = row.try_get(0)?;
        let generation = row.try_get::<i64, _>(1).unwrap_or_default();
        Ok((guid, number(generation)))
    });
    Ok(Wanted {
        generation: stored.map_or(0, number),
        processes: processes.into_iter().collect(),
    })
}

/// A route of a process type, as its desired LRP contains it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mapping {
    pub host: String,
    pub domain: String,
    pub path: String,
    pub internal: bool,
    /// Whether the domain belongs to no organization.
    pub shared: bool,
    pub port: Option<i64>,
    pub protocol: Protocol,
    pub options: Option<Map<String, Value>>,
    /// The route policies, which are present on domains that enforce them.
    pub policy: Option<Policy>,
    /// The address of the service to which the route is bound. Requests go there first.
    pub route_service_url: Option<String>,
    /// The generation in which the destination changed last; `None` if that was before there were generations.
    pub generation: Option<u64>,
}

/// The permitted callers of a route, in the form that the router reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Policy {
    pub scope: PolicyScope,
    /// The sources, joined by commas. An empty text permits nobody.
    pub sources: String,
}

pub(crate) async fn mappings(
    conn: &mut Connection,
    app: &str,
    process_type: &str,
) -> sqlx::Result<Vec<Mapping>> {
    let rows = query(
        "SELECT r.host, d.name, r.path, d.internal, t.port, t.protocol, r.options, d.organization_guid,
                d.enforce_route_policies, d.route_policies_scope,
                (SELECT string_agg(source, ',' ORDER BY id) FROM route_policies WHERE route_guid = r.guid), t.generation,
                (SELECT route_service_url FROM service_route_bindings WHERE route_guid = r.guid)
         FROM destinations t
         JOIN routes r ON r.guid = t.route_guid JOIN domains d ON d.guid = r.domain_guid
         WHERE t.app_guid = $1 AND t.process_type = $2 ORDER BY t.id",
    )
    .bind(app)
    .bind(process_type)
    .fetch_all(conn)
    .await?;
    rows.iter()
        .map(|row| {
            let options: Json<Option<Map<String, Value>>> = row.try_get(6)?;
            let policy = match row.try_get(8)? {
                false => None,
                true => Some(Policy {
                    // A route on such a domain always has a policy, whatever the row contains, so that it is never open.
                    scope: row
                        .try_get::<Option<PolicyScope>, _>(9)?
                        .unwrap_or(PolicyScope::Any),
                    sources: row.try_get::<Option<String>, _>(10)?.unwrap_or_default(),
                }),
            };
            Ok(Mapping {
                host: row.try_get(0)?,
                domain: row.try_get(1)?,
                path: row.try_get(2)?,
                internal: row.try_get(3)?,
                shared: row.try_get::<Option<String>, _>(7)?.is_none(),
                port: row.try_get(4)?,
                protocol: row.try_get(5)?,
                options: options.0,
                policy,
                route_service_url: row.try_get(12)?,
                // A generation that cannot be read costs the receipts of the route, not the route.
                generation: generation(row.try_get::<i64, _>(11).unwrap_or_default()),
            })
        })
        .collect()
}
