//! The endpoints `/v3/routes`.

use super::prelude::*;
use crate::actions::{self, audit, job, managed_route_binding};
use crate::db::app::App;
use crate::db::destination::{self, Destination};
use crate::db::domain::{self, Domain};
use crate::db::route::{self, Route};
use crate::db::space::Space;
use crate::flags::Flag;
use crate::jobs;
use std::collections::HashMap;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/routes", list)
        .lists(FILTERS)
        .post("/v3/routes", create)
        .body(&[
            "host",
            "path",
            "port",
            "relationships.space.data.guid",
            "relationships.domain.data.guid",
            "options.*",
            "metadata",
        ])
        .get("/v3/routes/{guid}", show)
        .takes(&["include"])
        .patch("/v3/routes/{guid}", update)
        .body(&["options.*", "metadata"])
        .delete("/v3/routes/{guid}", remove)
        .get("/v3/apps/{guid}/routes", of_app)
        .lists(FILTERS)
        .patch("/v3/routes/{guid}/relationships/space", transfer)
        .body(&["data.guid"])
        .get(
            "/v3/routes/{guid}/relationships/shared_spaces",
            shared_spaces,
        )
        .post("/v3/routes/{guid}/relationships/shared_spaces", share)
        .body(&["data[].guid"])
        .delete(
            "/v3/routes/{guid}/relationships/shared_spaces/{space}",
            unshare,
        )
}

/// Presents a route. `destinations` are those of this route.
pub(super) fn present(
    cc: &Cc,
    route: &Route,
    domain: &Domain,
    destinations: &[Destination],
) -> Value {
    let path = format!("/v3/routes/{}", route.guid);
    let links = [
        ("space", format!("/v3/spaces/{}", route.space_guid)),
        ("destinations", format!("{path}/destinations")),
        ("domain", format!("/v3/domains/{}", route.domain_guid)),
    ];
    let mine: Vec<Value> = destinations
        .iter()
        .map(super::destination::present)
        .collect();
    let mut json = resource(
        &route.guid,
        route.created_at,
        route.updated_at,
        json!({
            "protocol": "http",
            "host": route.host,
            "path": route.path,
            "port": (route.port > 0).then_some(route.port),
            "url": cc_rules::route_rules::url(&route.host, &domain.name, &route.path, route.port),
            "destinations": mine,
            "metadata": route.metadata.0.present(),
            "relationships": { "space": to_one(Some(&route.space_guid)), "domain": to_one(Some(&route.domain_guid)) },
            "links": cc.links(&path, &links),
        }),
    );
    // Clients dereference the values, so that a route without options has no such key.
    if let Some(options) = &route.options.0 {
        json["options"] = json!(options);
    }
    json
}

pub(super) async fn present_all(
    cc: &Cc,
    conn: &mut Connection,
    routes: &[Route],
) -> ApiResult<Vec<Value>> {
    let domains = domain::of_routes(conn, routes).await?;
    let domains: HashMap<String, Domain> = domains
        .into_iter()
        .map(|domain| (domain.guid.clone(), domain))
        .collect();
    let guids: Vec<String> = routes.iter().map(|route| route.guid.clone()).collect();
    let mut destinations: HashMap<String, Vec<Destination>> = HashMap::new();
    for destination in destination::of_routes(conn, &guids).await? {
        let route = destination.route_guid.clone();
        destinations.entry(route).or_default().push(destination);
    }
    Ok(routes
        .iter()
        .filter_map(|route| {
            let domain = domains.get(&route.domain_guid)?;
            let mine = destinations.get(&route.guid).map_or(&[][..], Vec::as_slice);
            Some(present(cc, route, domain, mine))
        })
        .collect())
}

async fn present_one(cc: &Cc, conn: &mut Connection, route: &Route) -> ApiResult<Value> {
    Ok(present_all(cc, conn, std::slice::from_ref(route))
        .await?
        .pop()
        .unwrap_or_default())
}

const INCLUDES: &[&str] = &["domain", "space", "space.organization", "route_policies"];

const FILTERS: &[&str] = &[
    "hosts",
    "paths",
    "ports",
    "domain_guids",
    "space_guids",
    "organization_guids",
    "app_guids",
    "service_instance_guids",
    "include",
];

