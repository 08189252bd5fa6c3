//! The endpoints `/v3/feature_flags`. [`crate::flags`] contains what each flag switches.

use super::prelude::*;
use crate::clock;
use crate::db::feature_flag::{self, FeatureFlag};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .get("/v3/feature_flags", list)
        .lists(&["names"])
        .get("/v3/feature_flags/{name}", show)
        .patch("/v3/feature_flags/{name}", update)
        .body(&["enabled", "custom_error_message"])
}

fn present(cc: &Cc, flag: &FeatureFlag) -> Value {
    json!({
        "name": flag.name,
        "enabled": flag.enabled,
        "updated_at": (flag.updated_at != flag.created_at).then(|| clock::rfc3339(flag.updated_at)),
        "custom_error_message": flag.custom_error_message,
        "links": cc.links(&format!("/v3/feature_flags/{}", flag.name), &[]),
    })
}

async fn list(State(cc): State<Cc>, who: Principal, query: Query) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let select = query.filter(who.visible::<FeatureFlag>(), "names", "name");
    let found = query
        .fetch(&mut conn, select.ordered(&feature_flag::BY_NAME))
        .await?;
    Ok(ok(cc.page(
        &query,
        found.page,
        found.rows.iter().map(|row| present(&cc, row)).collect(),
    )))
}

async fn find(conn: &mut Connection, name: &str) -> ApiResult<FeatureFlag> {
    feature_flag::by_name(conn, name)
        .await?
        .ok_or_else(|| ApiError::not_found("Feature flag"))
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
    find(&mut *cc.db.read().await?, &name).await?;
    who.must_be_admin()?;
    let (enabled, message) = (
        body.bool("enabled"),
        body.nullable_string("custom_error_message"),
    );
    body.finish()?;
    let mut tx = cc.change().await?;
    let mut flag = find(&mut tx, &name).await?;
    flag.enabled = enabled.unwrap_or(flag.enabled);
    flag.custom_error_message = message.unwrap_or(flag.custom_error_message);
    flag.touch();
    db::update(&mut tx, &flag).await?;
    tx.commit(Unrecorded::NoSuchEvent).await?;
    Ok(ok(present(&cc, &flag)))
}
