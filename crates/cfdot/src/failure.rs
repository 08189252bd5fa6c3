//! The errors of commands, with the exit codes and texts of the original cfdot.

use clients::bbs::BbsError;
use clients::locket::LocketError;
use wire::bbs::ErrorType;

/// The exit code for a mistake in the command line or the environment.
pub(crate) const INVALID: u8 = 3;
/// The exit code for an error of the BBS, locket or a rep.
pub(crate) const COMPONENT: u8 = 4;
/// The exit code for any other error, such as a server that cannot be reached.
pub(crate) const OTHER: u8 = 5;
/// The exit code for a command line that cannot be parsed at all.
pub(crate) const UNREADABLE: u8 = 255;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
    /// Whether the usage is printed after the message.
    pub(crate) with_usage: bool,
}

impl Failure {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            code: INVALID,
            message: message.into(),
            with_usage: true,
        }
    }

    /// Returns the error of flags that cannot be parsed. A flag that does not exist has another exit code than an invalid value.
    pub(crate) fn unreadable(message: String) -> Self {
        let code = if message.contains("invalid argument") {
            INVALID
        } else {
            UNREADABLE
        };
        Self {
            code,
            message,
            with_usage: true,
        }
    }

    pub(crate) fn component(message: impl Into<String>) -> Self {
        Self {
            code: COMPONENT,
            message: message.into(),
            with_usage: false,
        }
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self {
            code: OTHER,
            message: message.into(),
            with_usage: false,
        }
    }

    /// Returns the failure of an output that nobody reads (`cfdot cells | head -1`). The exit code is that of a program that
    /// SIGPIPE ends, and nothing is printed.
    pub(crate) fn nobody_reads() -> Self {
        Self {
            code: 141,
            message: String::new(),
            with_usage: false,
        }
    }

    pub(crate) fn bbs(kind: ErrorType, message: &str) -> Self {
        Self::component(format!(
            "BBS error\nType {}: {}\nMessage: {message}",
            kind as i32,
            type_name(kind)
        ))
    }
}

/// Returns the failure of a call to `url`.
pub(crate) fn of_bbs(url: &str, error: &BbsError) -> Failure {
    match error {
        BbsError::Answer { kind, message } => Failure::bbs(*kind, message),
        BbsError::Unreachable { path, source } => {
            Failure::other(unreachable("Post", &format!("{url}{path}"), source))
        }
    }
}

const UNKNOWN_ISSUER: &str =
    "tls: failed to verify certificate: x509: certificate signed by unknown authority";

/// Returns `Post "https://host/path": the innermost reason`.
pub(crate) fn unreachable(method: &str, url: &str, error: &anyhow::Error) -> String {
    let reason = match error.chain().find_map(refused) {
        Some(refused) => refused,
        None => match error.root_cause().to_string() {
            reason if reason.contains("UnknownIssuer") => UNKNOWN_ISSUER.to_owned(),
            reason => reason,
        },
    };
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let reason = reason.replace("{host}", host);
    format!("{method} {}: {reason}", go_values::quoted(url))
}

fn refused(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    let kind = cause.downcast_ref::<std::io::Error>()?.kind();
    (kind == std::io::ErrorKind::ConnectionRefused)
        .then(|| "dial tcp {host}: connect: connection refused".to_owned())
}

/// Returns the failure of a locket call, in gRPC's error format.
pub(crate) fn of_locket(error: &LocketError) -> Failure {
    let (code, message) = match error {
        LocketError::Collision { .. } => ("AlreadyExists", "lock-collision"),
        LocketError::NotFound { .. } => ("NotFound", "resource-not-found"),
        LocketError::Failed(status) => {
            let code = format!("{:?}", status.code());
            let text = format!("rpc error: code = {code} desc = {}", status.message());
            return Failure::component(text);
        }
    };
    Failure::component(format!("rpc error: code = {code} desc = {message}"))
}

/// Returns the name of an error type. The original cfdot spells abbreviations in capitals.
fn type_name(kind: ErrorType) -> String {
    format!("{kind:?}")
        .replace("Lrp", "LRP")
        .replace("InvalidJson", "InvalidJSON")
        .replace("GuidGeneration", "GUIDGeneration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_spelled_as_in_the_original() {
        for (kind, name) in [
            (ErrorType::ResourceNotFound, "ResourceNotFound"),
            (ErrorType::InvalidJson, "InvalidJSON"),
            (ErrorType::GuidGeneration, "GUIDGeneration"),
            (
                ErrorType::ActualLrpCannotBeClaimed,
                "ActualLRPCannotBeClaimed",
            ),
        ] {
            assert_eq!(type_name(kind), name);
        }
    }
}
