//! Errors of calls, sorted by what a caller does next.

/// The reason why a call failed. The names of the API's errors are those of the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The URL is wrong, or its address is not permitted. The request was not sent.
    Forbidden,
    /// No connection, or one that broke before the answer was complete.
    Unreachable,
    /// The time of a call ended.
    Timeout,
    /// The broker answered 408.
    BrokerTimeout,
    /// The broker answered 401.
    Unauthorized,
    /// The broker refused the request with another status of 400 to 499.
    Rejected,
    /// The broker answered with a status that the API does not have here, such as 500 or a redirect.
    BadResponse,
    /// The body of the answer is not what the status promises.
    Malformed,
    /// The body of the answer is larger than a client reads.
    TooLarge,
    /// The broker answered 409: something else has this guid.
    Conflict,
    /// The broker works in the background only.
    AsyncRequired,
    /// The broker binds to apps only.
    RequiresApp,
    /// The broker does something else with the instance at present.
    Concurrency,
    /// The broker does not provide the wanted version of a plan.
    MaintenanceInfoConflict,
    /// The broker returned an address for logs, and its offering lacks the permission.
    InvalidSyslogDrainUrl,
    /// The broker returned volume mounts that are wrong, or its offering lacks the permission.
    InvalidVolumeMounts,
}

impl ErrorKind {
    /// Returns the title of the error in Cloud Foundry, without the prefix `CF-`.
    pub fn title(self) -> &'static str {
        match self {
            Self::Forbidden | Self::Unreachable => "ServiceBrokerApiUnreachable",
            Self::Timeout => "HttpClientTimeout",
            Self::BrokerTimeout => "ServiceBrokerApiTimeout",
            Self::Unauthorized => "ServiceBrokerApiAuthenticationFailed",
            Self::Rejected => "ServiceBrokerRequestRejected",
            Self::BadResponse => "ServiceBrokerBadResponse",
            Self::Malformed | Self::TooLarge => "ServiceBrokerResponseMalformed",
            Self::Conflict => "ServiceBrokerConflict",
            Self::AsyncRequired => "AsyncRequired",
            Self::RequiresApp => "AppRequired",
            Self::Concurrency => "ConcurrencyError",
            Self::MaintenanceInfoConflict => "MaintenanceInfoConflict",
            Self::InvalidSyslogDrainUrl => "ServiceBrokerInvalidSyslogDrainUrl",
            Self::InvalidVolumeMounts => "ServiceBrokerInvalidVolumeMounts",
        }
    }

    /// Returns the status with which the platform answers its own caller.
    pub fn platform_status(self) -> u16 {
        match self {
            Self::Timeout | Self::BrokerTimeout => 504,
            Self::AsyncRequired | Self::RequiresApp => 400,
            Self::Conflict => 409,
            Self::Concurrency | Self::MaintenanceInfoConflict => 422,
            _ => 502,
        }
    }

    /// Returns whether the same call may succeed later without a change of its request.
    pub fn may_pass(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Timeout
                | Self::BrokerTimeout
                | Self::Unauthorized
                | Self::BadResponse
                | Self::Malformed
                | Self::TooLarge
                | Self::Concurrency
        )
    }
}

/// A call that failed. Its text is for users and contains no secret of the platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// The text for users.
    pub message: String,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// The text of the status, as in `404 Not Found`.
    pub reason: &'static str,
    /// Whether the broker may have received the request.
    pub(crate) was_sent: bool,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            reason: "",
            was_sent: true,
        }
    }

    /// Returns the error of a call of which nothing was sent.
    pub(crate) fn unsent(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            was_sent: false,
            ..Self::new(kind, message)
        }
    }

    /// Returns whether the broker may have made what a provisioning or binding wanted, so that it must be removed again. An answer
    /// 200 means that it existed before, and a request that was refused made nothing.
    pub fn leaves_orphan(&self) -> bool {
        let is_redirect = self
            .status
            .is_some_and(|status| (300..400).contains(&status));
        self.was_sent
            && match self.kind {
                ErrorKind::Timeout
                | ErrorKind::Unreachable
                | ErrorKind::InvalidSyslogDrainUrl
                | ErrorKind::InvalidVolumeMounts => true,
                ErrorKind::BadResponse => !is_redirect,
                ErrorKind::Malformed | ErrorKind::TooLarge => self.status != Some(200),
                ErrorKind::Forbidden
                | ErrorKind::BrokerTimeout
                | ErrorKind::Unauthorized
                | ErrorKind::Rejected
                | ErrorKind::Conflict
                | ErrorKind::AsyncRequired
                | ErrorKind::RequiresApp
                | ErrorKind::Concurrency
                | ErrorKind::MaintenanceInfoConflict => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind, status: Option<u16>) -> Error {
        Error {
            status,
            ..Error::new(kind, "x")
        }
    }

    #[test]
    fn an_orphan_is_possible_when_the_broker_may_have_acted() {
        for (kind, status, wanted) in [
            (ErrorKind::Timeout, None, true),
            (ErrorKind::Unreachable, None, true),
            (ErrorKind::BadResponse, Some(500), true),
            (ErrorKind::BadResponse, Some(204), true),
            (ErrorKind::BadResponse, Some(302), false),
            (ErrorKind::Malformed, Some(200), false),
            (ErrorKind::Malformed, Some(201), true),
            (ErrorKind::Malformed, Some(202), true),
            (ErrorKind::TooLarge, Some(201), true),
            (ErrorKind::BrokerTimeout, Some(408), false),
            (ErrorKind::Rejected, Some(400), false),
            (ErrorKind::Conflict, Some(409), false),
            (ErrorKind::AsyncRequired, Some(422), false),
        ] {
            assert_eq!(
                error(kind, status).leaves_orphan(),
                wanted,
                "{kind:?} {status:?}"
            );
        }
        for kind in [
            ErrorKind::Forbidden,
            ErrorKind::Unreachable,
            ErrorKind::Timeout,
        ] {
            assert!(!Error::unsent(kind, "x").leaves_orphan(), "{kind:?}");
        }
    }
}
