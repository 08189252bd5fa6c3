//! Manifests: applying one to a space, comparing one with the present state, and generating the manifest of an app.

use super::guard::Yaml;
use super::prelude::*;
use crate::actions::{self, job};
use crate::db::app::{self, App};
use crate::db::space::Space;
use crate::jobs;
use axum::response::IntoResponse as _;
use cc_rules::manifest;
use http::{HeaderMap, header};

pub(super) fn routes() -> Endpoints {
    Endpoints::default()
        .post("/v3/spaces/{guid}/actions/apply_manifest", apply)
        .raw()
        .post("/v3/spaces/{guid}/manifest_diff", diff)
        .raw()
        .get("/v3/apps/{guid}/manifest", show)
}

fn must_be_yaml(headers: &HeaderMap) -> ApiResult<()> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if kind.contains("yaml") {
        Ok(())
    } else {
        Err(ApiError::bad_request("Content-Type must be yaml"))
    }
}

async fn apply(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    headers: HeaderMap,
    Yaml(body): Yaml,
) -> ApiResult {
    must_be_yaml(&headers)?;
    let parsed = manifest::parse(&cc.settings.limits, &body);
    {
        let mut conn = cc.db.read().await?;
        who.find::<Space>(&mut conn, &guid, Right::Develop).await?;
    }
    // Problems that do not depend on the space are reported at once, before any app is changed.
    parsed?;
    let keys = &cc.settings.keys;
    let input = actions::manifest::input(keys, &guid, &body, who.is_admin())?;
    let mut tx = cc.change().await?;
    who.find::<Space>(&mut tx, &guid, Right::Develop).await?;
    let space = ("spaces", guid.as_str());
    let job = job::enqueue_with(&mut tx, &who, job::APPLY_MANIFEST, space, Some(input)).await?;
    tx.commit(Unrecorded::ByJob).await?;
    jobs::wait(&cc, &job).await;
    Ok(cc.accepted(&job))
}

async fn diff(
    State(cc): State<Cc>,
    who: Principal,
    Path(guid): Path<String>,
    headers: HeaderMap,
    Yaml(body): Yaml,
) -> ApiResult {
    must_be_yaml(&headers)?;
    let mut conn = cc.db.read().await?;
    // A difference shows values of the environment, so that it needs the right to write them.
    who.find::<Space>(&mut conn, &guid, Right::Develop).await?;
    let manifests = manifest::parse(&cc.settings.limits, &body)?;
    let posted = manifest::read(&body)?;
    let mut current = serde_json::Map::new();
    for manifest in &manifests {
        if let Some(app) = app::by_name(&mut conn, &guid, &manifest.name).await? {
            let keys = &cc.settings.keys;
            let entry = actions::manifest::generate(&mut conn, keys, &app).await?;
            current.insert(manifest.name.clone(), entry);
        }
    }
    Ok(created(
        json!({ "diff": manifest::diff(&posted, &current) }),
    ))
}

async fn show(State(cc): State<Cc>, who: Principal, Path(guid): Path<String>) -> ApiResult {
    let mut conn = cc.db.read().await?;
    let app = who
        .find::<App>(&mut conn, &guid, Right::ReadSecrets)
        .await?
        .row;
    let entry = actions::manifest::generate(&mut conn, &cc.settings.keys, &app).await?;
    let manifest = json!({ "applications": [entry] });
    let yaml = yaml_serde::to_string(&manifest).map_err(anyhow::Error::from)?;
    Ok((
        [(header::CONTENT_TYPE, "application/x-yaml")],
        format!("---\n{yaml}"),
    )
        .into_response())
}
