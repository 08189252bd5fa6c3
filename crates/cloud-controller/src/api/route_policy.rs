//! The endpoints `/v3/route_policies`: which apps may call a route of a domain that enforces policies.
//!
//! A policy belongs to its route and is removed with it. Its source need not exist, nor be visible to the caller. The policy of
//! a deleted app stays, and admits nobody.

use super::prelude::*;
use crate::actions::{self, audit};
use crate::db::app::App;
use crate::db::domain::Domain;
use crate::db::organization::Organization;
use crate::db::route::Route;
use crate::db::route_policy::{self, RoutePolicy};
use crate::db::space::Space;
use cc_rules::policy_source::PolicySource;

const INCLUDES: &[&str] = &["source", "route"];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/route_policies", list)
        .lists(&[
            "route_guids",
            "space_guids",
            "sources",
            "source_guids",
            "include",
        ])
        .post("/v3/route_policies", create)
        .body(&["source", "relationships.route.data.guid", "metadata"])
        .get("/v3/route_policies/{guid}", show)
        .takes(&["include"])
        .patch("/v3/route_policies/{guid}", update)
        .body(&["metadata"])
        .delete("/v3/route_policies/{guid}", remove)
}

pub(super) fn present(cc: &Cc, policy: &RoutePolicy) -> Value {
    let route = format!("/v3/routes/{}", policy.route_guid);
    let mut links = cc.links(
        &format!("/v3/route_policies/{}", policy.guid),
        &[("route", route)],
    );
    let mut relationships = json!({
        "route": to_one(Some(&policy.route_guid)),
        "app": to_one(None),
        "space": to_one(None),
        "organization": to_one(None),
    });
    let named = match PolicySource::parse(&policy.source) {
        Some(PolicySource::App(guid)) => Some(("app", "apps", guid)),
        Some(PolicySource::Space(guid)) => Some(("space", "spaces", guid)),
        Some(PolicySource::Organization(guid)) => Some(("organization", "organizations", guid)),
        Some(PolicySource::Any) | None => None,
    };
    if let Some((kind, collection, guid)) = named {
        relationships[kind] = to_one(Some(&guid));
        links.insert(
            kind.to_owned(),
            cc.link(&format!("/v3/{collection}/{guid}")),
        );
    }
    resource(
        &policy.guid,
        policy.created_at,
        policy.updated_at,
        json!({
            "source": policy.source,
            "metadata": policy.metadata.0.present(),
            "relationships": relationships,
            "links": links,
        }),
    )
}

/// Returns the policies of routes that the caller sees, in the order of their creation.
pub(super) async fn of_routes(
    cc: &Cc,
    conn: &mut Connection,
    routes: &[Route],
) -> ApiResult<Vec<Value>> {
    let policies = route_policy::of_routes(conn, routes).await?;
    Ok(policies.iter().map(|policy| present(cc, policy)).collect())
}

