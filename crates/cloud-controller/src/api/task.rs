//! The endpoints `/v3/tasks`.

use super::prelude::*;
use crate::actions::audit;
use crate::actions::task::{self as verbs, Wish};
use crate::db::app::App;
use crate::db::task::Task;
use crate::flags::Flag;
use axum::response::IntoResponse as _;
use http::StatusCode;

const FILTERS: &[&str] = &[
    "names",
    "states",
    "app_guids",
    "space_guids",
    "organization_guids",
    "sequence_ids",
];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/tasks", list)
        .lists(FILTERS)
        .get("/v3/tasks/{guid}", show)
        .patch("/v3/tasks/{guid}", update)
        .body(&["metadata"])
        .post("/v3/tasks/{guid}/actions/cancel", cancel)
        .put("/v3/tasks/{guid}/cancel", cancel)
        .post("/v3/tasks/{guid}/cancel", cancel)
        .get("/v3/apps/{guid}/tasks", of_app)
        .lists(FILTERS)
        .post("/v3/apps/{guid}/tasks", create)
        .body(&[
            "name",
            "command",
            "template.process.guid",
            "memory_in_mb",
            "disk_in_mb",
            "log_rate_limit_in_bytes_per_second",
            "droplet_guid",
            "user",
            "metadata",
        ])
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

async fn page(cc: &Cc, query: &Query, select: Scope<Task>, with_command: bool) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query.of_places(select);
    for (name, column) in [
        ("names", "name"),
        ("states", "state"),
        ("app_guids", "app_guid"),
    ] {
        select = query.filter(select, name, column);
    }
    if let Some(ids) = query.values("sequence_ids") {
        let ids: Option<Vec<i64>> = ids.iter().map(|id| id.parse().ok()).collect();
        let ids = ids.ok_or_else(|| ApiError::bad_query("Sequence ids must be integers"))?;
        select = select.any("sequence_id", ids);
    }
    let found = query.fetch(&mut conn, select).await?;
    Ok(ok(cc.page(
        query,
        found.page,
        found
            .rows
            .iter()
            .map(|row| present(cc, row, with_command))
            .collect(),
    )))
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    page(&cc, &query, who.visible(), false).await
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let found = who
        .find::<App>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    let tasks = who.visible().is("app_guid", guid);
    page(&cc, &query, tasks, found.access.reads_secrets()).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<Task>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present(&cc, &found.row, found.access.reads_secrets())))
}

async fn create(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    Flag::TaskCreation
        .must_be_on(&mut *cc.db.read().await?, &who)
        .await?;
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
    if let Some(user) = body.string("user")
        && let Err(error) = crate::actions::process::check_user(&user)
    {
        body.problem(error.to_string());
    }
    let mut metadata = db::Json::default();
    body.merge_metadata(&mut metadata)?;
    body.finish()?;
    let mut tx = cc.change().await?;
    let found = who.find::<App>(&mut tx, &guid, Right::Develop).await?;
    let (app, space) = (found.row, found.of.space);
    let mut task = verbs::create(&mut tx, &cc.settings, &app, wish).await?;
    task.metadata = metadata;
    db::update(&mut tx, &task).await?;
    let trail = audit::record(
        &mut tx,
        &who,
        "audit.app.task.create",
        (&app.guid, "app", &app.name),
        &space,
        event_data(&task),
    )
    .await?;
    tx.commit(trail).await?;
    crate::diego::task::start(&cc, &task).await;
    let mut conn = cc.db.read().await?;
    let task = who
        .find::<Task>(&mut conn, &task.guid, Right::Read)
        .await?
        .row;
    Ok((StatusCode::ACCEPTED, axum::Json(present(&cc, &task, true))).into_response())
}

/// Returns the data of a task's event, without its command, which may contain secrets.
fn event_data(task: &Task) -> Value {
    json!({
        "task_guid": task.guid,
        "request": { "name": task.name, "memory_in_mb": task.memory_in_mb, "command": "[PRIVATE DATA HIDDEN]" },
    })
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut task = who.find::<Task>(&mut tx, &guid, Right::Develop).await?.row;
    body.merge_metadata(&mut task.metadata)?;
    body.finish()?;
    task.touch();
    db::update(&mut tx, &task).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &task, true)))
}

async fn cancel(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let found = who.find::<Task>(&mut tx, &guid, Right::Support).await?;
    let (mut task, app) = (found.row, found.of.app);
    verbs::cancel(&mut tx, &mut task).await?;
    let (kind, data) = ("audit.app.task.cancel", event_data(&task));
    let trail = audit::of_app(&mut tx, &who, kind, &app, data).await?;
    tx.commit(trail).await?;
    if let Err(error) = cc.bbs.cancel_task(&guid).await {
        tracing::warn!(task = guid, %error, "task-not-cancelled");
        cc.driver.nudge().nudge();
    }
    Ok((StatusCode::ACCEPTED, axum::Json(present(&cc, &task, true))).into_response())
}
