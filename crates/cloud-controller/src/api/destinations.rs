//! `/v3/routes/:guid/destinations`: where a route leads. The answer goes out when Diego has the change.

use super::prelude::*;
use crate::actions::route::Target;
use crate::actions::{self, audit};
use crate::clock;
use crate::db::route::{self, Destination};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route(
            "/v3/routes/{guid}/destinations",
            get(list).post(insert).patch(replace),
        )
        .route(
            "/v3/routes/{guid}/destinations/{destination}",
            patch(update).delete(remove),
        )
}

pub(super) fn present(destination: &Destination) -> Value {
    json!({
        "guid": destination.guid,
        "created_at": clock::rfc3339(destination.created_at),
        "updated_at": clock::rfc3339(destination.updated_at),
        "app": { "guid": destination.app_guid, "process": { "type": destination.process_type } },
        "weight": destination.weight,
        "port": destination.port.unwrap_or(8080),
        "protocol": destination.protocol,
    })
}

async fn present_list(cc: &Cc, conn: &mut Connection, route: &str) -> ApiResult<Value> {
    let destinations = route::destinations(conn, route).await?;
    Ok(json!({
        "destinations": destinations.iter().map(present).collect::<Vec<_>>(),
        "links": {
            "self": cc.link(&format!("/v3/routes/{route}/destinations")),
            "route": cc.link(&format!("/v3/routes/{route}")),
        },
    }))
}

async fn list(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    let query = Query::only(&uri, &["guids", "app_guids", "page", "per_page"])?;
    let mut conn = cc.db.read().await?;
    lookup::route(&mut conn, &who, &guid).await?;
    let mut answer = present_list(&cc, &mut conn, &guid).await?;
    for (name, path) in [("guids", "/guid"), ("app_guids", "/app/guid")] {
        if let (Some(wanted), Some(list)) =
            (query.values(name), answer["destinations"].as_array_mut())
        {
            list.retain(|item| {
                item.pointer(path)
                    .and_then(Value::as_str)
                    .is_some_and(|guid| wanted.iter().any(|other| other == guid))
            });
        }
    }
    Ok(ok(answer))
}

/// Reads `{"destinations": [{app{guid, process{type}}, port, protocol, weight}]}`.
fn targets(body: &mut Body, weights: bool) -> Vec<Target> {
    let Some(list) = body
        .value("destinations")
        .and_then(Value::as_array)
        .cloned()
    else {
        body.problem(
            "Destinations must be an array containing between 1 and 100 destination objects.",
        );
        return Vec::new();
    };
    if list.len() > 100 || (list.is_empty() && !weights) {
        body.problem(
            "Destinations must be an array containing between 1 and 100 destination objects.",
        );
    }
    let mut targets = Vec::new();
    for (at, item) in list.iter().enumerate() {
        let Some(app_guid) = item.pointer("/app/guid").and_then(Value::as_str) else {
            body.problem(format!(
                "Destinations[{at}]: app must have the structure {{\"guid\": \"app_guid\"}}"
            ));
            continue;
        };
        let unknown = item.as_object().and_then(|item| {
            item.keys()
                .find(|key| !["app", "port", "protocol", "weight"].contains(&key.as_str()))
        });
        if let Some(key) = unknown {
            body.problem(format!("Destinations[{at}]: unknown field '{key}'"));
        }
        if item.get("weight").is_some_and(|weight| !weight.is_null()) && !weights {
            body.problem(
                "Destinations[0]: weighted destinations cannot be used when adding destinations",
            );
        }
        let port = item.get("port").filter(|port| !port.is_null());
        if port.is_some_and(|port| port.as_i64().is_none()) {
            body.problem(format!(
                "Destinations[{at}]: port must be an integer between 1024 and 65535"
            ));
        }
        targets.push(Target {
            app_guid: app_guid.to_owned(),
            process_type: item
                .pointer("/app/process/type")
                .and_then(Value::as_str)
                .unwrap_or("web")
                .to_owned(),
            port: port.and_then(Value::as_i64),
            protocol: item
                .get("protocol")
                .and_then(Value::as_str)
                .map(str::to_owned),
            weight: item.get("weight").and_then(Value::as_i64),
        });
    }
    targets
}

async fn insert(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    change(cc, who, guid, body, false).await
}

async fn replace(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    change(cc, who, guid, body, true).await
}

async fn change(cc: Cc, who: Principal, guid: String, body: Body, replace: bool) -> ApiResult {
    let mut body = body.allow(&["destinations"]);
    let targets = targets(&mut body, replace);
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let (route, space, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.supports())?;
    for target in &targets {
        let missing = |_| {
            ApiError::unprocessable(format!(
                "App(s) with guid(s) \"{}\" do not exist or you do not have access.",
                target.app_guid
            ))
        };
        lookup::app(&mut tx, &who, &target.app_guid)
            .await
            .map_err(missing)?;
    }
    let apps: Vec<String> = targets
        .iter()
        .map(|target| target.app_guid.clone())
        .collect();
    let touched = if replace {
        actions::route::replace(&mut tx, &route, targets).await?
    } else {
        actions::route::map(&mut tx, &route, targets).await?
    };
    for app in &apps {
        let data = json!({ "route_guid": guid, "route_mapping": { "app_guid": app } });
        audit::record(
            &mut tx,
            &who,
            "audit.app.map-route",
            (app, "app", ""),
            Some(&space),
            data,
        )
        .await?;
    }
    let answer = present_list(&cc, &mut tx, &guid).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(ok(answer))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, destination)): Path<(String, String)>,
    body: Body,
) -> ApiResult {
    let mut body = body.allow(&["protocol"]);
    let protocol = body.string("protocol");
    if protocol
        .as_deref()
        .is_some_and(|protocol| !["http1", "http2"].contains(&protocol))
    {
        body.problem("Destination protocol must be 'http1' or 'http2'.");
    }
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let (_, _, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.supports())?;
    let mut destination = find(&mut tx, &guid, &destination)
        .await?
        .ok_or_else(|| ApiError::not_found("Destination"))?;
    let touched = actions::route::set_protocol(&mut tx, &mut destination, protocol).await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(ok(present(&destination)))
}

async fn remove(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, destination)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (route, space, access) = lookup::route(&mut tx, &who, &guid).await?;
    allow(access.supports())?;
    let unknown = || {
        ApiError::unprocessable(
            "Unable to unmap route from destination. Ensure the route has a destination with this guid.",
        )
    };
    let destination = find(&mut tx, &route.guid, &destination)
        .await?
        .ok_or_else(unknown)?;
    let touched = actions::route::unmap(&mut tx, &destination).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.app.unmap-route",
        (&destination.app_guid, "app", ""),
        Some(&space),
        json!({ "route_guid": guid }),
    )
    .await?;
    tx.commit().await?;
    cc.driver.settle(touched).await;
    Ok(no_content())
}

async fn find(conn: &mut Connection, route: &str, guid: &str) -> ApiResult<Option<Destination>> {
    Ok(db::by_guid::<Destination>(conn, guid)
        .await?
        .filter(|destination| destination.route_guid == route))
}
