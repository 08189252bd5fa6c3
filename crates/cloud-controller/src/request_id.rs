//! Keeps the id of each request, so that Diego and everything behind it gets the id with the request's consequences.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use clients::request_id;

/// Handles a request in the scope of its id. A request without one gets a new id: it did not come through a router.
pub(crate) async fn keep(request: Request, next: Next) -> Response {
    let mut id = request_id::of(request.headers());
    if id.is_empty() {
        id = uuid::Uuid::new_v4().to_string();
    }
    request_id::scope(id, next.run(request)).await
}
