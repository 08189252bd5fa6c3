//! `/v3/processes` and an app's processes by type.

use super::organizations::merge_metadata;
use super::prelude::*;
use crate::actions::audit;
use crate::actions::process::{self as verbs, Change};
use crate::auth::Access;
use crate::db::app::App;
use crate::db::process::{self, HealthCheck, Process};
use crate::diego::{instances, usage};
use axum::response::IntoResponse as _;
use http::StatusCode;
use std::collections::HashMap;
use wire::bbs::{ActualLrp, ActualLrpKey};

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/processes", get(list))
        .route("/v3/processes/{guid}", get(show).patch(update))
        .route("/v3/processes/{guid}/stats", get(stats))
        .route(
            "/v3/processes/{guid}/process_instances",
            get(process_instances),
        )
        .route("/v3/processes/{guid}/sidecars", get(sidecars))
        .route("/v3/processes/{guid}/actions/scale", post(scale))
        .route(
            "/v3/processes/{guid}/instances/{index}",
            delete(stop_instance),
        )
        .route("/v3/apps/{guid}/processes", get(of_app))
        .route(
            "/v3/apps/{guid}/processes/{type}",
            get(show_of_app).patch(update_of_app),
        )
        .route("/v3/apps/{guid}/processes/{type}/stats", get(stats_of_app))
        .route(
            "/v3/apps/{guid}/processes/{type}/process_instances",
            get(instances_of_app),
        )
        .route(
            "/v3/apps/{guid}/processes/{type}/actions/scale",
            post(scale_of_app),
        )
        .route(
            "/v3/apps/{guid}/processes/{type}/instances/{index}",
            delete(stop_instance_of_app),
        )
}

/// `command`: what is shown of it; lists hide it.
fn present(cc: &Cc, process: &Process, command: Option<&str>) -> Value {
    let path = format!("/v3/processes/{}", process.guid);
    let links = [
        ("app", format!("/v3/apps/{}", process.app_guid)),
        ("stats", format!("{path}/stats")),
        ("process_instances", format!("{path}/process_instances")),
    ];
    let mut links = cc.links(&path, &links);
    links.insert(
        "scale".to_owned(),
        cc.post_link(&format!("{path}/actions/scale")),
    );
    resource(
        &process.guid,
        process.created_at,
        process.updated_at,
        json!({
            "version": process.version,
            "type": process.r#type,
            "command": command,
            "user": process.user.as_deref().unwrap_or("vcap"),
            "instances": process.instances,
            "memory_in_mb": process.memory_in_mb,
            "disk_in_mb": process.disk_in_mb,
            "log_rate_limit_in_bytes_per_second": process.log_rate_limit,
            "health_check": present_check(&process.health_check.0, true),
            "readiness_health_check": present_check(&process.readiness_health_check.0, false),
            "relationships": { "app": to_one(Some(&process.app_guid)), "revision": null },
            "metadata": process.metadata.0.present(),
            "links": links,
        }),
    )
}

