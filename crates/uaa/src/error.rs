//! OAuth error responses: `{"error": …, "error_description": …}`.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use kit::db::NulInText;
use kit::disk::Trouble;
use serde_json::json;

#[derive(Debug)]
pub(crate) struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl OAuthError {
    /// Returns whether the token is the cause of the error, rather than this server.
    pub(crate) fn is_invalid_token(&self) -> bool {
        self.error == "invalid_token"
    }

    /// Returns the text for a person who entered a wrong password or whose account is locked; `None` if it is another error.
    pub(crate) fn refused_password(&self) -> Option<&str> {
        let refused = self.status == StatusCode::UNAUTHORIZED && self.error == "unauthorized";
        refused.then_some(self.description.as_str())
    }
}

pub(crate) type Answer<T = Response> = Result<T, OAuthError>;

fn error(status: StatusCode, error: &'static str, description: impl Into<String>) -> OAuthError {
    OAuthError {
        status,
        error,
        description: description.into(),
    }
}

pub(crate) fn bad_credentials() -> OAuthError {
    error(StatusCode::UNAUTHORIZED, "unauthorized", "Bad credentials")
}
/// Returns the error of a locked account. The CLI recognises this text.
pub(crate) fn account_locked() -> OAuthError {
    error(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Your account has been locked because of too many failed attempts to login.",
    )
}
pub(crate) fn unauthorized(description: impl Into<String>) -> OAuthError {
    error(StatusCode::UNAUTHORIZED, "unauthorized", description)
}
pub(crate) fn invalid_client() -> OAuthError {
    error(
        StatusCode::UNAUTHORIZED,
        "invalid_client",
        "Bad credentials",
    )
}
pub(crate) fn invalid_token(description: impl Into<String>) -> OAuthError {
    error(StatusCode::UNAUTHORIZED, "invalid_token", description)
}
pub(crate) fn insufficient_scope(want: &str) -> OAuthError {
    error(
        StatusCode::FORBIDDEN,
        "insufficient_scope",
        format!("The token needs one of these scopes: {want}"),
    )
}
pub(crate) fn bad_request(kind: &'static str, description: impl Into<String>) -> OAuthError {
    error(StatusCode::BAD_REQUEST, kind, description)
}
pub(crate) fn not_found(kind: &'static str, description: impl Into<String>) -> OAuthError {
    error(StatusCode::NOT_FOUND, kind, description)
}
/// Returns the error of a token that is valid, but for other APIs.
pub(crate) fn wrong_audience() -> OAuthError {
    error(
        StatusCode::FORBIDDEN,
        "access_denied",
        "Invalid token does not contain resource id (uaa)",
    )
}
/// Returns the error of a password that is not acceptable in a request that was understood.
pub(crate) fn unprocessable_password(description: impl Into<String>) -> OAuthError {
    error(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_password",
        description,
    )
}
/// Returns the error of a body that is too large, has the wrong type, or cannot be read.
pub(crate) fn unreadable(
    kind: &'static str,
    status: StatusCode,
    description: String,
) -> OAuthError {
    error(status, kind, description)
}
pub(crate) fn forbidden(kind: &'static str, description: impl Into<String>) -> OAuthError {
    error(StatusCode::FORBIDDEN, kind, description)
}
pub(crate) fn method_not_allowed() -> OAuthError {
    error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "This path does not accept that method",
    )
}
pub(crate) fn client_exists(id: &str) -> OAuthError {
    error(
        StatusCode::CONFLICT,
        "invalid_client",
        format!("Client already exists: {id}"),
    )
}
pub(crate) fn conflict(description: impl Into<String>) -> OAuthError {
    error(
        StatusCode::CONFLICT,
        "scim_resource_already_exists",
        description,
    )
}

/// Converts an internal error. It is logged here and not shown to the caller, except that a full or failing disk is named.
impl From<anyhow::Error> for OAuthError {
    fn from(cause: anyhow::Error) -> Self {
        let has_nul = |error: &kit::db::Error| NulInText::caused(error);
        if cause.downcast_ref().is_some_and(has_nul) {
            return bad_request("invalid_request", NulInText.to_string());
        }
        tracing::error!(error = format!("{cause:#}"), "uaa-request-failed");
        // A person who reads this can free disk space.
        match Trouble::of_chain(&cause) {
            None | Some(Trouble::Damaged) => {}
            Some(_) => {
                return error(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "temporarily_unavailable",
                    format!("This cannot be done now: {cause:#}"),
                );
            }
        }
        error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "The request failed; the server's log has the reason",
        )
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let scim = self.error.starts_with("scim_")
            || matches!(self.error, "invalid_scim_resource" | "invalid_password");
        let mut body = json!({ "error": self.error, "error_description": self.description });
        if scim {
            body["message"] = json!(self.description);
        }
        let mut response = (
            self.status,
            [(header::CACHE_CONTROL, "no-store")],
            Json(body),
        )
            .into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = if self.error == "invalid_token" {
                "Bearer realm=\"oauth\", error=\"invalid_token\""
            } else {
                "Basic realm=\"UAA/client\""
            };
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static(challenge),
            );
        }
        response
    }
}
