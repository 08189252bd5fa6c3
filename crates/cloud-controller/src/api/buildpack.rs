//! The endpoints `/v3/buildpacks`: the built-in buildpacks.

use super::prelude::*;
use crate::actions::audit::{self, Place};
use crate::db::buildpack::{self, Buildpack};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/buildpacks", list)
        .lists(&["names", "stacks", "lifecycle"])
        .post("/v3/buildpacks", no_new)
        .raw()
        .get("/v3/buildpacks/{guid}", show)
        .patch("/v3/buildpacks/{guid}", update)
        .body(&["name", "position", "enabled", "locked", "metadata"])
        .delete("/v3/buildpacks/{guid}", no_delete)
}

fn present(cc: &Cc, buildpack: &Buildpack) -> Value {
    let path = format!("/v3/buildpacks/{}", buildpack.guid);
    let links = cc.links(&path, &[]);
    resource(
        &buildpack.guid,
        buildpack.created_at,
        buildpack.updated_at,
        json!({
            "name": buildpack.name,
            "stack": buildpack.stack,
            "state": "READY",
            "filename": buildpack.filename,
            "position": buildpack.position,
            "enabled": buildpack.enabled,
            "locked": buildpack.locked,
            "lifecycle": "buildpack",
            "metadata": buildpack.metadata.0.present(),
            "links": links,
        }),
    )
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query
        .filter(
            query.filter(who.visible::<Buildpack>(), "names", "name"),
            "stacks",
            "stack",
        )
        .ordered(&buildpack::BY_POSITION);
    if query
        .values("lifecycle")
        .is_some_and(|wanted| !wanted.iter().any(|lifecycle| lifecycle == "buildpack"))
    {
        select = select.that(db::Condition::never());
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
    let buildpack = who
        .find::<Buildpack>(&mut conn, &guid, Right::Read)
        .await?
        .row;
    Ok(ok(present(&cc, &buildpack)))
}

async fn update(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.change().await?;
    let mut buildpack = who
        .find::<Buildpack>(&mut tx, &guid, Right::Admin)
        .await?
        .row;
    if body
        .string("name")
        .is_some_and(|name| name != buildpack.name)
    {
        body.problem("Name of a built-in buildpack cannot be changed");
    }
    buildpack.position = body.int("position", 1..=1000).unwrap_or(buildpack.position);
    buildpack.enabled = body.bool("enabled").unwrap_or(buildpack.enabled);
    buildpack.locked = body.bool("locked").unwrap_or(buildpack.locked);
    body.merge_metadata(&mut buildpack.metadata)?;
    body.finish()?;
    buildpack.touch();
    db::update(&mut tx, &buildpack).await?;
    let target = (guid.as_str(), "buildpack", buildpack.name.as_str());
    let kind = "audit.buildpack.update";
    let trail = audit::record(&mut tx, &who, kind, target, Place::Platform, json!({})).await?;
    tx.commit(trail).await?;
    Ok(ok(present(&cc, &buildpack)))
}

async fn no_new(who: Principal) -> ApiResult {
    who.must_be_admin()?;
    Err(ApiError::unprocessable(
        "Only the built-in buildpacks are available; uploading others is not supported yet (see 'cf buildpacks')",
    ))
}

async fn no_delete(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    who.find::<Buildpack>(&mut *cc.db.read().await?, &guid, Right::Admin)
        .await?;
    Err(ApiError::unprocessable(
        "Built-in buildpacks cannot be deleted; disable one instead",
    ))
}
