//! The one error type of the API. It is created in one place, with Cloud Foundry's codes and titles, and is what the caller
//! receives.

use crate::bits::store::Unavailable;
use crate::sealing::OpenError;
use axum::response::{IntoResponse, Response};
use cc_rules::label_selector::SelectorError;
use cc_rules::limits::LimitError;
use cc_rules::manifest::ManifestError;
use cc_rules::metadata::MetadataError;
use cc_rules::route_rules::{DomainNameError, OptionsError, RouteError, RouteTextError};
use http::StatusCode;
use kit::disk::Trouble;

pub(crate) type ApiResult<T = axum::response::Response> = Result<T, ApiError>;

#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", details(.errors))]
pub(crate) struct ApiError {
    pub status: StatusCode,
    pub errors: Vec<wire::cc::Error>,
}

fn details(errors: &[wire::cc::Error]) -> String {
    errors
        .iter()
        .map(|e| e.detail.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

impl ApiError {
    pub(crate) fn new(status: u16, code: i64, title: &str, detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            errors: vec![wire::cc::Error {
                code,
                title: format!("CF-{title}"),
                detail: detail.into(),
            }],
        }
    }
    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(422, 10008, "UnprocessableEntity", detail)
    }
    pub(crate) fn bad_request(detail: impl std::fmt::Display) -> Self {
        Self::new(400, 1004, "BadRequest", format!("Bad request: {detail}"))
    }
    pub(crate) fn message_parse() -> Self {
        Self::new(
            400,
            1001,
            "MessageParseError",
            "Request invalid due to parse error: invalid request body",
        )
    }
    pub(crate) fn bad_query(detail: impl std::fmt::Display) -> Self {
        Self::new(
            400,
            10005,
            "BadQueryParameter",
            format!("The query parameter is invalid: {detail}"),
        )
    }
    /// Returns a 404 for a `noun` as in `App not found`.
    pub(crate) fn not_found(noun: &str) -> Self {
        Self::new(404, 10010, "ResourceNotFound", format!("{noun} not found"))
    }
    pub(crate) fn unknown_request() -> Self {
        Self::new(404, 10000, "NotFound", "Unknown request")
    }
    /// Returns the error for features that the original has and this foundation does not have.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(404, 10000, "NotFound", detail)
    }
    pub(crate) fn not_authorized() -> Self {
        Self::new(
            403,
            10003,
            "NotAuthorized",
            "You are not authorized to perform the requested action",
        )
    }
    pub(crate) fn organization_suspended() -> Self {
        Self::new(403, 10017, "OrgSuspended", "The organization is suspended")
    }
    pub(crate) fn space_suspended() -> Self {
        Self::new(403, 10019, "SpaceSuspended", "The space is suspended")
    }
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(413, 10008, "UnprocessableEntity", detail)
    }
    pub(crate) fn not_authenticated() -> Self {
        Self::new(401, 10002, "NotAuthenticated", "Authentication error")
    }
    pub(crate) fn invalid_token() -> Self {
        Self::new(401, 1000, "InvalidAuthToken", "Invalid Auth Token")
    }
    pub(crate) fn feature_disabled(flag: &str, custom: Option<&str>) -> Self {
        Self::new(
            403,
            330002,
            "FeatureDisabled",
            format!("Feature Disabled: {}", custom.unwrap_or(flag)),
        )
    }
    /// Returns the error of a job whose broker did not do what was requested.
    pub(crate) fn unable(verb: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(
            400,
            10009,
            "UnableToPerform",
            format!("{verb} could not be completed: {detail}"),
        )
    }
    pub(crate) fn job_timeout() -> Self {
        Self::new(
            524,
            290_006,
            "JobTimeout",
            "The job execution has timed out.",
        )
    }
    /// Returns the refusal of a request about an instance with which a broker is busy.
    pub(crate) fn instance_busy(name: &str) -> Self {
        Self::new(
            409,
            60016,
            "AsyncServiceInstanceOperationInProgress",
            format!("An operation for service instance {name} is in progress."),
        )
    }
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(503, 10015, "ServiceUnavailable", detail)
    }
    pub(crate) fn prefixed(mut self, prefix: &str) -> Self {
        for error in &mut self.errors {
            error.detail = format!("{prefix}{}", error.detail);
        }
        self
    }
    /// Returns the error for a request that changed nothing and that may succeed later.
    fn troubled(trouble: Trouble, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, ?trouble, "request-failed");
        match trouble {
            Trouble::Damaged => Self::new(
                500,
                10001,
                "UnknownError",
                format!("The database is damaged: {error}"),
            ),
            _ => Self::unavailable(format!("This cannot be done now: {error}")),
        }
    }
    fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "request-failed");
        Self::new(500, 10001, "UnknownError", "An unknown error occurred.")
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if kit::db::is_interrupted(&error) {
            return Self::unavailable(
                "The request read too much and was ended; narrow it with filters or a smaller per_page",
            );
        }
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Self::unavailable("Too many requests read the database now; try again");
        }
        if let sqlx::Error::ColumnDecode { index, source } = &error {
            tracing::error!(column = index, %source, "row-damaged");
            return Self::new(
                500,
                10001,
                "UnknownError",
                format!("A stored row cannot be read (column {index}): {source}"),
            );
        }
        match Trouble::of_database(&error) {
            // For an IO error only the inner text is shown, without the prefix that the driver adds.
            Some(trouble) => match &error {
                sqlx::Error::Io(error) => Self::troubled(trouble, error),
                _ => Self::troubled(trouble, &error),
            },
            None => Self::internal(&format!("database: {error}")),
        }
    }
}

/// Answers these refusals of rules with 422 and their own texts.
macro_rules! unprocessable {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                Self::unprocessable(error.to_string())
            }
        })+
    };
}
unprocessable!(
    LimitError,
    MetadataError,
    RouteError,
    RouteTextError,
    OptionsError,
    DomainNameError,
);

/// Answers all problems of a manifest with one 422, with an entry for each of them.
impl From<ManifestError> for ApiError {
    fn from(error: ManifestError) -> Self {
        let mut answer = Self::unprocessable("");
        answer.errors = error
            .problems
            .into_iter()
            .flat_map(|problem| Self::unprocessable(problem).errors)
            .collect();
        answer
    }
}

impl From<SelectorError> for ApiError {
    fn from(error: SelectorError) -> Self {
        Self::bad_query(error)
    }
}

/// Answers without the name of the key and its file, which the log has.
impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        tracing::error!(%error, "secret-not-opened");
        Self::new(
            500,
            10001,
            "UnknownError",
            "A stored secret cannot be read; the operator finds the reason in the log of the Cloud Controller",
        )
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        if let Some(unavailable) = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Unavailable>())
        {
            tracing::error!(error = %unavailable, "request-failed");
            return Self::unavailable(format!("This cannot be done now: {unavailable}"));
        }
        match Trouble::of_chain(&error) {
            Some(trouble) => Self::troubled(trouble, &format!("{error:#}")),
            None => Self::internal(&format!("{error:#}")),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (
            self.status,
            axum::Json(wire::cc::Errors {
                errors: self.errors,
            }),
        )
            .into_response()
    }
}
