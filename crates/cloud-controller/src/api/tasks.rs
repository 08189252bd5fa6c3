//! `/v3/tasks`

use super::organizations::merge_metadata;
use super::packages::of_places;
use super::prelude::*;
use crate::actions::audit;
use crate::actions::task::{self as verbs, Wish};
use crate::db::task::Task;
use axum::response::IntoResponse as _;
use axum::routing::put;
use http::StatusCode;

pub(super) fn routes() -> Router<Cc> {
    Router::new()
        .route("/v3/tasks", get(list))
        .route("/v3/tasks/{guid}", get(show).patch(update))
        .route("/v3/tasks/{guid}/actions/cancel", post(cancel))
        .route("/v3/tasks/{guid}/cancel", put(cancel).post(cancel))
        .route("/v3/apps/{guid}/tasks", get(of_app).post(create))
}

fn present(cc: &Cc, task: &Task, with_command: bool) -> Value {
    let path = format!("/v3/tasks/{}", task.guid);
    let mut links = cc.links(
        &path,
        &[
            ("app", format!("/v3/apps/{}", task.app_guid)),
            ("droplet", format!("/v3/droplets/{}", task.droplet_guid)),
        ],
    );
    links.insert(
        "cancel".to_owned(),
        cc.post_link(&format!("{path}/actions/cancel")),
    );
    let mut json = resource(
        &task.guid,
        task.created_at,
        task.updated_at,
        json!({
            "sequence_id": task.sequence_id,
            "name": task.name,
            "state": task.state,
            "user": "vcap",
            "memory_in_mb": task.memory_in_mb,
            "disk_in_mb": task.disk_in_mb,
            "log_rate_limit_in_bytes_per_second": task.log_rate_limit,
            "result": { "failure_reason": task.failure_reason },
            "droplet_guid": task.droplet_guid,
            "relationships": { "app": to_one(Some(&task.app_guid)) },
            "metadata": task.metadata.0.present(),
            "links": links,
        }),
    );
    if with_command {
        json["command"] = json!(task.command);
    }
    json
}

async fn page(cc: &Cc, uri: &Uri, select: Select, with_command: bool) -> ApiResult {
    let query = Query::list(
        uri,
        &[
            "names",
            "states",
            "app_guids",
            "space_guids",
            "organization_guids",
            "sequence_ids",
        ],
    )?;
    let mut conn = cc.db.read().await?;
    let mut select = of_places(&query, select);
    for (name, column) in [
        ("names", "name"),
        ("states", "state"),
        ("app_guids", "app_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    if let Some(ids) = query.values("sequence_ids") {
        select = select.any(
            "sequence_id",
            ids.iter().filter_map(|id| id.parse::<i64>().ok()),
        );
    }
    let found = query.fetch::<Task>(&mut conn, select).await?;
    Ok(ok(cc.page(
        &query,
        found.total,
        found
            .rows
            .iter()
            .map(|row| present(cc, row, with_command))
            .collect(),
    )))
}

async fn list(State(cc): State<Cc>, who: Principal, uri: Uri) -> ApiResult {
    page(&cc, &uri, who.sees_apps(Select::new(), "app_guid"), false).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    uri: Uri,
) -> ApiResult {
    let (_, _, access) = lookup::app(&mut *cc.db.read().await?, &who, &guid).await?;
    page(
        &cc,
        &uri,
        Select::new().is("app_guid", guid),
        access.reads_secrets(),
    )
    .await
}

async fn find(
    conn: &mut Connection,
    who: &Principal,
    guid: &str,
) -> ApiResult<(Task, crate::auth::Access)> {
    let task: Task = lookup::row(conn, guid, "Task").await?;
    let (_, _, access) = lookup::of_app(conn, who, &task.app_guid, "Task").await?;
    Ok((task, access))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let (task, access) = find(&mut conn, &who, &guid).await?;
    Ok(ok(present(&cc, &task, access.reads_secrets())))
}

async fn create(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let known = [
        "name",
        "command",
        "template",
        "memory_in_mb",
        "disk_in_mb",
        "log_rate_limit_in_bytes_per_second",
        "droplet_guid",
        "user",
        "metadata",
    ];
    let mut body = body.allow(&known);
    let most = i64::from(i32::MAX);
    let wish = Wish {
        name: body.string("name"),
        command: body.string("command"),
        template_process: body
            .at("template.process.guid")
            .and_then(Value::as_str)
            .map(str::to_owned),
        memory_in_mb: body.int("memory_in_mb", 1..=most),
        disk_in_mb: body.int("disk_in_mb", 1..=most),
        log_rate_limit: body.int("log_rate_limit_in_bytes_per_second", -1..=i64::MAX),
        droplet_guid: body.string("droplet_guid"),
    };
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let (app, space, access) = lookup::app(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    if !who.is_admin() {
        super::platform::must_be_on(&mut tx, "task_creation").await?;
    }
    let task = verbs::create(&mut tx, &app, wish).await?;
    audit::record(
        &mut tx,
        &who,
        "audit.app.task.create",
        (&app.guid, "app", &app.name),
        Some(&space),
        json!({ "task_guid": task.guid }),
    )
    .await?;
    tx.commit().await?;
    crate::diego::task::start(&cc, &task).await;
    let task: Task = lookup::row(&mut *cc.db.read().await?, &task.guid, "Task").await?;
    Ok((StatusCode::ACCEPTED, axum::Json(present(&cc, &task, true))).into_response())
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let body = body.allow(&["metadata"]);
    let mut tx = cc.db.write().await?;
    let (mut task, access) = find(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    merge_metadata(&body, &mut task.metadata)?;
    body.finish()?;
    task.touch();
    db::update(&mut tx, &task).await?;
    tx.commit().await?;
    Ok(ok(present(&cc, &task, true)))
}

async fn cancel(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.db.write().await?;
    let (mut task, access) = find(&mut tx, &who, &guid).await?;
    allow(access.develops())?;
    verbs::cancel(&mut tx, &mut task).await?;
    tx.commit().await?;
    if let Err(error) = cc.bbs.cancel_task(&guid).await {
        tracing::warn!(task = guid, %error, "task-not-cancelled");
        cc.driver.nudge().nudge();
    }
    Ok((StatusCode::ACCEPTED, axum::Json(present(&cc, &task, true))).into_response())
}