/// Returns what `include` names. A source that was removed, or that the caller does not see, is left out.
async fn included(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    include: &[String],
    policies: &[RoutePolicy],
) -> ApiResult<Value> {
    let mut included = json!({});
    let asks_for = |what: &str| include.iter().any(|asked| asked == what);
    if asks_for("source") {
        let of = |kind: &str| -> Vec<&str> {
            let prefix = format!("cf:{kind}:");
            let found = policies.iter().filter(|p| p.source.starts_with(&prefix));
            found.map(|policy| policy.source_guid.as_str()).collect()
        };
        let rows: Vec<App> = who.visible().any("guid", of("app")).all(conn).await?;
        included["apps"] = rows
            .iter()
            .map(|row| super::app::present(cc, row))
            .collect();
        let rows: Vec<Space> = who.visible().any("guid", of("space")).all(conn).await?;
        included["spaces"] = rows
            .iter()
            .map(|row| super::space::present(cc, row))
            .collect();
        let rows: Vec<Organization> = who.visible().any("guid", of("org")).all(conn).await?;
        let rows = rows.iter().map(|row| super::organization::present(cc, row));
        included["organizations"] = rows.collect();
    }
    if asks_for("route") {
        let guids = policies.iter().map(|policy| &policy.route_guid);
        let routes: Vec<Route> = who.visible().any("guid", guids).all(conn).await?;
        included["routes"] = json!(super::route::present_all(cc, conn, &routes).await?);
    }
    Ok(included)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let include = query.include(INCLUDES)?;
    check_sources(&query)?;
    let mut select = who.visible::<RoutePolicy>();
    for (name, column) in [
        ("route_guids", "route_guid"),
        ("sources", "source"),
        ("source_guids", "source_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "space_guids", db::route_policy::OF_SPACES);
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    let mut answer = cc.page(&query, found.page, resources);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

fn check_sources(query: &Query) -> ApiResult<()> {
    let sources = query.values("sources").unwrap_or_default();
    let wrong: Vec<String> = sources
        .into_iter()
        .filter(|source| PolicySource::parse(source).is_none())
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(ApiError::bad_query(format!(
        "Sources contains invalid source format: {}. {FORMAT}",
        wrong.join(", ")
    )))
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<RoutePolicy>(&mut conn, &guid, Right::Read)
        .await?;
    let mut answer = present(&cc, &found.row);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[found.row]).await?;
    }
    Ok(ok(answer))
}

const FORMAT: &str =
    "Source must be in format 'cf:app:<uuid>', 'cf:space:<uuid>', 'cf:org:<uuid>', or 'cf:any'";

/// Reads the source, and notes one that is missing or wrong.
fn read_source(body: &mut Body) -> Option<PolicySource> {
    let text = body.required_string("source");
    let source = PolicySource::parse(&text);
    if source.is_none() && (1..=255).contains(&text.chars().count()) {
        body.problem(format!("{FORMAT} (got '{text}')"));
    }
    source
}

/// Returns the route of a new policy. Organization auditors, who see a route's policies, do not find the route here.
async fn find_route(conn: &mut Connection, who: &Principal, guid: &str) -> ApiResult<Found<Route>> {
    let found = who.find::<Route>(conn, guid, Right::Read).await?;
    let hidden = |_| ApiError::not_found("Route");
    let space = &found.row.space_guid;
    let seen = who.find::<Space>(conn, space, Right::Read).await;
    seen.map_err(hidden)?;
    found.access.must(Right::Develop)?;
    Ok(found)
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    kind: &str,
    policy: &RoutePolicy,
    space: &Space,
    data: Value,
) -> ApiResult<db::Trail> {
    let target = (policy.guid.as_str(), "route_policy", policy.source.as_str());
    audit::record(conn, who, kind, target, space, data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let source = read_source(&mut body);
    let mut policy = RoutePolicy {
        route_guid: body.required_relationship("route"),
        ..RoutePolicy::fresh()
    };
    body.merge_metadata(&mut policy.metadata)?;
    let request = body.finish()?;
    let Some(source) = source else {
        return Err(ApiError::unprocessable(FORMAT));
    };
    policy.source = source.to_string();
    policy.source_guid = source.guid().to_owned();
    let mut tx = cc.change().await?;
    let found = find_route(&mut tx, &who, &policy.route_guid).await?;
    let (route, space) = (found.row, found.of.space);
    let domain = who
        .existing::<Domain>(&mut tx, &route.domain_guid, Right::Read, "Domain not found")
        .await?
        .row;
    actions::route_policy::create(&mut tx, &cc.settings, &route, &domain, &source, &policy).await?;
    let mut data = json!({ "request": { "source": policy.source, "route_guid": route.guid } });
    if let Some(metadata) = request.get("metadata") {
        data["request"]["metadata"] = metadata.clone();
    }
    let kind = "audit.route_policy.create";
    let trail = record(&mut tx, &who, kind, &policy, &space, data).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &policy)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who
        .find::<RoutePolicy>(&mut tx, &guid, Right::Develop)
        .await?;
    let (mut policy, space) = (found.row, found.of.space);
    body.merge_metadata(&mut policy.metadata)?;
    let request = body.finish()?;
    policy.touch();
    db::update(&mut tx, &policy).await?;
    let (kind, data) = ("audit.route_policy.update", json!({ "request": request }));
    let trail = record(&mut tx, &who, kind, &policy, &space, data).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &policy)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who
        .find::<RoutePolicy>(&mut tx, &guid, Right::Develop)
        .await?;
    let (policy, space) = (found.row, found.of.space);
    actions::route_policy::delete(&mut tx, &policy).await?;
    let kind = "audit.route_policy.delete";
    let trail = record(&mut tx, &who, kind, &policy, &space, json!({})).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
