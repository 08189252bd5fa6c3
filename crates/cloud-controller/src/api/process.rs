//! The endpoints `/v3/processes`, and an app's processes by type.

use super::prelude::*;
use crate::actions::audit;
use crate::actions::process::{self as verbs, Wish};
use crate::db::app::App;
use crate::db::process::{self, CheckType, HealthCheck, Process};
use crate::diego::{instances, usage};
use crate::flags::Flag;
use axum::response::IntoResponse as _;
use http::StatusCode;
use std::collections::{HashMap, HashSet};
use wire::bbs::{ActualLrp, ActualLrpKey};

const FILTERS: &[&str] = &[
    "types",
    "app_guids",
    "space_guids",
    "organization_guids",
    "embed",
];

const KEYS: &[&str] = &[
    "command",
    "user",
    "health_check.type",
    "health_check.data.timeout",
    "health_check.data.invocation_timeout",
    "health_check.data.interval",
    "health_check.data.endpoint",
    "readiness_health_check.type",
    "readiness_health_check.data.invocation_timeout",
    "readiness_health_check.data.interval",
    "readiness_health_check.data.endpoint",
    "metadata",
];

const SCALE: &[&str] = &[
    "instances",
    "memory_in_mb",
    "disk_in_mb",
    "log_rate_limit_in_bytes_per_second",
];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/processes", list)
        .lists(FILTERS)
        .get("/v3/processes/{guid}", show)
        .takes(&["embed"])
        .patch("/v3/processes/{guid}", update)
        .body(KEYS)
        .get("/v3/processes/{guid}/stats", stats)
        .get("/v3/processes/{guid}/process_instances", process_instances)
        .post("/v3/processes/{guid}/actions/scale", scale)
        .body(SCALE)
        .delete("/v3/processes/{guid}/instances/{index}", stop_instance)
        .get("/v3/apps/{guid}/processes", of_app)
        .lists(FILTERS)
        .get("/v3/apps/{guid}/processes/{type}", show_of_app)
        .takes(&["embed"])
        .patch("/v3/apps/{guid}/processes/{type}", update_of_app)
        .body(KEYS)
        .get("/v3/apps/{guid}/processes/{type}/stats", stats_of_app)
        .get(
            "/v3/apps/{guid}/processes/{type}/process_instances",
            instances_of_app,
        )
        .post(
            "/v3/apps/{guid}/processes/{type}/actions/scale",
            scale_of_app,
        )
        .body(SCALE)
        .delete(
            "/v3/apps/{guid}/processes/{type}/instances/{index}",
            stop_instance_of_app,
        )
}