fn present_check(check: &HealthCheck, with_timeout: bool) -> Value {
    let mut data =
        json!({ "invocation_timeout": check.invocation_timeout, "interval": check.interval });
    if with_timeout {
        data["timeout"] = json!(check.timeout);
    }
    if check.r#type == "http" {
        data["endpoint"] = json!(check.endpoint);
    }
    json!({ "type": check.r#type, "data": data })
}

/// The user's command, else the droplet's.
async fn command(conn: &mut Connection, process: &Process) -> ApiResult<Option<String>> {
    if let Some(command) = process
        .command
        .clone()
        .filter(|command| !command.is_empty())
    {
        return Ok(Some(command));
    }
    let Some(app): Option<App> = db::by_guid(conn, &process.app_guid).await? else {
        return Ok(None);
    };
    let Some(guid) = app.droplet_guid else {
        return Ok(None);
    };
    let droplet: Option<db::build::Droplet> = db::by_guid(conn, &guid).await?;
    Ok(droplet.and_then(|droplet| droplet.process_types.0.get(&process.r#type).cloned()))
}

const FILTERS: &[&str] = &[
    "types",
    "app_guids",
    "space_guids",
    "organization_guids",
    "embed",
];

async fn page(cc: &Cc, uri: &Uri, select: Select) -> ApiResult {
    let query = Query::list(uri, FILTERS)?;
    let embed = query.values("embed").unwrap_or_default();
    if let Some(other) = embed.iter().find(|what| *what != "process_instances") {
        return Err(ApiError::bad_query(format!(
            "Invalid embed: '{other}'. Valid embeds are: 'process_instances'"
        )));
    }
    let found = {
        let mut conn = cc.db.read().await?;
        let mut select = query.filter(
            query.filter(select, "types", "type"),
            "app_guids",
            "app_guid",
        );
        select = query.filter_by(
            select,
            "space_guids",
            "app_guid IN (SELECT guid FROM apps WHERE space_guid IN (?))",
        );
        let in_organizations = "app_guid IN (SELECT a.guid FROM apps a JOIN spaces s ON s.guid = a.space_guid WHERE s.organization_guid IN (?))";
        select = query.filter_by(select, "organization_guids", in_organizations);
        query.fetch::<Process>(&mut conn, select).await?
    };
    let hidden = "[PRIVATE DATA HIDDEN IN LISTS]";
    let mut resources: Vec<Value> = found
        .rows
        .iter()
        .map(|row| present(cc, row, row.command.as_ref().map(|_| hidden)))
        .collect();
    if !embed.is_empty() {
        let started = started(cc, &found.rows).await?;
        let lrps = instances::of_processes(cc, &started).await?;
        for (process, json) in found.rows.iter().zip(&mut resources) {
            json["process_instances"] = json!(present_instances(process, &lrps));
        }
    }
    Ok(ok(cc.page(&query, found.total, resources)))
}

async fn started(cc: &Cc, processes: &[Process]) -> ApiResult<Vec<Process>> {
    let guids: Vec<String> = processes
        .iter()
        .map(|process| process.app_guid.clone())
        .collect();
    let apps = db::app::by_guids(&mut *cc.db.read().await?, &guids).await?;
    Ok(processes
        .iter()
        .filter(|process| {
            apps.iter()
                .any(|app| app.guid == process.app_guid && app.is_started())
        })
        .cloned()
        .collect())
}

fn present_instances(process: &Process, lrps: &HashMap<String, Vec<ActualLrp>>) -> Vec<Value> {
    let lrps = lrps.get(&process.lrp_guid()).map_or(&[][..], Vec::as_slice);
    instances::by_index(process, lrps)
        .into_iter()
        .map(|(index, lrp)| json!({ "index": index, "state": instances::state_of(lrp.as_ref()), "since": lrp.map_or(0, |lrp| instances::age(&lrp)) }))
        .collect()
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    page(&cc, &uri, who.sees_apps(Select::new(), "app_guid")).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::app(&mut *cc.db.read().await?, &who, &guid).await?;
    page(&cc, &uri, Select::new().is("app_guid", guid)).await
}

/// By its own guid, or as the newest of an app's type.
#[derive(Debug)]
enum Which {
    Guid(String),
    OfApp(String, String),
}

impl Which {
    async fn find(
        &self,
        conn: &mut Connection,
        who: &Principal,
    ) -> ApiResult<(Process, App, Access)> {
        match self {
            Self::Guid(guid) => lookup::process(conn, who, guid).await,
            Self::OfApp(app, kind) => {
                let (app, _, access) = lookup::app(conn, who, app).await?;
                let process = process::of_type(conn, &app.guid, kind)
                    .await?
                    .ok_or_else(|| ApiError::not_found("Process"))?;
                Ok((process, app, access))
            }
        }
    }
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    show_one(cc, who, Which::Guid(guid)).await
}
async fn show_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind)): Path<(String, String)>,
) -> ApiResult {
    show_one(cc, who, Which::OfApp(app, kind)).await
}
async fn show_one(cc: Cc, who: Principal, which: Which) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let (process, _, access) = which.find(&mut conn, &who).await?;
    let command = command(&mut conn, &process).await?;
    Ok(ok(present(
        &cc,
        &process,
        if access.reads_secrets() {
            command.as_deref()
        } else {
            Some("[PRIVATE DATA HIDDEN]")
        },
    )))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    update_one(cc, who, Which::Guid(guid), body).await
}
async fn update_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind)): Path<(String, String)>,
    body: Body,
) -> ApiResult {
    update_one(cc, who, Which::OfApp(app, kind), body).await
}
async fn update_one(cc: Cc, who: Principal, which: Which, body: Body) -> ApiResult {
    let mut body = body.allow(&[
        "command",
        "user",
        "health_check",
        "readiness_health_check",
        "metadata",
    ]);
    let mut tx = cc.db.write().await?;
    let (mut process, app, access) = which.find(&mut tx, &who).await?;
    allow(access.develops())?;
    let check = |json: Option<&Value>, before: &HealthCheck, readiness| {
        json.map(|json| verbs::health_check(before, json, readiness))
            .transpose()
    };
    let change = Change {
        command: body.nullable_string("command"),
        user: body.nullable_string("user"),
        health_check: check(body.value("health_check"), &process.health_check.0, false)?,
        readiness: check(
            body.value("readiness_health_check"),
            &process.readiness_health_check.0,
            true,
        )?,
        ..Change::default()
    };
    merge_metadata(&body, &mut process.metadata)?;
    body.finish()?;
    let settle = verbs::change(&mut tx, &app, &mut process, change).await?;
    let command = command(&mut tx, &process).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.app.process.update",
        (&app.guid, "app", &app.name),
        None,
        json!({ "process_guid": process.guid }),
    )
    .await?;
    tx.commit().await?;
    if settle {
        cc.driver.settle(vec![process.guid.clone()]).await;
    }
    Ok(ok(present(&cc, &process, command.as_deref())))
}

