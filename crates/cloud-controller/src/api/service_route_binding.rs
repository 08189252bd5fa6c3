//! The endpoints `/v3/service_route_bindings`: bindings of routes to the services that their requests visit first.
//!
//! A binding is seen in the space of its route. Who creates one needs the right in the space of the instance, as in the original.

use super::prelude::*;
use super::service_instance::present_operation;
use crate::actions::{self, audit};
use crate::db::route::Route;
use crate::db::service_credential_binding::OF_INSTANCE_NAMES;
use crate::db::service_instance::ServiceInstance;
use crate::db::service_route_binding::ServiceRouteBinding;
use crate::db::space::Space;
use std::collections::BTreeSet;

const INCLUDES: &[&str] = &["route", "service_instance"];

const PATH: &str = "/v3/service_route_bindings";

pub(super) fn routes() -> Endpoints {
    let one = "/v3/service_route_bindings/{guid}";
    Endpoints::default()
        .get(PATH, list)
        .lists(&[
            "route_guids",
            "service_instance_guids",
            "service_instance_names",
            "include",
        ])
        .post(PATH, create)
        .body(&[
            "parameters.*",
            "relationships.route.data.guid",
            "relationships.service_instance.data.guid",
            "metadata",
        ])
        .get(one, show)
        .takes(&["include"])
        .patch(one, update)
        .body(&["metadata"])
        .delete(one, remove)
        .get(&format!("{one}/parameters"), parameters)
}

fn present(cc: &Cc, binding: &ServiceRouteBinding) -> Value {
    let (route, instance) = (&binding.route_guid, &binding.service_instance_guid);
    let links = cc.links(
        &format!("{PATH}/{}", binding.guid),
        &[
            (
                "service_instance",
                format!("/v3/service_instances/{instance}"),
            ),
            ("route", format!("/v3/routes/{route}")),
        ],
    );
    resource(
        &binding.guid,
        binding.created_at,
        binding.updated_at,
        json!({
            "route_service_url": binding.route_service_url,
            "last_operation": present_operation(&binding.last_operation.0),
            "metadata": binding.metadata.0.present(),
            "relationships": {
                "service_instance": to_one(Some(instance)),
                "route": to_one(Some(route)),
            },
            "links": links,
        }),
    )
}

async fn included(
    cc: &Cc,
    conn: &mut Connection,
    who: &Principal,
    include: &[String],
    bindings: &[ServiceRouteBinding],
) -> ApiResult<Value> {
    let mut included = json!({});
    let asks_for = |what: &str| include.iter().any(|asked| asked == what);
    if asks_for("route") {
        let guids = bindings.iter().map(|binding| &binding.route_guid);
        let rows: Vec<Route> = who.visible().any("guid", guids).all(conn).await?;
        included["routes"] = json!(super::route::present_all(cc, conn, &rows).await?);
    }
    if asks_for("service_instance") {
        let guids: BTreeSet<&String> = bindings.iter().map(|b| &b.service_instance_guid).collect();
        let rows: Vec<ServiceInstance> = who.visible().any("guid", guids).all(conn).await?;
        let shown = rows
            .iter()
            .map(|row| super::service_instance::present(cc, row));
        included["service_instances"] = shown.collect();
    }
    Ok(included)
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut select = who.visible::<ServiceRouteBinding>();
    for (name, column) in [
        ("route_guids", "route_guid"),
        ("service_instance_guids", "service_instance_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "service_instance_names", OF_INSTANCE_NAMES);
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, select).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    let mut answer = cc.page(&query, found.page, resources);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &found.rows).await?;
    }
    Ok(ok(answer))
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
    right: Right,
) -> ApiResult<Found<ServiceRouteBinding>> {
    who.find::<ServiceRouteBinding>(conn, guid, right).await
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let include = query.include(INCLUDES)?;
    let mut conn = cc.db.read().await?;
    let binding = find(&mut conn, &who, &guid, Right::Read).await?.row;
    let mut answer = present(&cc, &binding);
    if !include.is_empty() {
        answer["included"] = included(&cc, &mut conn, &who, &include, &[binding]).await?;
    }
    Ok(ok(answer))
}

/// Returns the route of a new binding. Organization auditors, who see routes, do not find it here, because they do not see its space.
async fn find_route(conn: &mut Connection, who: &Principal, guid: &str) -> ApiResult<Found<Route>> {
    let unseen = format!("The route could not be found: {guid}");
    let found = who.named::<Route>(conn, guid, Right::Read, &unseen).await?;
    let space = &found.row.space_guid;
    who.named::<Space>(conn, space, Right::Read, &unseen)
        .await?;
    Ok(found)
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    binding: &ServiceRouteBinding,
    space: &Space,
    request: Value,
) -> ApiResult<db::Trail> {
    let kind = format!("audit.service_route_binding.{verb}");
    let target = actions::service_route_binding::target(binding);
    let data = json!({ "request": request });
    audit::record(conn, who, &kind, target, space, data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let mut binding = ServiceRouteBinding {
        service_instance_guid: body.required_relationship("service_instance"),
        route_guid: body.required_relationship("route"),
        ..ServiceRouteBinding::fresh()
    };
    body.merge_metadata(&mut binding.metadata)?;
    let request = body.finish()?;
    let mut tx = cc.change().await?;
    let guid = &binding.service_instance_guid;
    let unseen = format!("The service instance could not be found: {guid}");
    let instance = who
        .named::<ServiceInstance>(&mut tx, guid, Right::Support, &unseen)
        .await?;
    let route = find_route(&mut tx, &who, &binding.route_guid).await?.row;
    if request.contains_key("parameters") {
        return Err(ApiError::unprocessable(
            "Binding parameters are not supported for user-provided service instances",
        ));
    }
    let pair = (&route, &instance.row);
    let settings = &cc.settings;
    actions::service_route_binding::create(&mut tx, settings, pair, &mut binding).await?;
    let (space, request) = (&instance.of.space, Value::Object(request));
    let trail = record(&mut tx, &who, "create", &binding, space, request).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &binding)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Develop).await?;
    let (mut binding, space) = (found.row, found.of.space);
    body.merge_metadata(&mut binding.metadata)?;
    let request = Value::Object(body.finish()?);
    binding.touch();
    db::update(&mut tx, &binding).await?;
    let trail = record(&mut tx, &who, "update", &binding, &space, request).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &binding)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = find(&mut tx, &who, &guid, Right::Support).await?;
    let (binding, space) = (found.row, found.of.space);
    let actor = audit::actor(&who);
    let trail = actions::service_route_binding::delete(&mut tx, actor, &binding, &space).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}

/// Refuses, after the check of the right to write, which the original makes here although nothing is written.
async fn parameters(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    find(&mut *cc.db.read().await?, &who, &guid, Right::Develop).await?;
    Err(ApiError::bad_request(
        "user provided service instances do not support fetching route bindings parameters.",
    ))
}