async fn page(cc: &Cc, who: &Principal, query: &Query, select: Scope<Route>) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut conn = cc.db.read().await?;
    let mut select = select;
    for (name, column) in [
        ("hosts", "host"),
        ("paths", "path"),
        ("domain_guids", "domain_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    if let Some(ports) = query.values("ports") {
        let ports: Option<Vec<i64>> = ports
            .iter()
            .map(|port| {
                if port.is_empty() {
                    Some(0)
                } else {
                    port.parse().ok()
                }
            })
            .collect();
        select = select.any(
            "port",
            ports.ok_or_else(|| ApiError::bad_query("Ports must be a list of integers"))?,
        );
    }
    if let Some(spaces) = query.values("space_guids") {
        select = select.that(route::is_of_or_shared_with(&spaces));
    }
    select = query.filter_by(select, "organization_guids", db::space::OF_ORGANIZATIONS);
    select = query.filter_by(select, "app_guids", route::LEADS_TO_APPS);
    select = query.filter_by(select, "service_instance_guids", route::BOUND_TO_INSTANCES);
    let found = query.fetch(&mut conn, select).await?;
    let resources = present_all(cc, &mut conn, &found.rows).await?;
    let mut answer = cc.page(query, found.page, resources);
    if !include.is_empty() {
        answer["included"] = included(cc, &mut conn, who, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    include: &[String],
    routes: &[Route],
) -> ApiResult<Value> {
    let mut included = serde_json::Map::new();
    if include.iter().any(|what| what == "domain") {
        let rows = domain::of_routes(conn, routes).await?;
        included.insert(
            "domains".to_owned(),
            rows.iter()
                .map(|row| super::domain::present(cc, row, &[]))
                .collect(),
        );
    }
    if include.iter().any(|what| what.starts_with("space")) {
        // Organization auditors see routes, but not the spaces in which they are.
        let rows: Vec<Space> = who
            .visible()
            .any("guid", routes.iter().map(|route| &route.space_guid))
            .all(conn)
            .await?;
        if include.iter().any(|what| what == "space.organization") {
            included.insert(
                "organizations".to_owned(),
                json!(super::space::included_organizations(cc, conn, who, &rows).await?),
            );
        }
        included.insert(
            "spaces".to_owned(),
            rows.iter()
                .map(|row| super::space::present(cc, row))
                .collect(),
        );
    }
    if include.iter().any(|what| what == "route_policies") {
        let policies = super::route_policy::of_routes(cc, conn, routes).await?;
        included.insert("route_policies".to_owned(), json!(policies));
    }
    Ok(Value::Object(included))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    page(&cc, &who, &query, who.visible()).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<App>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    let routes = who.visible().that(route::leads_to(&guid));
    page(&cc, &who, &query, routes).await
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut conn = cc.db.read().await?;
    let route = who.find::<Route>(&mut conn, &guid, Right::Read).await?.row;
    let mut answer = present_one(&cc, &mut conn, &route).await?;
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[route]).await?;
    }
    Ok(ok(answer))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    Flag::RouteCreation
        .must_be_on(&mut *cc.db.read().await?, &who)
        .await?;
    let mut route = Route {
        host: body.string("host").unwrap_or_default(),
        path: body.string("path").unwrap_or_default(),
        port: body.int("port", 0..=65535).unwrap_or_default(),
        space_guid: body.required_relationship("space"),
        domain_guid: body.required_relationship("domain"),
        ..Route::fresh()
    };
    match cc_rules::route_rules::merge_options(None, body.value("options").unwrap_or(&Value::Null))
    {
        Ok(options) => route.options.0 = options,
        Err(error) => body.problem(error.to_string()),
    }
    body.merge_metadata(&mut route.metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    Flag::RouteCreation.must_be_on(&mut tx, &who).await?;
    let unseen = "Invalid domain. Ensure that the domain exists and you have access to it.";
    let domain = who
        .named::<Domain>(&mut tx, &route.domain_guid, Right::Read, unseen)
        .await?
        .row;
    let unknown = "Invalid space. Ensure that the space exists and you have access to it.";
    let space = who
        .existing::<Space>(&mut tx, &route.space_guid, Right::Support, unknown)
        .await?
        .row;
    actions::route::create(
        &mut tx,
        &cc.settings,
        &route,
        &domain,
        &space,
        who.is_admin(),
    )
    .await?;
    let url = cc_rules::route_rules::url(&route.host, &domain.name, &route.path, route.port);
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.route.create",
        (&route.guid, "route", &url),
        &space,
        json!({}),
    )
    .await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &route, &domain, &[])))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let (options, metadata) = (body.value("options").cloned(), body.metadata().cloned());
    body.finish()?;
    let mut tx = cc.change().await?;
    let mut route = who.find::<Route>(&mut tx, &guid, Right::Support).await?.row;
    if let Some(change) = &options {
        actions::route::set_options(&mut tx, &mut route, change).await?;
    }
    if let Some(change) = &metadata {
        route.metadata.0.merge(&cc.settings.limits, change)?;
    }
    route.touch();
    db::update(&mut tx, &route).await?;
    let answer = present_one(&cc, &mut tx, &route).await?;
    let data = json!({ "request": { "options": options, "metadata": metadata } });
    let trail = audit::of_route(&mut tx, &who, "audit.route.update", &route, data).await?;
    tx.commit(trail).await?;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<Route>(&mut tx, &guid, Right::Support).await?;
    let (route, space) = (found.row, found.of.space);
    let bound = managed_route_binding::of_managed(&mut tx, &guid).await?;
    if bound.is_some() {
        let job = job::enqueue(&mut tx, &who, job::DELETE_ROUTE, ("routes", &guid)).await?;
        tx.commit(Unrecorded::ByJob).await?;
        jobs::wait(&cc, &job).await;
        return Ok(cc.accepted(&job));
    }
    let actor = audit::actor(&who);
    actions::service_route_binding::delete_of_route(&mut tx, actor, &route).await?;
    actions::route::delete(&mut tx, &route).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.route.delete-request",
        (&route.guid, "route", &route.host),
        &space,
        json!({ "request": { "recursive": true } }),
    )
    .await?;
    let job = job::complete(&mut tx, job::DELETE_ROUTE, ("routes", &guid)).await?;
    tx.commit(trail).await?;
    Ok(cc.accepted(&job))
}

