//! `/v3/routes`

use super::organizations::merge_metadata;
use super::prelude::*;
use crate::actions::{self, audit, job};
use crate::db::domain::Domain;
use crate::db::route::{self, Destination, Route};
use crate::db::space::Space;
use std::collections::HashMap;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/routes", get(list).post(create))
        .route("/v3/routes/{guid}", get(show).patch(update).delete(remove))
        .route("/v3/apps/{guid}/routes", get(of_app))
        .route(
            "/v3/routes/{guid}/relationships/space",
            get(space_of).patch(transfer),
        )
        .route(
            "/v3/routes/{guid}/relationships/shared_spaces",
            get(shared_spaces).post(share),
        )
        .route(
            "/v3/routes/{guid}/relationships/shared_spaces/{space}",
            delete(unshare),
        )
}

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
        .filter(|destination| destination.route_guid == route.guid)
        .map(super::destinations::present)
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
            "url": crate::route_rules::url(&route.host, &domain.name, &route.path, route.port),
            "destinations": mine,
            "metadata": route.metadata.0.present(),
            "relationships": { "space": to_one(Some(&route.space_guid)), "domain": to_one(Some(&route.domain_guid)) },
            "links": cc.links(&path, &links),
        }),
    );
    // Clients dereference the values: no options, no key.
    if let Some(options) = &route.options.0 {
        json["options"] = json!(options);
    }
    json
}

async fn present_all(cc: &Cc, conn: &mut Connection, routes: &[Route]) -> ApiResult<Vec<Value>> {
    let domains: Vec<Domain> = Select::new()
        .any("guid", routes.iter().map(|route| &route.domain_guid))
        .all(conn)
        .await?;
    let domains: HashMap<String, Domain> = domains
        .into_iter()
        .map(|domain| (domain.guid.clone(), domain))
        .collect();
    let guids: Vec<String> = routes.iter().map(|route| route.guid.clone()).collect();
    let destinations = route::destinations_of_routes(conn, &guids).await?;
    Ok(routes
        .iter()
        .filter_map(|route| {
            Some(present(
                cc,
                route,
                domains.get(&route.domain_guid)?,
                &destinations,
            ))
        })
        .collect())
}

async fn present_one(cc: &Cc, conn: &mut Connection, route: &Route) -> ApiResult<Value> {
    Ok(present_all(cc, conn, std::slice::from_ref(route))
        .await?
        .pop()
        .unwrap_or_default())
}

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

async fn page(cc: &Cc, uri: &Uri, who: &Principal, select: Select) -> ApiResult {
    let query = Query::list(uri, FILTERS)?;
    let include = query.include(&["domain", "space", "space.organization"])?;
    let mut conn = cc.db.read().await?;
    let mut select = who.sees_routes(select, "space_guid");
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
        let marks = vec!["?"; spaces.len()].join(", ");
        let both: Vec<db::Arg> = spaces.iter().chain(&spaces).map(db::Arg::from).collect();
        select = select.and(&format!("(space_guid IN ({marks}) OR guid IN (SELECT route_guid FROM route_shares WHERE space_guid IN ({marks})))"), both);
    }
    select = query.filter_by(
        select,
        "organization_guids",
        "space_guid IN (SELECT guid FROM spaces WHERE organization_guid IN (?))",
    );
    select = query.filter_by(
        select,
        "app_guids",
        "guid IN (SELECT route_guid FROM destinations WHERE app_guid IN (?))",
    );
    if query.values("service_instance_guids").is_some() {
        select = select.and("1 = 0", []);
    }
    let found = query.fetch::<Route>(&mut conn, select).await?;
    let resources = present_all(cc, &mut conn, &found.rows).await?;
    let mut answer = cc.page(&query, found.total, resources);
    if !include.is_empty() {
        answer["included"] = included(cc, &mut conn, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    include: &[String],
    routes: &[Route],
) -> ApiResult<Value> {
    let mut included = serde_json::Map::new();
    if include.iter().any(|what| what == "domain") {
        let rows: Vec<Domain> = Select::new()
            .any("guid", routes.iter().map(|route| &route.domain_guid))
            .all(conn)
            .await?;
        included.insert(
            "domains".to_owned(),
            rows.iter()
                .map(|row| super::domains::present(cc, row, &[]))
                .collect(),
        );
    }
    if include.iter().any(|what| what.starts_with("space")) {
        let rows: Vec<Space> = Select::new()
            .any("guid", routes.iter().map(|route| &route.space_guid))
            .all(conn)
            .await?;
        if include.iter().any(|what| what == "space.organization") {
            included.insert(
                "organizations".to_owned(),
                json!(super::spaces::included_organizations(cc, conn, &rows).await?),
            );
        }
        included.insert(
            "spaces".to_owned(),
            rows.iter()
                .map(|row| super::spaces::present(cc, row))
                .collect(),
        );
    }
    Ok(Value::Object(included))
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    page(&cc, &uri, &who, Select::new()).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::app(&mut *cc.db.read().await?, &who, &guid).await?;
    page(
        &cc,
        &uri,
        &who,
        Select::new().and(
            "guid IN (SELECT route_guid FROM destinations WHERE app_guid = ?)",
            [guid.into()],
        ),
    )
    .await
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    let include =
        Query::only(&uri, &["include"])?.include(&["domain", "space", "space.organization"])?;
    let mut conn = cc.db.read().await?;
    let (route, _, _) = lookup::route(&mut conn, &who, &guid).await?;
    let mut answer = present_one(&cc, &mut conn, &route).await?;
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &include, &[route]).await?;
    }
    Ok(ok(answer))
}

