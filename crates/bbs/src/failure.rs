//! The one place where an error becomes the wire's `Error{type, message}`. Clients match on both fields.

use lrp::Refusal;
use lrp::task::TaskError;
use wire::bbs::{Error, ErrorType};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorType,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn not_found() -> Self {
        Refusal::NotFound.into()
    }

    pub(crate) fn exists() -> Self {
        Refusal::Exists.into()
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorType::InvalidRequest, message)
    }

    /// Returns the error of a store that has stopped. Nothing can be promised any more.
    pub(crate) fn stopped() -> Self {
        Self::new(ErrorType::Unrecoverable, "the BBS is stopping")
    }

    /// Returns the error of a change that could not be written. Nothing was changed; the same request may succeed later.
    pub(crate) fn unwritten(why: impl std::fmt::Display) -> Self {
        Self::new(
            ErrorType::UnknownError,
            format!("the BBS's database cannot be written: {why}"),
        )
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::NotFound => ErrorType::ResourceNotFound,
            Refusal::Exists => ErrorType::ResourceExists,
            Refusal::CannotBeClaimed => ErrorType::ActualLrpCannotBeClaimed,
            Refusal::CannotBeStarted => ErrorType::ActualLrpCannotBeStarted,
            Refusal::CannotBeCrashed => ErrorType::ActualLrpCannotBeCrashed,
            Refusal::CannotBeFailed => ErrorType::ActualLrpCannotBeFailed,
            Refusal::CannotBeRemoved => ErrorType::ActualLrpCannotBeRemoved,
            Refusal::CannotBeUnclaimed => ErrorType::ActualLrpCannotBeUnclaimed,
        };
        Self::new(kind, refusal.to_string())
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        let kind = match error {
            TaskError::Transition { .. } => ErrorType::InvalidStateTransition,
            TaskError::DifferentCell { .. } => ErrorType::RunningOnDifferentCell,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind as i32,
            message: failure.message,
        }
    }
}
