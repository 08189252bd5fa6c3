//! The Open Service Broker API, version 2.17, for the platform. Every operation is done when its response is sent.
//!
//! ```text
//!  version of the API (412) ─▶ credentials (401) ─▶ request (400) ─▶ a verb of `broker` ─▶ 200, 201 or what the fault means
//! ```

mod binding;
mod instance;
mod request;

use crate::broker::{Broker, Fault, Made};
use crate::catalog::{USER, catalog};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

/// The maximum number of bytes of a request.
const LARGEST: usize = 256 << 10;
const VERSION: &str = "x-broker-api-version";
/// The header whose value a response repeats.
const IDENTITY: &str = "x-broker-api-request-identity";

pub(crate) fn router(broker: Broker) -> Router {
    let requests = broker.metrics().requests.clone();
    let app = Router::new()
        .route("/v2/catalog", get(show_catalog))
        .route(
            "/v2/service_instances/{instance}",
            put(instance::provision)
                .get(instance::show)
                .patch(instance::update)
                .delete(instance::deprovision),
        )
        .route(
            "/v2/service_instances/{instance}/last_operation",
            get(instance::last_operation),
        )
        .route(
            "/v2/service_instances/{instance}/service_bindings/{binding}",
            put(binding::bind)
                .get(binding::show)
                .delete(binding::unbind),
        )
        .route(
            "/v2/service_instances/{instance}/service_bindings/{binding}/last_operation",
            get(binding::last_operation),
        )
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(middleware::from_fn_with_state(broker.clone(), guard))
        .with_state(broker);
    requests.count(app)
}

/// Checks who calls, and in which version.
async fn guard(State(broker): State<Broker>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let identity = headers.get(IDENTITY).cloned();
    let mut response = if let Some(problem) = version_problem(headers) {
        Answer::error(StatusCode::PRECONDITION_FAILED, "", problem).into_response()
    } else if is_known(headers, &broker.secrets().broker_password) {
        next.run(request).await
    } else {
        let mut refused = Answer::error(StatusCode::UNAUTHORIZED, "", "the credentials are wrong")
            .into_response();
        let realm = HeaderValue::from_static("Basic realm=\"postgres-broker\"");
        refused
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, realm);
        refused
    };
    if let Some(identity) = identity {
        response.headers_mut().insert(IDENTITY, identity);
    }
    response
}

fn version_problem(headers: &HeaderMap) -> Option<String> {
    let version = headers.get(VERSION).and_then(|value| value.to_str().ok());
    match version {
        Some(version) if version.starts_with("2.") => None,
        Some(version) => Some(format!(
            "the version {version:?} of the API is not supported: send 2.17 in the header X-Broker-API-Version"
        )),
        None => Some("the header X-Broker-API-Version is missing: send 2.17".to_owned()),
    }
}

fn is_known(headers: &HeaderMap, password: &str) -> bool {
    let sent = headers.get(header::AUTHORIZATION);
    let sent = sent.and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let sent = sent.and_then(|text| BASE64_STANDARD.decode(text.trim()).ok());
    let wanted = format!("{USER}:{password}");
    sent.is_some_and(|sent| bool::from(sent.as_slice().ct_eq(wanted.as_bytes())))
}

async fn show_catalog(State(broker): State<Broker>) -> Response {
    Answer::ok(catalog(broker.settings())).into_response()
}

/// The answer to a request.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    fn ok(body: Value) -> Self {
        let status = StatusCode::OK;
        Self { status, body }
    }

    /// Returns 201 for a thing that was made, and 200 for one that existed.
    fn made(made: Made, body: Value) -> Self {
        let status = match made {
            Made::New => StatusCode::CREATED,
            Made::Existing => StatusCode::OK,
        };
        Self { status, body }
    }

    /// Returns an error. `code` is the API's word for it, if it has one.
    fn error(status: StatusCode, code: &str, description: impl Into<String>) -> Self {
        let mut body = json!({ "description": description.into() });
        if !code.is_empty() {
            body["error"] = code.into();
        }
        Self { status, body }
    }

    fn bad(description: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, "", description)
    }
}

impl axum::response::IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// Logs a fault of the server, and returns its answer. `missing` is the status for a thing that does not exist.
fn refused(fault: Fault, missing: StatusCode) -> Answer {
    let (status, code) = match &fault {
        Fault::NotReady(_) => (StatusCode::SERVICE_UNAVAILABLE, ""),
        Fault::Busy => (StatusCode::UNPROCESSABLE_ENTITY, "ConcurrencyError"),
        Fault::Missing => (missing, ""),
        Fault::Conflict => (StatusCode::CONFLICT, ""),
        Fault::Refused(_) => (StatusCode::BAD_REQUEST, ""),
        Fault::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, ""),
    };
    let description = fault.to_string();
    if status.is_server_error() {
        tracing::error!(error = description, "request-failed");
    }
    if matches!(fault, Fault::Missing) && status == StatusCode::GONE {
        // The API wants an empty object.
        return Answer {
            status,
            body: json!({}),
        };
    }
    Answer::error(status, code, description)
}

#[cfg(test)]
mod tests;
