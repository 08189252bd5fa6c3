//! This module reads the answers of brokers. Each function reads the answer to one kind of request: the status first, then the body.
//!
//! | Status | everywhere |
//! |---|---|
//! | 401, 408, other 400 to 499 | unauthorized, timed out, rejected |
//! | 409, 410, 422 | have a meaning in some answers, and else are a bad response |
//! | all that a function does not name | a bad response |

mod body;
mod mounts;

use crate::error::{Error, ErrorKind};
use crate::transport::Answer;
use body::{Body, text_of};
use cc_rules::ordered_json::OrderedJson;
use serde_json::Value;
use std::time::Duration;

/// How far an operation has come that a call began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// The broker works in the background; `operation` is its name, if it has one.
    Started {
        operation: Option<String>,
    },
}

/// The result of a call about an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub progress: Progress,
    pub dashboard_url: Option<String>,
    /// The `metadata` of the answer, with `labels` and `attributes`.
    pub metadata: Option<Value>,
    pub description: Option<String>,
}

/// The result of a call that binds.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    Done(Binding),
    Started { operation: Option<String> },
}

/// A binding as its broker made it.
#[derive(Clone, Default, PartialEq)]
pub struct Binding {
    /// The credentials in the order of the broker.
    pub credentials: Option<OrderedJson>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    /// A list of mounts that were checked.
    pub volume_mounts: Option<OrderedJson>,
    /// The times of RFC 3339 at which the binding ends, and before which it should be replaced.
    pub expires_at: Option<String>,
    pub renew_before: Option<String>,
}

/// Prints no credentials.
impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("has_credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

/// The state of an operation in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    InProgress,
    Succeeded,
    Failed,
    /// The broker does not know the thing (410): a removal has succeeded, and nothing else has.
    Gone,
}

/// The answer to a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOperation {
    pub state: OperationState,
    pub description: Option<String>,
    /// The pause that the broker requests before the next poll.
    pub retry_after: Option<Duration>,
    /// Whether the broker refused the poll itself (400), which counts as a failure.
    pub is_bad_request: bool,
    /// After a failed change or removal: whether the instance can still be used. `None`: the broker does not say.
    pub instance_usable: Option<bool>,
    /// After a failed change: whether it can be requested again.
    pub update_repeatable: Option<bool>,
}

/// An instance as its broker has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedInstance {
    pub parameters: Option<OrderedJson>,
    pub dashboard_url: Option<String>,
}

/// A binding as its broker has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FetchedBinding {
    pub binding: Binding,
    pub parameters: Option<OrderedJson>,
}