/// Presents a process. `command` is the text that is shown as its command; lists hide it.
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
    if check.r#type == CheckType::Http {
        data["endpoint"] = json!(check.endpoint);
    }
    json!({ "type": check.r#type, "data": data })
}

/// Returns the user's command, or else the droplet's.
async fn command(conn: &mut Connection, app: &App, process: &Process) -> ApiResult<Option<String>> {
    if let Some(command) = process
        .command
        .clone()
        .filter(|command| !command.is_empty())
    {
        return Ok(Some(command));
    }
    let droplet = db::droplet::current(conn, app).await?;
    Ok(droplet.and_then(|droplet| droplet.process_types.0.get(&process.r#type).cloned()))
}

/// Returns whether the request contains `embed=process_instances`.
fn embeds(query: &Query) -> ApiResult<bool> {
    let embed = query.values("embed").unwrap_or_default();
    match embed.iter().find(|what| *what != "process_instances") {
        None => Ok(!embed.is_empty()),
        Some(other) => Err(ApiError::bad_query(format!(
            "Invalid embed: '{other}'. Valid embeds are: 'process_instances'"
        ))),
    }
}

async fn page(cc: &Cc, who: &Principal, query: &Query, select: Scope<Process>) -> ApiResult {
    let embeds = embeds(query)?;
    let found = {
        let mut conn = cc.db.read().await?;
        let mut select = query.filter(
            query.filter(select, "types", "type"),
            "app_guids",
            "app_guid",
        );
        select = query.of_places(select);
        query.fetch(&mut conn, select).await?
    };
    let hidden = "[PRIVATE DATA HIDDEN IN LISTS]";
    let mut resources: Vec<Value> = found
        .rows
        .iter()
        .map(|row| present(cc, row, row.command.as_ref().map(|_| hidden)))
        .collect();
    if embeds {
        let started = started(cc, who, &found.rows).await?;
        let lrps = instances::of_processes(cc, &started).await?;
        for (process, json) in found.rows.iter().zip(&mut resources) {
            json["process_instances"] = json!(present_instances(process, &lrps));
        }
    }
    Ok(ok(cc.page(query, found.page, resources)))
}

async fn started(cc: &Cc, who: &Principal, processes: &[Process]) -> ApiResult<Vec<Process>> {
    let guids = processes.iter().map(|process| &process.app_guid);
    let apps = who.visible::<App>().any("guid", guids);
    let apps = apps.all(&mut *cc.db.read().await?).await?;
    let running: HashSet<String> = apps
        .into_iter()
        .filter(App::is_started)
        .map(|app| app.guid)
        .collect();
    Ok(processes
        .iter()
        .filter(|process| running.contains(&process.app_guid))
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
    page(&cc, &who, &query, who.visible().is("app_guid", guid)).await
}

/// The process of a request: by its own guid, or as the newest of an app's type.
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
        right: Right,
    ) -> ApiResult<Found<Process>> {
        let guid = match self {
            Self::Guid(guid) => guid.clone(),
            Self::OfApp(app, kind) => {
                let app = who.find::<App>(conn, app, Right::Read).await?.row;
                let process = process::of_type(conn, &app.guid, kind).await?;
                process.ok_or_else(|| ApiError::not_found("Process"))?.guid
            }
        };
        who.find(conn, &guid, right).await
    }
}

async fn show(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    show_one(cc, who, Which::Guid(guid), query).await
}
async fn show_of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path((app, kind)): Path<(String, String)>,
    query: Query,
) -> ApiResult {
    show_one(cc, who, Which::OfApp(app, kind), query).await
}
async fn show_one(cc: Cc, who: Principal, which: Which, query: Query) -> ApiResult {
    let embeds = embeds(&query)?;
    let (mut json, process, app) = {
        let mut conn = cc.db.read().await?;
        let found = which.find(&mut conn, &who, Right::Read).await?;
        let command = command(&mut conn, &found.of.app, &found.row).await?;
        let shown = if found.access.reads_secrets() {
            command.as_deref()
        } else {
            Some("[PRIVATE DATA HIDDEN]")
        };
        (present(&cc, &found.row, shown), found.row, found.of.app)
    };
    if embeds {
        json["process_instances"] = json!(instances_now(&cc, &app, &process).await?);
    }
    Ok(ok(json))
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
async fn update_one(cc: Cc, who: Principal, which: Which, mut body: Body) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = which.find(&mut tx, &who, Right::Support).await?;
    let (mut process, app, space) = (found.row, found.of.app, found.of.space);
    let check = |json: Option<&Value>, before: &HealthCheck, readiness| {
        json.map(|json| verbs::health_check(before, json, readiness))
            .transpose()
    };
    let wish = Wish {
        command: body.nullable_string("command"),
        user: body.nullable_string("user"),
        health_check: check(body.value("health_check"), &process.health_check.0, false)?,
        readiness: check(
            body.value("readiness_health_check"),
            &process.readiness_health_check.0,
            true,
        )?,
        ..Wish::default()
    };
    body.merge_metadata(&mut process.metadata)?;
    let mut request = Value::Object(body.finish()?);
    if request.get("command").is_some() {
        request["command"] = json!("[PRIVATE DATA HIDDEN]");
    }
    verbs::change(&mut tx, &cc.settings, &app, &mut process, wish).await?;
    let command = command(&mut tx, &app, &process).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.process.update",
        (&app.guid, "app", &app.name),
        &space,
        json!({ "process_guid": process.guid, "process_type": process.r#type, "request": request }),
    )
    .await?;
    tx.commit(trail).await?;
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
async fn scale_one(cc: Cc, who: Principal, which: Which, mut body: Body) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = which.find(&mut tx, &who, Right::Support).await?;
    let (mut process, app, space) = (found.row, found.of.app, found.of.space);
    Flag::AppScaling.must_be_on(&mut tx, &who).await?;
    let most = i64::from(i32::MAX);
    let wish = Wish {
        instances: body.int("instances", 0..=most),
        memory_in_mb: body.int("memory_in_mb", 1..=most),
        disk_in_mb: body.int("disk_in_mb", 1..=most),
        log_rate_limit: body.int("log_rate_limit_in_bytes_per_second", -1..=i64::MAX),
        ..Wish::default()
    };
    let request = Value::Object(body.finish()?);
    if process.r#type == "web"
        && db::deployment::active_of_app(&mut tx, &app.guid)
            .await?
            .is_some()
    {
        return Err(ApiError::unprocessable(
            "Cannot scale this process while a deployment is in flight.",
        ));
    }
    verbs::change(&mut tx, &cc.settings, &app, &mut process, wish).await?;
    let data =
        json!({ "process_guid": process.guid, "process_type": process.r#type, "request": request });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.process.scale",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    let command = command(&mut tx, &app, &process).await?;
    tx.log_to_app(
        &app.guid,
        format!("Updated app with guid {} ({request})", app.guid),
    );
    tx.commit(trail).await?;
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
    let found = which
        .find(&mut *cc.db.read().await?, &who, Right::Read)
        .await?;
    let (process, app) = (found.row, found.of.app);
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

async fn instances_now(cc: &Cc, app: &App, process: &Process) -> ApiResult<Vec<Value>> {
    // Every instance of a stopped app is down.
    let lrps = if app.is_started() {
        instances::of_processes(cc, std::slice::from_ref(process)).await?
    } else {
        HashMap::new()
    };
    Ok(present_instances(process, &lrps))
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
    let found = which
        .find(&mut *cc.db.read().await?, &who, Right::Read)
        .await?;
    let list = instances_now(&cc, &found.of.app, &found.row).await?;
    let path = format!("/v3/processes/{}", found.row.guid);
    Ok(ok(
        json!({ "resources": list, "links": cc.links(&format!("{path}/process_instances"), &[("process", path)]) }),
    ))
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
    let found = which
        .find(&mut *cc.db.read().await?, &who, Right::Support)
        .await?;
    let (process, app, space) = (found.row, found.of.app, found.of.space);
    let missing = || ApiError::not_found("Instance");
    let index = index
        .parse::<i32>()
        .ok()
        .filter(|index| (0..process.instances).contains(&i64::from(*index)) && app.is_started())
        .ok_or_else(missing)?;
    let key = ActualLrpKey {
        process_guid: process.lrp_guid(),
        index,
        domain: cc_rules::recipe::APPS_DOMAIN.to_owned(),
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
    let mut tx = cc.change().await?;
    let data = json!({ "process_guid": process.guid, "process_type": process.r#type, "process_index": index });
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.process.terminate_instance",
        (&app.guid, "app", &app.name),
        &space,
        data,
    )
    .await?;
    tx.commit(trail).await?;
    Ok(no_content())
}
