//! The endpoints `/v3/sidecars`, and those for the sidecars of an app and of a process.

use super::prelude::*;
use crate::actions::sidecar::{self as verbs, Wish};
use crate::db::app::App;
use crate::db::process::Process;
use crate::db::sidecar::{self, Origin, Sidecar};

const KEYS: &[&str] = &["name", "command", "process_types", "memory_in_mb"];

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/apps/{guid}/sidecars", of_app)
        .lists(&[])
        .post("/v3/apps/{guid}/sidecars", create)
        .body(KEYS)
        .get("/v3/processes/{guid}/sidecars", of_process)
        .lists(&[])
        .get("/v3/sidecars/{guid}", show)
        .patch("/v3/sidecars/{guid}", update)
        .body(KEYS)
        .delete("/v3/sidecars/{guid}", remove)
}

fn present(sidecar: &Sidecar) -> Value {
    resource(
        &sidecar.guid,
        sidecar.created_at,
        sidecar.updated_at,
        json!({
            "name": sidecar.name,
            "command": sidecar.command,
            "process_types": sidecar.process_types.0,
            "memory_in_mb": sidecar.memory_in_mb,
            "origin": sidecar.origin,
            "relationships": { "app": to_one(Some(&sidecar.app_guid)) },
        }),
    )
}

async fn page(cc: &Cc, query: &Query, scope: Scope<Sidecar>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = query.fetch(&mut conn, scope).await?;
    let resources = found.rows.iter().map(present).collect();
    Ok(ok(cc.page(query, found.page, resources)))
}

async fn of_app(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    who.find::<App>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?;
    page(&cc, &query, who.visible().is("app_guid", guid)).await
}

async fn of_process(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let process = who
        .find::<Process>(&mut *cc.db.read().await?, &guid, Right::Read)
        .await?
        .row;
    let beside = who
        .visible()
        .is("app_guid", process.app_guid)
        .that(sidecar::has_type(&process.r#type));
    page(&cc, &query, beside).await
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let found = who.find::<Sidecar>(&mut conn, &guid, Right::Read).await?;
    Ok(ok(present(&found.row)))
}

/// Reads the fields of a sidecar. If it is `new`, every field but the memory must be present.
fn wish(mut body: Body, new: bool) -> ApiResult<Wish> {
    let wanted = |body: &Body, field: &str| new || body.has(field);
    let name = wanted(&body, "name").then(|| body.required_string("name"));
    let command = wanted(&body, "command").then(|| command(&mut body));
    let process_types = wanted(&body, "process_types").then(|| process_types(&mut body));
    let memory = body.int("memory_in_mb", 1..=i64::from(i32::MAX));
    let memory_in_mb = body.has("memory_in_mb").then_some(memory);
    body.finish()?;
    Ok(Wish {
        name,
        command,
        process_types,
        memory_in_mb,
    })
}

fn command(body: &mut Body) -> String {
    let text = body.string("command").unwrap_or_default();
    if text.is_empty() && body.value("command").is_none_or(|value| !is_wrong(value)) {
        body.problem("Command can't be blank");
    } else if text.chars().count() > 4096 {
        body.problem("Command is too long (maximum is 4096 characters)");
    }
    text
}

/// Returns whether the value is no string; the error was already noted in that case.
fn is_wrong(value: &Value) -> bool {
    !value.is_string() && !value.is_null()
}

fn process_types(body: &mut Body) -> Vec<String> {
    let types = match body.value("process_types") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => serde_json::from_value::<Vec<String>>(value.clone()).ok(),
    };
    match types {
        None => body.problem("Process types must be an array of strings"),
        Some(types) if types.is_empty() => {
            body.problem("Process types must have at least 1 process_type");
        }
        Some(types) => return types,
    }
    Vec::new()
}

async fn create(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let app = who.find::<App>(&mut tx, &guid, Right::Develop).await?.row;
    let sidecar = verbs::create(
        &mut tx,
        &cc.settings.limits,
        &app,
        wish(body, true)?,
        Origin::User,
    )
    .await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(created(present(&sidecar)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut sidecar = who
        .find::<Sidecar>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
    verbs::update(&mut tx, &mut sidecar, wish(body, false)?).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&sidecar)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let sidecar = who
        .find::<Sidecar>(&mut tx, &guid, Right::Develop)
        .await?
        .row;
    db::delete::<Sidecar>(&mut tx, &sidecar.guid).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(no_content())
}
