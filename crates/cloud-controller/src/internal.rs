//! The internal mTLS listener: callbacks of the BBS, downloads and uploads of the cells, the network policies for the cells,
//! stored routes for operators, and the log drains of apps.

use crate::bits::store::Kind;
use crate::controller::Cc;
use crate::db;
use crate::db::droplet::{Droplet, DropletState};
use crate::db::package::Package;
use crate::diego::{staging, task};
use crate::error::{ApiError, ApiResult};
use crate::request_id;
use crate::transfer::{Sink, blocking, send_blob};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt as _;
use http::{StatusCode, header};
use serde_json::json;
use wire::bbs::TaskCallback;
use wire::cc::internal_path as path;

pub(crate) fn router(cc: Cc) -> Router {
    Router::new()
        .route(path::BUILD_COMPLETED, post(build_completed))
        .route(path::TASK_COMPLETED, post(task_completed))
        .route(path::PACKAGE_DOWNLOAD, get(download_package))
        .route(
            path::DROPLET_UPLOAD,
            post(upload_droplet).put(upload_droplet),
        )
        .route(path::DROPLET_DOWNLOAD, get(download_droplet))
        .route(path::LIFECYCLE, get(lifecycle))
        .route(path::POLICIES, get(crate::api::network_policy::internal))
        .route(path::STORED_ROUTE, get(crate::api::why::internal))
        .route(path::SYSLOG_DRAINS, get(crate::api::syslog_drain::internal))
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn(request_id::keep))
        .with_state(cc)
}

async fn build_completed(
    State(cc): State<Cc>,
    Path(guid): Path<String>,
    Json(callback): Json<TaskCallback>,
) -> ApiResult {
    staging::completed(&cc, &guid, &callback).await?;
    Ok(StatusCode::OK.into_response())
}

async fn task_completed(
    State(cc): State<Cc>,
    Path(guid): Path<String>,
    Json(callback): Json<TaskCallback>,
) -> ApiResult {
    task::completed(&cc, &guid, &callback).await?;
    Ok(StatusCode::OK.into_response())
}

async fn download_package(State(cc): State<Cc>, Path(guid): Path<String>) -> ApiResult {
    let package: Option<Package> = db::by_guid(&mut *cc.db.read_own().await?, &guid).await?;
    let blob = package.and_then(|package| package.blob);
    send_blob(&cc, Kind::Package, blob, "Package").await
}

async fn download_droplet(
    State(cc): State<Cc>,
    Path((guid, _checksum)): Path<(String, String)>,
) -> ApiResult {
    let droplet: Option<Droplet> = db::by_guid(&mut *cc.db.read_own().await?, &guid).await?;
    let blob = droplet.and_then(|droplet| droplet.blob);
    send_blob(&cc, Kind::Droplet, blob, "Droplet").await
}

/// Receives a droplet, which is the whole body. It refuses a droplet whose staging has ended.
async fn upload_droplet(State(cc): State<Cc>, Path(guid): Path<String>, body: Body) -> ApiResult {
    let staging = |droplet: &Droplet| droplet.state == DropletState::Staging;
    let known: Option<Droplet> = db::by_guid(&mut *cc.db.read_own().await?, &guid).await?;
    known
        .filter(staging)
        .ok_or_else(|| ApiError::not_found("Droplet"))?;
    let mut sink = Sink::new(&cc)?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        sink.push(
            chunk
                .map_err(|error| ApiError::bad_request(format!("The upload broke off: {error}")))?,
        )
        .await?;
    }
    let upload = sink.finish().await?;
    let (store, target) = (cc.blobs.clone(), guid.clone());
    let stored = blocking(move || store.store(upload, Kind::Droplet, &target)).await??;
    let mut tx = cc.change().await?;
    let mut droplet = db::by_guid::<Droplet>(&mut tx, &guid)
        .await?
        .filter(staging)
        .ok_or_else(|| ApiError::not_found("Droplet"))?;
    droplet.checksum = Some(stored.blob.sha256.clone());
    let size = stored.blob.size;
    // A cell that repeats its upload replaces the blob of the first one.
    let replaced = droplet.blob.replace(stored.name.clone());
    droplet.touch();
    db::update(&mut tx, &droplet).await?;
    stored.keep();
    tx.commit(db::Unrecorded::Consequence).await?;
    let replaced = replaced.into_iter().collect();
    cc.blobs.delete_later(Kind::Droplet, replaced);
    Ok(Json(json!({ "guid": guid, "size": size })).into_response())
}

async fn lifecycle(State(cc): State<Cc>) -> ApiResult {
    let headers = [
        (header::CONTENT_TYPE, "application/gzip"),
        (header::ETAG, cc.lifecycle.sha256.as_str()),
    ];
    Ok((headers, cc.lifecycle.tgz.clone()).into_response())
}
