//! The answer to a request that is refused: a status, and a sentence that names the remedy.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
}

pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub(crate) fn signed_out() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "sign in: open the dashboard's page, or send a bearer token",
        )
    }

    pub(crate) fn operators_only() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "only operators see this: the scope cloud_controller.admin, cloud_controller.admin_read_only or cloud_controller.global_auditor is missing",
        )
    }

    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub(crate) fn is_signed_out(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }
}

/// Converts the failure of a component that was asked.
impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        let text = format!("{error:#}");
        tracing::warn!(error = text, "dashboard-request-failed");
        Self::new(StatusCode::BAD_GATEWAY, text)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.text }));
        (self.status, [(header::CACHE_CONTROL, "no-store")], body).into_response()
    }
}