async fn create(State(cc): State<Cc>, who: Principal, body: Body) -> ApiResult {
    let mut body = body.allow(&[
        "host",
        "path",
        "port",
        "relationships",
        "options",
        "metadata",
    ]);
    let mut route = Route {
        host: body.string("host").unwrap_or_default().to_ascii_lowercase(),
        path: body.string("path").unwrap_or_default(),
        port: body.int("port", 0..=65535).unwrap_or_default(),
        space_guid: body.required_relationship("space"),
        domain_guid: body.required_relationship("domain"),
        ..Route::fresh()
    };
    match crate::route_rules::merge_options(None, body.value("options").unwrap_or(&Value::Null)) {
        Ok(options) => route.options.0 = options,
        Err(problem) => body.problem(problem),
    }
    merge_metadata(&body, &mut route.metadata)?;
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let invalid = |_| {
        ApiError::unprocessable(
            "Invalid space. Ensure that the space exists and you have access to it.",
        )
    };
    let (space, access) = lookup::space(&mut tx, &who, &route.space_guid)
        .await
        .map_err(invalid)?;
    allow(access.supports())?;
    if !who.is_admin() {
        super::platform::must_be_on(&mut tx, "route_creation").await?;
    }
    let domain: Option<Domain> = db::by_guid(&mut tx, &route.domain_guid).await?;
    let domain = domain.ok_or_else(|| {
        ApiError::unprocessable(
            "Invalid domain. Ensure that the domain exists and you have access to it.",
        )
    })?;
    actions::route::create(
        &mut tx,
        &cc.settings,
        &route,
        &domain,
        &space,
        who.is_admin(),
    )
    .await?;
    let url = crate::route_rules::url(&route.host, &domain.name, &route.path, route.port);
    audit::record(
        &mut tx,
        &who,
        "audit.route.create",
        (&route.guid, "route", &url),
        Some(&space),
        json!({}),
    )
    .await?;
    tx.commit().await?;
    Ok(created(present(&cc, &route, &domain, &[])))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let body = body.allow(&["options", "metadata"]);
    let mut tx = cc.db.write().await?;
    let (mut route, _, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.supports())?;
    let touched = match body.value("options") {
        Some(change) => actions::route::set_options(&mut tx, &mut route, change).await?,
        None => Vec::new(),
    };
    merge_metadata(&body, &mut route.metadata)?;
    body.finish()?;
    route.touch();
    db::update(&mut tx, &route).await?;
    let answer = present_one(&cc, &mut tx, &route).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(ok(answer))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (route, space, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.supports())?;
    let touched = actions::route::delete(&mut tx, &route).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.route.delete-request",
        (&route.guid, "route", &route.host),
        Some(&space),
        json!({ "request": { "recursive": true } }),
    )
    .await?;
    let job = job::complete(&mut tx, "route.delete", ("routes", &guid)).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(cc.accepted(&job))
}

async fn space_of(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let (route, _, _) = lookup::route(&mut conn, &who, &guid).await?;
    Ok(ok(to_one(Some(&route.space_guid))))
}

async fn transfer(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["data"]);
    let wanted = body.read_to_one();
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let (mut route, _, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    super::platform::must_be_on(&mut tx, "route_sharing").await?;
    let invalid = |_| {
        ApiError::unprocessable(
            "Unable to transfer owner of route. Ensure the space exists and you have write access to it.",
        )
    };
    let (space, access) = lookup::space(&mut tx, &who, wanted.as_deref().unwrap_or_default())
        .await
        .map_err(invalid)?;
    allow(access.develops())?;
    let before = std::mem::replace(&mut route.space_guid, space.guid);
    route.touch();
    db::update(&mut tx, &route).await?;
    // Whoever had it keeps its destinations.
    route::share(&mut tx, &route.guid, &before).await?;
    tx.commit().await?;
    Ok(ok(to_one(Some(&route.space_guid))))
}

async fn shared_spaces(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    lookup::route(&mut conn, &who, &guid).await?;
    let mut answer = to_many(&route::shares(&mut conn, &guid).await?);
    answer["links"] =
        json!({ "self": cc.link(&format!("/v3/routes/{guid}/relationships/shared_spaces")) });
    Ok(ok(answer))
}

async fn share(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["data"]);
    let spaces = body.read_to_many();
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let (_, _, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    super::platform::must_be_on(&mut tx, "route_sharing").await?;
    for space in &spaces {
        let invalid = |_| {
            ApiError::unprocessable(format!(
                "Unable to share route with spaces ['{space}']. Ensure the spaces exist and that you have access to them."
            ))
        };
        lookup::space(&mut tx, &who, space).await.map_err(invalid)?;
        route::share(&mut tx, &guid, space).await?;
    }
    let mut answer = to_many(&route::shares(&mut tx, &guid).await?);
    tx.commit().await?;
    answer["links"] =
        json!({ "self": cc.link(&format!("/v3/routes/{guid}/relationships/shared_spaces")) });
    Ok(ok(answer))
}

async fn unshare(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, space)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (route, _, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    let in_space = "app_guid IN (SELECT guid FROM apps WHERE space_guid = ?)";
    let foreign: Vec<Destination> = Select::new()
        .is("route_guid", &route.guid)
        .and(in_space, [space.as_str().into()])
        .all(&mut tx)
        .await?;
    if !route::unshare(&mut tx, &guid, &space).await? {
        return Err(ApiError::unprocessable(format!(
            "Unable to unshare route from space '{space}'. Ensure the space exists and the route is shared with it."
        )));
    }
    let mut touched = Vec::new();
    for destination in &foreign {
        touched.extend(actions::route::unmap(&mut tx, destination).await?);
    }
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(no_content())
}
