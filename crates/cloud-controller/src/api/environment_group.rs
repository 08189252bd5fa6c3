//! The endpoints `/v3/environment_variable_groups`: the variables that all running or all staging apps get.

use super::prelude::*;
use crate::clock;
use crate::db::environment_group::{self, EnvironmentGroup};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/environment_variable_groups/{name}", show)
        .patch("/v3/environment_variable_groups/{name}", update)
        .body(&["var.*"])
}

async fn find(conn: &mut Connection, name: &str) -> ApiResult<EnvironmentGroup> {
    if name != "running" && name != "staging" {
        return Err(ApiError::not_found("Environment variable group"));
    }
    Ok(environment_group::by_name(conn, name).await?)
}

fn present(cc: &Cc, group: &EnvironmentGroup) -> Value {
    let links = cc.links(
        &format!("/v3/environment_variable_groups/{}", group.name),
        &[],
    );
    json!({ "name": group.name, "updated_at": clock::rfc3339(group.updated_at), "var": group.var.0, "links": links })
}

async fn show(State(cc): State<Cc>, _who: Principal, Path(name): Path<String>) -> ApiResult {
    Ok(ok(present(
        &cc,
        &find(&mut *cc.db.read().await?, &name).await?,
    )))
}

async fn update(
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
    let mut tx = cc.change().await?;
    let mut group = find(&mut tx, &name).await?;
    let limits = &cc.settings.limits;
    crate::actions::app::merge_variables(limits, &mut group.var.0, &var.unwrap_or_default())?;
    group.touch();
    db::update(&mut tx, &group).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &group)))
}