async fn scale(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    scale_one(cc, who, Which::Guid(guid), body).await
}
async fn scale_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind)): Path<(String, String)>,
    body: Body,
) -> ApiResult {
    scale_one(cc, who, Which::OfApp(app, kind), body).await
}
async fn scale_one(cc: Cc, who: Principal, which: Which, body: Body) -> ApiResult {
    let mut body = body.allow(&[
        "instances",
        "memory_in_mb",
        "disk_in_mb",
        "log_rate_limit_in_bytes_per_second",
    ]);
    let most = i64::from(i32::MAX);
    let change = Change {
        instances: body.int("instances", 0..=most),
        memory_in_mb: body.int("memory_in_mb", 1..=most),
        disk_in_mb: body.int("disk_in_mb", 1..=most),
        log_rate_limit: body.int("log_rate_limit_in_bytes_per_second", -1..=i64::MAX),
        ..Change::default()
    };
    let request = Value::Object(body.finish()?);
    let mut tx = cc.db.write().await?;
    let (mut process, app, access) = which.find(&mut tx, &who).await?;
    allow(access.supports())?;
    if !who.is_admin() {
        super::platform::must_be_on(&mut tx, "app_scaling").await?;
    }
    if process.r#type == "web"
        && db::deployment::active_of_app(&mut tx, &app.guid)
            .await?
            .is_some()
    {
        return Err(ApiError::unprocessable(
            "Cannot scale this process while a deployment is in flight.",
        ));
    }
    let settle = verbs::change(&mut tx, &app, &mut process, change).await?;
    let space: Option<db::space::Space> = db::by_guid(&mut tx, &app.space_guid).await?;
    let data =
        json!({ "process_guid": process.guid, "process_type": process.r#type, "request": request });
    audit::record(
        &mut tx,
        &who,
        "audit.app.process.scale",
        (&app.guid, "app", &app.name),
        space.as_ref(),
        data,
    )
    .await?;
    let command = command(&mut tx, &process).await?;
    tx.commit().await?;
    cc.log_to_app(
        &app.guid,
        format!("Updated app with guid {} ({request})", app.guid),
    );
    if settle {
        cc.driver.settle(vec![process.guid.clone()]).await;
    }
    Ok((
        StatusCode::ACCEPTED,
        axum::Json(present(&cc, &process, command.as_deref())),
    )
        .into_response())
}

async fn stats(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    stats_one(cc, who, Which::Guid(guid)).await
}
async fn stats_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind)): Path<(String, String)>,
) -> ApiResult {
    stats_one(cc, who, Which::OfApp(app, kind)).await
}
async fn stats_one(cc: Cc, who: Principal, which: Which) -> ApiResult {
    let (process, app, _) = which.find(&mut *cc.db.read().await?, &who).await?;
    let mut resources = Vec::new();
    if app.is_started() {
        let lrps = instances::of_processes(&cc, std::slice::from_ref(&process)).await?;
        let lrps = lrps.get(&process.lrp_guid()).map_or(&[][..], Vec::as_slice);
        let used = usage::of_app(&cc, &app.guid, &who.authorization).await;
        for (index, lrp) in instances::by_index(&process, lrps) {
            let instance = lrp.as_ref().and_then(|lrp| lrp.instance_key.as_ref());
            let used = instance
                .and_then(|key| used.get(&key.instance_guid))
                .copied()
                .unwrap_or_default();
            resources.push(instances::stats(&process, index, lrp.as_ref(), used));
        }
    } else {
        for index in 0..process.instances {
            resources.push(instances::stats(
                &process,
                index,
                None,
                instances::Used::default(),
            ));
        }
    }
    Ok(ok(json!({ "resources": resources })))
}

