//! Buildpacks, feature flags, environment variable groups.

use super::organizations::merge_metadata;
use super::prelude::*;
use crate::actions::audit::{self, Place};
use crate::clock;
use crate::db::platform::{self, Buildpack, EnvironmentGroup, FeatureFlag};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/buildpacks", buildpacks)
        .lists(&["names", "stacks", "lifecycle"])
        .post("/v3/buildpacks", no_new_buildpack)
        .raw()
        .get("/v3/buildpacks/{guid}", buildpack)
        .patch("/v3/buildpacks/{guid}", update_buildpack)
        .body(&["name", "position", "enabled", "locked", "metadata"])
        .delete("/v3/buildpacks/{guid}", no_buildpack_delete)
        .get("/v3/feature_flags", flags)
        .lists(&["names"])
        .get("/v3/feature_flags/{name}", flag)
        .patch("/v3/feature_flags/{name}", set_flag)
        .body(&["enabled", "custom_error_message"])
        .get("/v3/environment_variable_groups/{name}", group)
        .patch("/v3/environment_variable_groups/{name}", set_group)
        .body(&["var.*"])
}

fn present_buildpack(cc: &Cc, buildpack: &Buildpack) -> Value {
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

async fn buildpacks(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let mut select = query
        .filter(
            query.filter(who.visible::<Buildpack>(), "names", "name"),
            "stacks",
            "stack",
        )
        .ordered(&platform::BUILDPACKS_BY_POSITION);
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
        found
            .rows
            .iter()
            .map(|row| present_buildpack(&cc, row))
            .collect(),
    )))
}

async fn buildpack(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let buildpack = who
        .find::<Buildpack>(&mut conn, &guid, Right::Read)
        .await?
        .row;
    Ok(ok(present_buildpack(&cc, &buildpack)))
}

async fn update_buildpack(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    mut body: Body,
) -> ApiResult {
    let mut tx = cc.db.write().await?;
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
    merge_metadata(&body, &mut buildpack.metadata)?;
    body.finish()?;
    buildpack.touch();
    db::update(&mut tx, &buildpack).await?;
    let target = (guid.as_str(), "buildpack", buildpack.name.as_str());
    let kind = "audit.buildpack.update";
    let trail = audit::record(&mut tx, &who, kind, target, Place::Platform, json!({})).await?;
    tx.commit(trail).await?;
    Ok(ok(present_buildpack(&cc, &buildpack)))
}

async fn no_new_buildpack(who: Principal) -> ApiResult {
    who.must_be_admin()?;
    Err(ApiError::unprocessable(
        "Only the built-in buildpacks are available; uploading others is not supported yet (see 'cf buildpacks')",
    ))
}

async fn no_buildpack_delete(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
) -> ApiResult {
    who.find::<Buildpack>(&mut *cc.db.read().await?, &guid, Right::Admin)
        .await?;
    Err(ApiError::unprocessable(
        "Built-in buildpacks cannot be deleted; disable one instead",
    ))
}

fn present_flag(cc: &Cc, flag: &FeatureFlag) -> Value {
    json!({
        "name": flag.name,
        "enabled": flag.enabled,
        "updated_at": (flag.updated_at != flag.created_at).then(|| clock::rfc3339(flag.updated_at)),
        "custom_error_message": flag.custom_error_message,
        "links": cc.links(&format!("/v3/feature_flags/{}", flag.name), &[]),
    })
}

async fn flags(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.visible::<FeatureFlag>(), "names", "name");
    let found = query
        .fetch(&mut conn, select.ordered(&platform::FLAGS_BY_NAME))
        .await?;
    Ok(ok(cc.page(
        &query,
        found.page,
        found
            .rows
            .iter()
            .map(|row| present_flag(&cc, row))
            .collect(),
    )))
}

async fn find_flag(conn: &mut Connection, name: &str) -> ApiResult<FeatureFlag> {
    platform::flag(conn, name)
        .await?
        .ok_or_else(|| ApiError::not_found("Feature flag"))
}

async fn flag(State(cc): State<Cc>, _who: Principal, Path(name): Path<String>) -> ApiResult {
    Ok(ok(present_flag(
        &cc,
        &find_flag(&mut *cc.db.read().await?, &name).await?,
    )))
}

async fn set_flag(
    State(cc): State<Cc>,
    who: Principal,
    Path(name): Path<String>,
    mut body: Body,
) -> ApiResult {
    find_flag(&mut *cc.db.read().await?, &name).await?;
    who.must_be_admin()?;
    let (enabled, message) = (
        body.bool("enabled"),
        body.nullable_string("custom_error_message"),
    );
    body.finish()?;
    let mut tx = cc.db.write().await?;
    let mut flag = find_flag(&mut tx, &name).await?;
    flag.enabled = enabled.unwrap_or(flag.enabled);
    flag.custom_error_message = message.unwrap_or(flag.custom_error_message);
    flag.touch();
    db::update(&mut tx, &flag).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present_flag(&cc, &flag)))
}

async fn find_group(conn: &mut Connection, name: &str) -> ApiResult<EnvironmentGroup> {
    if name != "running" && name != "staging" {
        return Err(ApiError::not_found("Environment variable group"));
    }
    Ok(platform::environment_group(conn, name).await?)
}

fn present_group(cc: &Cc, group: &EnvironmentGroup) -> Value {
    let links = cc.links(
        &format!("/v3/environment_variable_groups/{}", group.name),
        &[],
    );
    json!({ "name": group.name, "updated_at": clock::rfc3339(group.updated_at), "var": group.var.0, "links": links })
}

async fn group(State(cc): State<Cc>, _who: Principal, Path(name): Path<String>) -> ApiResult {
    Ok(ok(present_group(
        &cc,
        &find_group(&mut *cc.db.read().await?, &name).await?,
    )))
}

async fn set_group(
    State(cc): State<Cc>,
    who: Principal,
    Path(name): Path<String>,
    mut body: Body,
) -> ApiResult {
    let var = body.value("var").and_then(Value::as_object).cloned();
    if var.is_none() {
        body.problem("Var must be an object");
    }
    body.finish()?;
    who.must_be_admin()?;
    let mut tx = cc.db.write().await?;
    let mut group = find_group(&mut tx, &name).await?;
    let mut app = db::app::App {
        environment: group.var.clone(),
        ..db::app::App::default()
    };
    crate::actions::app::set_environment(&cc.settings.limits, &mut app, &var.unwrap_or_default())?;
    group.var = app.environment;
    group.touch();
    db::update(&mut tx, &group).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present_group(&cc, &group)))
}