impl Answer {
    /// Returns an error with the status of this answer.
    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error {
            status: Some(self.status.as_u16()),
            reason: self.status.canonical_reason().unwrap_or_default(),
            ..Error::new(kind, body::shortened(message.into()))
        }
    }

    fn malformed(&self, description: impl std::fmt::Display) -> Error {
        let text = format!("The service broker returned an invalid response: {description}");
        self.error(ErrorKind::Malformed, text)
    }

    /// Returns the error for a status that has no meaning in an answer.
    fn bad(&self) -> Error {
        self.error(
            ErrorKind::BadResponse,
            self.described().unwrap_or_else(|| {
                format!(
                    "The service broker returned an invalid response. Status Code: {}, Body: {}",
                    self.status_line(),
                    self.body_text()
                )
            }),
        )
    }

    fn conflict(&self) -> Error {
        let text = self
            .described()
            .unwrap_or_else(|| "Resource conflict".to_owned());
        self.error(ErrorKind::Conflict, text)
    }

    /// Refuses the statuses that mean the same in all answers. 409, 410 and 422 are left.
    fn check_common(&self) -> Result<(), Error> {
        match self.status.as_u16() {
            401 => Err(self.error(
                ErrorKind::Unauthorized,
                "Authentication with the service broker failed. Double-check that the username and password are correct.",
            )),
            408 => Err(self.error(
                ErrorKind::BrokerTimeout,
                "The request to the service broker timed out",
            )),
            409 | 410 | 422 => Ok(()),
            400..=499 => Err(self.rejected()),
            500..=599 => Err(self.bad()),
            _ => Ok(()),
        }
    }

    fn rejected(&self) -> Error {
        self.error(
            ErrorKind::Rejected,
            self.described().unwrap_or_else(|| {
                format!(
                    "The service broker rejected the request. Status Code: {}, Body: {}",
                    self.status_line(),
                    self.body_text()
                )
            }),
        )
    }

    /// Returns the error of a 422 by the broker's word for it. `other` is the error without such a word.
    fn unprocessable(&self, known: &[ErrorKind], other: fn(&Self) -> Error) -> Error {
        let kind = match self.text("error").as_deref() {
            Some("AsyncRequired") => ErrorKind::AsyncRequired,
            Some("ConcurrencyError") => ErrorKind::Concurrency,
            Some("MaintenanceInfoConflict") => ErrorKind::MaintenanceInfoConflict,
            Some("RequiresApp") => ErrorKind::RequiresApp,
            _ => return other(self),
        };
        if !known.contains(&kind) {
            return other(self);
        }
        let text = match kind {
            ErrorKind::AsyncRequired => {
                "This service plan requires client support for asynchronous service operations."
                    .to_owned()
            }
            ErrorKind::Concurrency => "The service broker could not perform this operation in parallel with other running operations".to_owned(),
            ErrorKind::RequiresApp => "This service supports generation of credentials through binding an application only.".to_owned(),
            _ => self.text("description").filter(|text| !text.trim().is_empty()).map_or_else(
                || "The service broker did not provide a reason for this conflict, please ensure the catalog is up to date and you are providing a version supported by this service plan".to_owned(),
                |text| format!("Service broker error: {text}"),
            ),
        };
        self.error(kind, text)
    }
}

/// Reads the answer to the request for a catalog.
pub(crate) fn catalog(answer: &Answer) -> Result<Value, Error> {
    answer.check_common()?;
    match answer.status.as_u16() {
        200 => {
            answer.object()?;
            serde_json::from_slice(&answer.body)
                .map_err(|_| answer.malformed("expected valid JSON object in body"))
        }
        201 | 202 => {
            answer.object()?;
            Err(answer.bad())
        }
        _ => Err(answer.bad()),
    }
}

fn outcome(answer: &Answer, is_done: bool) -> Result<Outcome, Error> {
    let body = answer.object()?;
    Ok(Outcome {
        progress: progress(answer, &body, is_done)?,
        dashboard_url: body.nullable_text(answer, "dashboard_url")?,
        metadata: body.metadata(answer)?,
        description: text_of(&body.0, "description"),
    })
}

fn progress(answer: &Answer, body: &Body, is_done: bool) -> Result<Progress, Error> {
    let operation = body.operation(answer)?;
    Ok(match is_done {
        true => Progress::Done,
        false => Progress::Started { operation },
    })
}

pub(crate) fn provision(answer: &Answer) -> Result<Outcome, Error> {
    const KNOWN: &[ErrorKind] = &[
        ErrorKind::AsyncRequired,
        ErrorKind::Concurrency,
        ErrorKind::MaintenanceInfoConflict,
    ];
    answer.check_common()?;
    match answer.status.as_u16() {
        200 | 201 => outcome(answer, true),
        202 => outcome(answer, false),
        409 => Err(answer.conflict()),
        422 => Err(answer.unprocessable(KNOWN, Answer::bad)),
        _ => Err(answer.bad()),
    }
}

pub(crate) fn update(answer: &Answer) -> Result<Outcome, Error> {
    const KNOWN: &[ErrorKind] = &[
        ErrorKind::AsyncRequired,
        ErrorKind::Concurrency,
        ErrorKind::MaintenanceInfoConflict,
    ];
    answer.check_common()?;
    match answer.status.as_u16() {
        200 => outcome(answer, true),
        202 => outcome(answer, false),
        422 => Err(answer.unprocessable(KNOWN, Answer::rejected)),
        _ => Err(answer.bad()),
    }
}

/// Returns the outcome for something that the broker does not have any more.
fn gone() -> Outcome {
    Outcome {
        progress: Progress::Done,
        dashboard_url: None,
        metadata: None,
        description: None,
    }
}

