//! Serves the HTTP API, which the BBS calls.

use crate::queue::Queue;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use clients::request_id;
use http::{HeaderMap, StatusCode};
use std::sync::Arc;
use wire::rep::{LrpStartRequest, TaskStartRequest, path};

/// The size limit of a request. A convergence of 250,000 LRPs comes as one request.
const MAX_BODY: usize = 256 << 20;

pub(crate) fn router(queue: Arc<Queue>) -> Router {
    Router::new()
        .route(path::AUCTION_LRPS, post(lrps))
        .route(path::AUCTION_TASKS, post(tasks))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(queue)
}

async fn lrps(State(queue): State<Arc<Queue>>, headers: HeaderMap, body: Bytes) -> Response {
    let id = request_id::of(&headers);
    answer(
        serde_json::from_slice::<Vec<LrpStartRequest>>(&body)
            .map(|requests| queue.request_lrps(requests, &id)),
    )
}

async fn tasks(State(queue): State<Arc<Queue>>, headers: HeaderMap, body: Bytes) -> Response {
    let id = request_id::of(&headers);
    answer(
        serde_json::from_slice::<Vec<TaskStartRequest>>(&body)
            .map(|requests| queue.request_tasks(requests, &id)),
    )
}

fn answer(requested: serde_json::Result<bool>) -> Response {
    match requested {
        Ok(true) => (StatusCode::ACCEPTED, Json(serde_json::json!({}))).into_response(),
        Ok(false) => (StatusCode::SERVICE_UNAVAILABLE, Json(serde_json::json!({"error": "another auctioneer holds the lock"}))).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, Json(serde_json::json!({"error": format!("request is not an array of auctions: {error}")}))).into_response(),
    }
}
