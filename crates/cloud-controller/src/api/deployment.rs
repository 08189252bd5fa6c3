//! The endpoints `/v3/deployments`.

use super::prelude::*;
use crate::actions::{audit, deployment as verbs};
use crate::clock;
use crate::db::app::App;
use crate::db::deployment::{Deployment, DeploymentState, Options, Strategy};
use crate::db::droplet::Droplet;
use axum::response::IntoResponse as _;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/deployments", list)
        .lists(&["app_guids", "states", "status_values", "status_reasons"])
        .post("/v3/deployments", create)
        .body(&[
            "droplet.guid",
            "revision.guid",
            "strategy",
            "options.max_in_flight",
            "options.web_instances",
            "options.memory_in_mb",
            "options.disk_in_mb",
            "options.log_rate_limit_in_bytes_per_second",
            "relationships.app.data.guid",
            "metadata",
        ])
        .get("/v3/deployments/{guid}", show)
        .patch("/v3/deployments/{guid}", update)
        .body(&["metadata"])
        .post("/v3/deployments/{guid}/actions/cancel", cancel)
        .post("/v3/deployments/{guid}/actions/continue", resume)
}

fn present(cc: &Cc, deployment: &Deployment) -> Value {
    let path = format!("/v3/deployments/{}", deployment.guid);
    let mut links = cc.links(
        &path,
        &[("app", format!("/v3/apps/{}", deployment.app_guid))],
    );
    if deployment.state == DeploymentState::Active {
        links.insert(
            "cancel".to_owned(),
            cc.post_link(&format!("{path}/actions/cancel")),
        );
    }
    let options = &deployment.options.0;
    let new: Vec<Value> = deployment
        .deploying_process_guid
        .iter()
        .map(|guid| json!({ "guid": guid, "type": "web" }))
        .collect();
    resource(
        &deployment.guid,
        deployment.created_at,
        deployment.updated_at,
        json!({
            "status": {
                "value": deployment.state,
                "reason": deployment.reason,
                "details": {
                    "last_successful_healthcheck": clock::rfc3339(deployment.updated_at),
                    "last_status_change": clock::rfc3339(deployment.status_changed_at),
                    "error": deployment.error,
                },
            },
            "strategy": deployment.strategy,
            "options": {
                "max_in_flight": deployment.max_in_flight,
                "web_instances": options.web_instances,
                "memory_in_mb": options.memory_in_mb,
                "disk_in_mb": options.disk_in_mb,
                "log_rate_limit_in_bytes_per_second": options.log_rate_limit_in_bytes_per_second,
            },
            "droplet": { "guid": deployment.droplet_guid },
            "previous_droplet": { "guid": deployment.previous_droplet_guid },
            "new_processes": new,
            "revision": null,
            "relationships": { "app": to_one(Some(&deployment.app_guid)) },
            "metadata": deployment.metadata.0.present(),
            "links": links,
        }),
    )
}

fn strategy(body: &mut Body) -> Strategy {
    let Some(name) = body.string("strategy") else {
        return Strategy::Rolling;
    };
    name.parse().unwrap_or_else(|_| {
        body.problem(match name.as_str() {
            "canary" => "Strategy 'canary' is not supported yet; use 'rolling'".to_owned(),
            _ => format!("Strategy '{name}' is not a supported deployment strategy; use 'rolling'"),
        });
        Strategy::Rolling
    })
}

