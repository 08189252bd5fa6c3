//! Bodies of requests: forms and JSON objects. A body that cannot be read is refused in this API's own error format.

use super::Params;
use crate::error::{self, Answer, OAuthError};
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde_json::{Map, Value};

/// A form (`application/x-www-form-urlencoded`). A request without a body has an empty form.
pub(super) struct FormBody(pub(super) Params);

impl<S: Send + Sync> FromRequest<S> for FormBody {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthError> {
        let kind = request.headers().get(CONTENT_TYPE).cloned();
        let body = bytes("invalid_request", request, state).await?;
        if body.is_empty() {
            return Ok(Self(Params::new()));
        }
        let is_form = kind.as_ref().is_some_and(|kind| {
            kind.as_bytes()
                .starts_with(b"application/x-www-form-urlencoded")
        });
        if !is_form {
            return Err(error::unreadable(
                "invalid_request",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body must be a form: send Content-Type: application/x-www-form-urlencoded"
                    .into(),
            ));
        }
        let wrong = |why: String| error::bad_request("invalid_request", why);
        let request = Request::builder()
            .method("POST")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(axum::body::Body::from(body))
            .map_err(|error| wrong(error.to_string()))?;
        let axum::Form(pairs) = axum::Form::<Vec<(String, String)>>::from_request(request, state)
            .await
            .map_err(|_| wrong("The form cannot be read".into()))?;
        let mut params = Params::new();
        for (name, value) in pairs {
            if params.contains_key(&name) {
                return Err(wrong(format!("Parameter {name} is there twice")));
            }
            params.insert(name, value);
        }
        Ok(Self(params))
    }
}

/// A JSON object.
pub(super) struct JsonBody(pub(super) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = OAuthError;

    async fn from_request(request: Request, state: &S) -> Result<Self, OAuthError> {
        let kind = "invalid_scim_resource";
        match Json::<Value>::from_request(request, state).await {
            Ok(Json(Value::Object(object))) => Ok(Self(object)),
            Ok(_) => Err(error::bad_request(kind, "The body must be a JSON object")),
            Err(rejected) => {
                let status = match rejected.status() {
                    StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
                    status => status,
                };
                Err(error::unreadable(kind, status, rejected.body_text()))
            }
        }
    }
}

impl JsonBody {
    /// Refuses a body with a key that is not in `known`. The error names the key.
    pub(super) fn only(&self, kind: &'static str, known: &[&str]) -> Answer<()> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(error::bad_request(
                kind,
                format!(
                    "Key {key} is unknown; the known keys are: {}",
                    known.join(", ")
                ),
            )),
        }
    }

    /// Returns the text of a key. It is empty if the key is absent or is no text.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("")
    }
}

async fn bytes<S: Send + Sync>(
    kind: &'static str,
    request: Request,
    state: &S,
) -> Result<Bytes, OAuthError> {
    Bytes::from_request(request, state)
        .await
        .map_err(|rejected: BytesRejection| {
            error::unreadable(kind, rejected.status(), rejected.body_text())
        })
}