async fn process_instances(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    instances_one(cc, who, Which::Guid(guid)).await
}
async fn instances_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind)): Path<(String, String)>,
) -> ApiResult {
    instances_one(cc, who, Which::OfApp(app, kind)).await
}
async fn instances_one(cc: Cc, who: Principal, which: Which) -> ApiResult {
    let (process, app, _) = which.find(&mut *cc.db.read().await?, &who).await?;
    let lrps = if app.is_started() {
        instances::of_processes(&cc, std::slice::from_ref(&process)).await?
    } else {
        HashMap::new()
    };
    let path = format!("/v3/processes/{}", process.guid);
    let list = if app.is_started() {
        present_instances(&process, &lrps)
    } else {
        Vec::new()
    };
    Ok(ok(
        json!({ "resources": list, "links": cc.links(&format!("{path}/process_instances"), &[("process", path)]) }),
    ))
}

async fn sidecars(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    lookup::process(&mut *cc.db.read().await?, &who, &guid).await?;
    Ok(ok(cc.short_list(uri.path(), Vec::new())))
}

async fn stop_instance(
    State(cc): State<Cc>,
    who: Principal,
    Path((guid, index)): Path<(String, String)>,
) -> ApiResult {
    stop_one(cc, who, Which::Guid(guid), index).await
}
async fn stop_instance_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind, index)): Path<(String, String, String)>,
) -> ApiResult {
    stop_one(cc, who, Which::OfApp(app, kind), index).await
}
async fn stop_one(cc: Cc, who: Principal, which: Which, index: String) -> ApiResult {
    let (process, app, access) = which.find(&mut *cc.db.read().await?, &who).await?;
    allow(access.supports())?;
    let missing = || ApiError::not_found("Instance");
    let index = index
        .parse::<i32>()
        .ok()
        .filter(|index| i64::from(*index) < process.instances && app.is_started())
        .ok_or_else(missing)?;
    let key = ActualLrpKey {
        process_guid: process.lrp_guid(),
        index,
        domain: crate::diego::recipe::APPS_DOMAIN.to_owned(),
    };
    match cc.bbs.retire(key).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Err(missing()),
        Err(error) => {
            return Err(ApiError::unavailable(format!(
                "The instance could not be stopped: {error}"
            )));
        }
    }
    let mut tx = cc.db.write().await?;
    let data = json!({ "process_guid": process.guid, "process_type": process.r#type, "process_index": index });
    audit::record(
        &mut tx,
        &who,
        "audit.app.process.terminate_instance",
        (&app.guid, "app", &app.name),
        None,
        data,
    )
    .await?;
    tx.commit().await?;
    Ok(no_content())
}