async fn transfer(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    Flag::RouteSharing
        .must_be_on(&mut *cc.db.read().await?, &who)
        .await?;
    let wanted = body.read_to_one();
    body.finish()?;
    let mut tx = cc.change().await?;
    let mut route = who.find::<Route>(&mut tx, &guid, Right::Develop).await?.row;
    let unusable = format!(
        "Unable to transfer owner of route '{guid}' to space '{}'. Ensure the space exists, is not suspended, and that you have write access to it.",
        wanted.as_deref().unwrap_or_default()
    );
    let wanted = wanted.unwrap_or_default();
    let space = who
        .share_target::<Space>(&mut tx, &wanted, Right::Support, &unusable)
        .await?
        .row;
    if !domain::is_usable(&mut tx, &route.domain_guid, &space.organization_guid).await? {
        return Err(ApiError::unprocessable(
            "Unable to transfer owner of route. The target space's organization does not have access to the route's domain.",
        ));
    }
    let kind = "audit.route.transfer-owner";
    let data = json!({ "target_space_guid": space.guid });
    let trail = audit::of_route(&mut tx, &who, kind, &route, data).await?;
    actions::route::transfer(&mut tx, &cc.settings, &mut route, &space).await?;
    tx.commit(trail).await?;
    Ok(ok(to_one(Some(&route.space_guid))))
}

async fn present_shares(cc: &Cc, conn: &mut Connection, guid: &str) -> ApiResult<Value> {
    let mut answer = to_many(&route::shares(conn, guid).await?);
    answer["links"] =
        json!({ "self": cc.link(&format!("/v3/routes/{guid}/relationships/shared_spaces")) });
    Ok(answer)
}

async fn shared_spaces(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    Flag::RouteSharing.must_be_on(&mut conn, &who).await?;
    who.find::<Route>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present_shares(&cc, &mut conn, &guid).await?))
}

async fn share(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    Flag::RouteSharing.must_be_on(&mut tx, &who).await?;
    let route = who.find::<Route>(&mut tx, &guid, Right::Support).await?.row;
    let spaces = body.read_to_many();
    body.finish()?;
    for space in &spaces {
        let unusable = format!(
            "Unable to share route with spaces ['{space}']. Ensure the spaces exist, are not suspended, and that you may write to them."
        );
        who.share_target::<Space>(&mut tx, space, Right::Develop, &unusable)
            .await?;
        if *space == route.space_guid {
            return Err(ApiError::unprocessable(format!(
                "Unable to share route '{guid}' with space '{space}'. Routes cannot be shared into the space where they were created."
            )));
        }
        route::share(&mut tx, &guid, space).await?;
    }
    let answer = present_shares(&cc, &mut tx, &guid).await?;
    let data = json!({ "target_space_guids": spaces });
    let trail = audit::of_route(&mut tx, &who, "audit.route.share", &route, data).await?;
    tx.commit(trail).await?;
    Ok(ok(answer))
}

async fn unshare(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, space)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.change().await?;
    Flag::RouteSharing.must_be_on(&mut tx, &who).await?;
    let route = who.find::<Route>(&mut tx, &guid, Right::Support).await?.row;
    let unusable = format!(
        "Unable to unshare route from space '{space}'. Ensure the space exists, is not suspended, and that you may write to it."
    );
    who.share_target::<Space>(&mut tx, &space, Right::Support, &unusable)
        .await?;
    if space == route.space_guid {
        return Err(ApiError::unprocessable(format!(
            "Unable to unshare route from space '{space}'. Routes cannot be removed from the space where they were created."
        )));
    }
    let foreign = destination::in_space(&mut tx, &route.guid, &space).await?;
    if !route::unshare(&mut tx, &guid, &space).await? {
        return Err(ApiError::unprocessable(format!(
            "Unable to unshare route from space '{space}'. Ensure the space exists and the route is shared with it."
        )));
    }
    for destination in &foreign {
        actions::route::unmap(&mut tx, destination).await?;
    }
    audit::also(audit::mappings(&mut tx, audit::actor(&who), &foreign, &[], false).await?);
    let data = json!({ "target_space_guid": space });
    let trail = audit::of_route(&mut tx, &who, "audit.route.unshare", &route, data).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
