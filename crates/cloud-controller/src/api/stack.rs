//! The endpoints `/v3/stacks`: names of root file systems. A cell runs only the stacks with which it is configured; others are
//! just names.

use super::prelude::*;
use crate::actions::audit::{self, Place};
use crate::actions::stack as verbs;
use crate::db::app::App;
use crate::db::stack::Stack;

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/stacks", list)
        .lists(&["names", "default"])
        .post("/v3/stacks", create)
        .body(&["name", "description", "metadata"])
        .get("/v3/stacks/{guid}", show)
        .patch("/v3/stacks/{guid}", update)
        .body(&["metadata"])
        .delete("/v3/stacks/{guid}", remove)
        .get("/v3/stacks/{guid}/apps", apps)
        .lists(&[
            "names",
            "organization_guids",
            "space_guids",
            "lifecycle_type",
        ])
}

fn present(cc: &Cc, stack: &Stack) -> Value {
    let path = format!("/v3/stacks/{}", stack.guid);
    let links = [("apps", format!("{path}/apps"))];
    resource(
        &stack.guid,
        stack.created_at,
        stack.updated_at,
        json!({
            "name": stack.name,
            "description": stack.description,
            "state": "ACTIVE",
            "default": stack.is_default,
            "build_rootfs_image": stack.name,
            "run_rootfs_image": stack.name,
            "metadata": stack.metadata.0.present(),
            "links": cc.links(&path, &links),
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query.filter(who.visible::<Stack>(), "names", "name");
    if let Some(default) = query.flag("default")? {
        select = select.is("is_default", i64::from(default));
    }
    let found = query.fetch(&mut conn, select).await?;
    let resources = found.rows.iter().map(|row| present(&cc, row)).collect();
    Ok(ok(cc.page(&query, found.page, resources)))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let stack = who.find::<Stack>(&mut conn, &guid, Right::Read).await?.row;
    Ok(ok(present(&cc, &stack)))
}

async fn record(
    conn: &mut Connection,
    who: &Principal,
    verb: &str,
    stack: &Stack,
    data: Value,
) -> ApiResult<db::Trail> {
    let target = (stack.guid.as_str(), "stack", stack.name.as_str());
    let kind = format!("audit.stack.{verb}");
    audit::record(conn, who, &kind, target, Place::Platform, data).await
}

async fn create(State(cc): State<Cc>, who: Principal, mut body: Body) -> ApiResult {
    who.must_be_admin()?;
    let mut stack = Stack {
        name: body.required_string("name"),
        description: body.string("description").unwrap_or_default(),
        ..Stack::fresh()
    };
    if stack.description.chars().count() > 250 {
        body.problem("Description is too long (maximum is 250 characters)");
    }
    body.merge_metadata(&mut stack.metadata)?;
    let request = Value::Object(body.finish()?);
    let mut tx = cc.change().await?;
    verbs::create(&mut tx, &stack).await?;
    let data = json!({ "request": request });
    let trail = record(&mut tx, &who, "create", &stack, data).await?;
    tx.commit(trail).await?;
    Ok(created(present(&cc, &stack)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut stack = who.find::<Stack>(&mut tx, &guid, Right::Admin).await?.row;
    body.merge_metadata(&mut stack.metadata)?;
    let request = Value::Object(body.finish()?);
    stack.touch();
    db::update(&mut tx, &stack).await?;
    let data = json!({ "request": request });
    let trail = record(&mut tx, &who, "update", &stack, data).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &stack)))
}

async fn remove(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut tx = cc.change().await?;
    let stack = who.find::<Stack>(&mut tx, &guid, Right::Admin).await?.row;
    verbs::delete(&mut tx, &stack).await?;
    let trail = record(&mut tx, &who, "delete", &stack, json!({})).await?;
    tx.commit(trail).await?;
    Ok(no_content())
}

async fn apps(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    query: Query,
) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let stack = who.find::<Stack>(&mut conn, &guid, Right::Read).await?.row;
    let mut select = who.visible::<App>().that(db::app::has_stack(&stack.name));
    for (name, column) in [
        ("names", "name"),
        ("space_guids", "space_guid"),
        ("lifecycle_type", "lifecycle_type"),
    ] {
        select = query.filter(select, name, column);
    }
    select = query.filter_by(select, "organization_guids", db::space::OF_ORGANIZATIONS);
    let found = query.fetch(&mut conn, select).await?;
    let resources = found
        .rows
        .iter()
        .map(|row| super::app::present(&cc, row))
        .collect();
    Ok(ok(cc.page(&query, found.page, resources)))
}
