//! The HTTP API: the page and its files, signing in, and what the page reads. docs/dashboard.md describes it.

mod assets;
mod lists;
mod page;
mod past;
mod relay;
mod sign_in;
mod stream;
mod tap;

use crate::shared::Dash;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

/// The longest body of a request.
const MAX_BODY: usize = 16 << 10;
/// The policy of every answer: files of this host alone, no inline script or style, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(crate) fn router(dash: Dash) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/sign-in", get(sign_in::begin))
        .route("/signed-in", get(sign_in::finish))
        .route("/sign-out", post(sign_in::end))
        .route("/signed-out", get(page::signed_out))
        .route("/assets/{name}", get(assets::asset))
        .route("/healthz", get(async || "ok\n"))
        .route("/api/v1/me", get(lists::me))
        .route("/api/v1/picture", get(lists::picture))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/changes", get(lists::changes))
        .route("/api/v1/changes/{id}", get(lists::change))
        .route("/api/v1/routes", get(lists::routes))
        .route("/api/v1/instances", get(lists::instances))
        .route("/api/v1/cells", get(lists::cells))
        .route("/api/v1/routers", get(lists::routers))
        .route("/api/v1/search", get(lists::search))
        .route("/api/v1/table", get(past::table))
        .route("/api/v1/history", get(past::history))
        .route("/api/v1/taps", post(tap::tap))
        .route("/v3/{*path}", get(relay::relay))
        .fallback(page::not_found)
        .layer(middleware::from_fn(protect))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(dash)
}

/// Adds the headers that protect a page to every answer.
async fn protect(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
