//! The endpoints `/v3/routes/:guid/destinations`: where a route leads. The response is sent when Diego has the change.

use super::prelude::*;
use crate::actions::route::Target;
use crate::actions::{self, audit};
use crate::clock;
use crate::db::app::App;
use crate::db::destination::{self, Destination, Protocol};
use crate::db::route::Route;

const DESTINATIONS: &[&str] = &[
    "destinations[].app.guid",
    "destinations[].app.process.type",
    "destinations[].port",
    "destinations[].protocol",
    "destinations[].weight",
];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/routes/{guid}/destinations", list)
        .takes(&["guids", "app_guids"])
        .post("/v3/routes/{guid}/destinations", insert)
        .body(DESTINATIONS)
        .patch("/v3/routes/{guid}/destinations", replace)
        .body(DESTINATIONS)
        .patch("/v3/routes/{guid}/destinations/{destination}", update)
        .body(&["protocol"])
        .delete("/v3/routes/{guid}/destinations/{destination}", remove)
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

fn present_list(cc: &Cc, route: &str, destinations: &[Destination]) -> Value {
    json!({
        "destinations": destinations.iter().map(present).collect::<Vec<_>>(),
        "links": {
            "self": cc.link(&format!("/v3/routes/{route}/destinations")),
            "route": cc.link(&format!("/v3/routes/{route}")),
        },
    })
}

async fn list(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    who.find::<Route>(&mut conn, &guid, Right::Read).await?;
    let destinations = destination::of_route(&mut conn, &guid).await?;
    let mut answer = present_list(&cc, &guid, &destinations);
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

/// A destination that a body names. Its app has not been looked up.
struct Wish {
    app_guid: String,
    process_type: String,
    port: Option<i64>,
    protocol: Option<String>,
    weight: Option<i64>,
}

impl Wish {
    fn target(self, app: App) -> Target {
        Target {
            app,
            process_type: self.process_type,
            port: self.port,
            protocol: self.protocol,
            weight: self.weight,
        }
    }
}

/// Reads `{"destinations": [{app{guid, process{type}}, port, protocol, weight}]}`.
fn wishes(body: &mut Body, weights: bool) -> Vec<Wish> {
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
    let mut wishes = Vec::new();
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
        wishes.push(Wish {
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
    wishes
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

async fn change(cc: Cc, who: Principal, guid: String, mut body: Body, replace: bool) -> ApiResult {
    let wishes = wishes(&mut body, replace);
    body.finish()?;
    let mut tx = cc.change().await?;
    let route = who.find::<Route>(&mut tx, &guid, Right::Support).await?.row;
    let mut targets = Vec::new();
    for wish in wishes {
        let unseen = format!(
            "App(s) with guid(s) \"{}\" do not exist or you do not have access.",
            wish.app_guid
        );
        let app = who
            .named::<App>(&mut tx, &wish.app_guid, Right::Read, &unseen)
            .await?;
        targets.push(wish.target(app.row));
    }
    let before = destination::of_route(&mut tx, &guid).await?;
    let mut after = if replace {
        actions::route::replace(&mut tx, &cc.settings, &route, &before, targets).await?
    } else {
        let added = actions::route::map(&mut tx, &cc.settings, &route, &before, targets).await?;
        before.iter().cloned().chain(added).collect()
    };
    after.sort_by(|a, b| a.guid.cmp(&b.guid));
    let trail = audit::mappings(&mut tx, audit::actor(&who), &before, &after, false).await?;
    tx.commit(trail).await?;
    Ok(ok(present_list(&cc, &guid, &after)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, destination)): Path<(String, String)>,
    mut body: Body,
) -> ApiResult {
    let protocol = body.string("protocol").map(|name| name.parse::<Protocol>());
    if matches!(protocol, Some(Err(_))) {
        body.problem("Destination protocol must be 'http1' or 'http2'.");
    }
    body.finish()?;
    let protocol = protocol.and_then(Result::ok).unwrap_or_default();
    let mut tx = cc.change().await?;
    let route = who.find::<Route>(&mut tx, &guid, Right::Support).await?.row;
    let mut destination = destination::find(&mut tx, &route, &destination)
        .await?
        .ok_or_else(|| {
            ApiError::unprocessable(
                "Unable to update destination. Ensure the route has a destination with this guid.",
            )
        })?;
    actions::route::set_protocol(&mut tx, &mut destination, protocol).await?;
    let data = json!({ "request": { "destination_guid": destination.guid, "protocol": destination.protocol } });
    let trail = audit::of_route(&mut tx, &who, "audit.route.update", &route, data).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&destination)))
}

async fn remove(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, destination)): Path<(String, String)>,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let route = who.find::<Route>(&mut tx, &guid, Right::Support).await?.row;
    let unknown = || {
        ApiError::unprocessable(
            "Unable to unmap route from destination. Ensure the route has a destination with this guid.",
        )
    };
    let destination = destination::find(&mut tx, &route, &destination)
        .await?
        .ok_or_else(unknown)?;
    actions::route::unmap(&mut tx, &destination).await?;
    let gone = std::slice::from_ref(&destination);
    let trail = audit::mappings(&mut tx, audit::actor(&who), gone, &[], false).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
