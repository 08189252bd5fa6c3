//! The progress of an operation at a broker, as it is stored in the row that the operation makes, changes or removes.

use super::Errand;
use crate::db::service_credential_binding::ServiceCredentialBinding;
use crate::db::service_instance::{CREATE, DELETE, FAILED, LastOperation, ServiceInstance};
use crate::db::service_route_binding::ServiceRouteBinding;
use crate::db::{self, Connection, Row};
use crate::error::{ApiError, ApiResult};

/// A row that has a last operation.
pub(in crate::actions) trait Operated: Row + Sync {
    /// The noun in the text of a missing row.
    const NOUN: &'static str;
    /// The last characters of that text.
    const END: &'static str;
    fn operation(&self) -> &LastOperation;
    fn note(&mut self, kind: &str, state: &str, description: Option<&str>);
}

macro_rules! operated {
    ($row:ty, $noun:literal, $end:literal) => {
        impl Operated for $row {
            const NOUN: &'static str = $noun;
            const END: &'static str = $end;
            fn operation(&self) -> &LastOperation {
                &self.last_operation.0
            }
            fn note(&mut self, kind: &str, state: &str, description: Option<&str>) {
                self.last_operation.0.note(kind, state, description);
                self.touch();
            }
        }
    };
}

operated!(ServiceInstance, "service instance", ".");
operated!(ServiceCredentialBinding, "binding", "");
operated!(ServiceRouteBinding, "binding", "");

/// Stores the progress of an operation.
pub(in crate::actions) async fn note<R: Operated>(
    conn: &mut Connection,
    row: &mut R,
    (kind, state): (&str, &str),
    description: Option<&str>,
) -> ApiResult<()> {
    row.note(kind, state, description);
    db::update(conn, row).await?;
    Ok(())
}

/// Stores that the operation under way has failed.
pub(in crate::actions) async fn fail<R: Operated>(
    conn: &mut Connection,
    guid: &str,
    text: &str,
) -> ApiResult<()> {
    let Some(mut row) = db::by_guid::<R>(conn, guid).await? else {
        return Ok(());
    };
    if !row.operation().is_under_way() {
        return Ok(());
    }
    let kind = row.operation().r#type.clone();
    note(conn, &mut row, (&kind, FAILED), Some(text)).await
}

/// Returns the row of a job, or the error of a job whose row is gone or with which something else is done meanwhile.
pub(in crate::actions) async fn found<R: Operated>(
    conn: &mut Connection,
    errand: Errand<'_>,
    kind: &str,
) -> ApiResult<Result<R, ApiError>> {
    let guid = errand.resource();
    let Some(row) = db::by_guid::<R>(conn, guid).await? else {
        return Ok(Err(ApiError::new(
            404,
            10010,
            "ResourceNotFound",
            format!("The {} could not be found: {guid}{}", R::NOUN, R::END),
        )));
    };
    let operation = row.operation();
    if !operation.does(kind) {
        let other = format!("{} {}", operation.r#type, operation.state);
        return Ok(Err(ApiError::unable(kind, other)));
    }
    Ok(Ok(row))
}

/// The reason why a binding was not made, for its row and for its job.
pub(in crate::actions) struct NotBound {
    pub(in crate::actions) text: String,
    /// Whether the broker may have the binding.
    pub(in crate::actions) leaves_something: bool,
    pub(in crate::actions) error: ApiError,
}

impl NotBound {
    /// The broker works in the background and its offering has no `bindings_retrievable`.
    pub(in crate::actions) fn not_retrievable() -> Self {
        const TEXT: &str =
            "The broker responded asynchronously but does not support fetching binding data";
        Self {
            text: TEXT.to_owned(),
            leaves_something: true,
            error: ApiError::new(
                400,
                90001,
                "ServiceBindingInvalid",
                format!("The service binding is invalid: {TEXT}"),
            ),
        }
    }

    /// The broker returned something that cannot be used.
    pub(in crate::actions) fn unusable(text: String) -> Self {
        Self {
            error: ApiError::unable("bind", text.as_str()),
            text,
            leaves_something: true,
        }
    }

    /// The broker refused the request, or reported a failure.
    pub(in crate::actions) fn refused(
        is_report: bool,
        text: String,
        leaves_something: bool,
    ) -> Self {
        let verb = match is_report {
            true => CREATE,
            false => "bind",
        };
        Self {
            error: ApiError::unable(verb, text.as_str()),
            text,
            leaves_something,
        }
    }

    pub(in crate::actions) fn expired(text: String, leaves_something: bool) -> Self {
        Self {
            text,
            leaves_something,
            error: ApiError::job_timeout(),
        }
    }
}

/// Returns why a binding was not removed: the text of its row, and the error of its job. `is_busy` is of the reply.
pub(in crate::actions) fn not_unbound(
    (is_report, is_busy): (bool, bool),
    instance: &str,
    text: String,
) -> (String, ApiError) {
    let (verb, text) = match (is_report, is_busy) {
        (true, _) => (DELETE, text),
        (false, true) => (
            "unbind",
            "The service broker rejected the request due to an operation being in progress for the service binding.".to_owned(),
        ),
        (false, false) => (
            "unbind",
            format!("Service broker failed to delete service binding for instance {instance}: {text}"),
        ),
    };
    let error = ApiError::unable(verb, text.as_str());
    (text, error)
}