const KNOWN_IN_REMOVALS: &[ErrorKind] = &[ErrorKind::AsyncRequired, ErrorKind::Concurrency];

pub(crate) fn deprovision(answer: &Answer) -> Result<Outcome, Error> {
    answer.check_common()?;
    match answer.status.as_u16() {
        200 | 202 => {
            let body = answer.object()?;
            Ok(Outcome {
                progress: progress(answer, &body, answer.status == 200)?,
                description: text_of(&body.0, "description"),
                ..gone()
            })
        }
        410 => Ok(gone()),
        422 => Err(answer.unprocessable(KNOWN_IN_REMOVALS, Answer::bad)),
        _ => Err(answer.bad()),
    }
}

pub(crate) fn unbind(answer: &Answer) -> Result<Progress, Error> {
    answer.check_common()?;
    match answer.status.as_u16() {
        200 | 202 => {
            let body = answer.object()?;
            progress(answer, &body, answer.status == 200)
        }
        410 => Ok(Progress::Done),
        422 => Err(answer.unprocessable(KNOWN_IN_REMOVALS, Answer::bad)),
        _ => Err(answer.bad()),
    }
}

/// Reads the answer to a binding. `requires` are the permissions of the offering.
pub(crate) fn bind(answer: &Answer, requires: &[String]) -> Result<Bound, Error> {
    const KNOWN: &[ErrorKind] = &[
        ErrorKind::RequiresApp,
        ErrorKind::AsyncRequired,
        ErrorKind::Concurrency,
    ];
    answer.check_common()?;
    match answer.status.as_u16() {
        200 | 201 => {
            let body = answer.object()?;
            Ok(Bound::Done(body.binding(answer, Some(requires))?))
        }
        202 => {
            let operation = answer.object()?.operation(answer)?;
            Ok(Bound::Started { operation })
        }
        409 => Err(answer.conflict()),
        422 => Err(answer.unprocessable(KNOWN, Answer::bad)),
        _ => Err(answer.bad()),
    }
}

pub(crate) fn last_operation(answer: &Answer) -> Result<LastOperation, Error> {
    let found = |state, description| LastOperation {
        state,
        description,
        retry_after: answer.retry_after,
        is_bad_request: false,
        instance_usable: None,
        update_repeatable: None,
    };
    match answer.status.as_u16() {
        200 => {
            let body = answer.object()?;
            let state = match text_of(&body.0, "state").as_deref() {
                Some("in progress") => OperationState::InProgress,
                Some("succeeded") => OperationState::Succeeded,
                Some("failed") => OperationState::Failed,
                other => {
                    let other = other.unwrap_or_default();
                    return Err(answer.malformed(format_args!(
                        "expected state was 'succeeded', broker returned '{other}'."
                    )));
                }
            };
            Ok(LastOperation {
                instance_usable: body.bool("instance_usable"),
                update_repeatable: body.bool("update_repeatable"),
                ..found(state, text_of(&body.0, "description"))
            })
        }
        400 => {
            let description = answer.text("description");
            let description = description.unwrap_or_else(|| "Bad request".to_owned());
            Ok(LastOperation {
                is_bad_request: true,
                ..found(OperationState::Failed, Some(description))
            })
        }
        410 => Ok(found(OperationState::Gone, None)),
        201 | 202 => Err(answer.bad()),
        _ => {
            answer.check_common()?;
            Err(answer.bad())
        }
    }
}

pub(crate) fn fetch_instance(answer: &Answer) -> Result<FetchedInstance, Error> {
    answer.check_common()?;
    if answer.status != 200 {
        return Err(answer.bad());
    }
    let body = answer.object()?;
    Ok(FetchedInstance {
        parameters: body.parameters(answer)?,
        dashboard_url: body.nullable_text(answer, "dashboard_url")?,
    })
}

pub(crate) fn fetch_binding(answer: &Answer) -> Result<FetchedBinding, Error> {
    answer.check_common()?;
    if answer.status != 200 {
        return Err(answer.bad());
    }
    let body = answer.object()?;
    Ok(FetchedBinding {
        binding: body.binding(answer, None)?,
        parameters: body.parameters(answer)?,
    })
}

#[cfg(test)]
mod tests;