/// Reads what the deployment changes in addition to the droplet.
fn options(body: &mut Body) -> Options {
    let mut number = |name: &str, least: i64, most: i64| {
        let value = body.at(&format!("options.{name}"))?;
        if value.is_null() {
            return None;
        }
        let number = value.as_i64().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            body.problem(format!(
                "Options {name} must be an integer that is at least {least}"
            ));
        }
        number
    };
    let most = i64::from(i32::MAX);
    Options {
        web_instances: number("web_instances", 0, most),
        memory_in_mb: number("memory_in_mb", 1, most),
        disk_in_mb: number("disk_in_mb", 1, most),
        log_rate_limit_in_bytes_per_second: number(
            "log_rate_limit_in_bytes_per_second",
            -1,
            i64::MAX,
        ),
    }
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = who.visible::<Deployment>();
    for (name, column) in [
        ("app_guids", "app_guid"),
        ("status_values", "state"),
        ("status_reasons", "reason"),
        ("states", "reason"),
    ] {
        select = query.filter(select, name, column);
    }
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    )))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who
        .find::<Deployment>(&mut conn, &guid, Right::Read)
        .await?;
    Ok(ok(present(&cc, &found.row)))
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    let app_guid = body.required_relationship("app");
    let strategy = strategy(&mut body);
    if body
        .value("revision")
        .is_some_and(|revision| !revision.is_null())
    {
        body.problem("Revisions are not supported yet; name a droplet");
    }
    let options = options(&mut body);
    let max_in_flight = match body
        .at("options.max_in_flight")
        .filter(|value| !value.is_null())
    {
        None => 1,
        Some(value) => value.as_i64().unwrap_or_default(),
    };
    if max_in_flight < 1 {
        body.problem("Max in flight must be an integer greater than 0");
    }
    let droplet = body
        .at("droplet.guid")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let mut metadata = db::Json::default();
    body.merge_metadata(&mut metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    let unusable = "Unable to use app. Ensure that the app exists and you have access to it.";
    let found = who
        .usable::<App>(&mut tx, &app_guid, Right::Support, unusable)
        .await?;
    let (mut app, space) = (found.row, found.of.space);
    let Some(droplet) = droplet.or_else(|| app.droplet_guid.clone()) else {
        return Err(ApiError::unprocessable(
            "Invalid droplet. Please specify a droplet in the request or set a current droplet for the app.",
        ));
    };
    let unseen =
        "Unable to assign current droplet. Ensure the droplet exists and belongs to this app.";
    let droplet = who
        .usable::<Droplet>(&mut tx, &droplet, Right::Support, unseen)
        .await?
        .row;
    let (mapped, before) = (
        app.droplet_guid.as_ref() != Some(&droplet.guid),
        db::process::of_app(&mut tx, &app.guid).await?,
    );
    let mut deployment = verbs::create(
        &mut tx,
        &cc.settings,
        &mut app,
        &droplet,
        verbs::Wanted {
            strategy,
            max_in_flight,
            options,
        },
    )
    .await?;
    deployment.metadata = metadata;
    db::update(&mut tx, &deployment).await?;
    if mapped {
        let data = json!({ "request": { "droplet_guid": droplet.guid } });
        audit::also(audit::of_app(&mut tx, &who, "audit.app.droplet.mapped", &app, data).await?);
    }
    audit::new_processes(&mut tx, &who, &app, &before).await?;
    let data = json!({ "deployment_guid": deployment.guid, "droplet_guid": droplet.guid, "type": "deploy", "strategy": strategy });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.deployment.create",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &deployment)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut deployment = who
        .find::<Deployment>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
    body.merge_metadata(&mut deployment.metadata)?;
    body.finish()?;
    deployment.touch();
    db::update(&mut tx, &deployment).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &deployment)))
}

async fn cancel(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let Found {
        row: mut deployment,
        of,
        ..
    } = find_to_steer(&mut tx, &who, &guid).await?;
    verbs::cancel(&mut tx, &mut deployment).await?;
    let data = json!({ "deployment_guid": guid, "droplet_guid": deployment.droplet_guid });
    let kind = "audit.app.deployment.cancel";
    let trail = audit::of_app(&mut tx, &who, kind, &of.app, data).await?;
    tx.commit(trail).await?;
    Ok(http::StatusCode::OK.into_response())
}

/// Returns a deployment that the caller may cancel or continue. Everybody else gets a 404, even readers.
async fn find_to_steer(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<Found<Deployment>> {
    let found = who.find::<Deployment>(conn, guid, Right::Read).await?;
    found
        .access
        .must_hold(Right::Support)
        .map_err(|_| ApiError::not_found("Deployment"))?;
    found.access.must_be_active()?;
    Ok(found)
}

/// Refuses every deployment, because only a paused canary could be continued.
async fn resume(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let deployment = find_to_steer(&mut conn, &who, &guid).await?.row;
    Err(ApiError::unprocessable(format!(
        "Cannot continue a deployment with status: {} and reason: {}",
        deployment.state, deployment.reason
    )))
}
