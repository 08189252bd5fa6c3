//! The fault of a failed attempt, and what it means (as gorouter `proxy/fails` and `proxy/round_tripper/error_handler.go`).
//!
//! | Fault | another endpoint? | the endpoint | status |
//! |---|---|---|---|
//! | nobody listens | yes, and it costs no attempt | not listening | 502 |
//! | other dial, handshake timeout | yes | unreachable | 502 |
//! | no TLS there, no common cipher | yes | unreachable | 525 |
//! | another alert, such as a version of TLS that it does not speak | yes | unreachable | 502 |
//! | wrong name | yes | wrong name: removed | 503 |
//! | our certificate refused | yes | unreachable | 496 |
//! | unknown authority, expired | yes | unreachable | 526 |
//! | reset | no | ended early | 502 |
//! | stream refused by HTTP/2, unseen | yes, after the same one was asked again | nothing | 502 |
//! | unsent; ended before an answer | if it can be repeated | nothing | 502 |
//! | timeout | no | nothing | 504 (502 in compatibility) |
//! | bad answer | no | nothing | 502 |
//! | client's body malformed, or stuck | no | nothing | 400, 408 |
//! | client gone | no | nothing | 499 |

use route_table::registry::Failure;
use rustls::{AlertDescription, CertificateError, InvalidMessage};
use std::error::Error;
use std::io;

/// The reason why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("dial tcp {address}: {reason}")]
    Dial { address: String, reason: String },
    #[error("route service {host} resolves to a blocked address")]
    Blocked { host: String },
    #[error("tls handshake timeout")]
    HandshakeTimeout,
    #[error("tls: first record does not look like a TLS handshake")]
    NotTls,
    #[error("tls: handshake failure: {0}")]
    Handshake(String),
    /// The backend ended the handshake with an alert. The text is Go's, because tools look for it.
    #[error("incomplete request (remote error: tls: {0})")]
    Alert(String),
    #[error("tls: certificate is valid for {presented}, not {expected}")]
    WrongName { expected: String, presented: String },
    #[error("tls: backend refused the router's certificate: {0}")]
    OurCertificate(String),
    #[error("tls: failed to verify certificate: {0}")]
    TheirCertificate(String),
    #[error("connection reset by peer")]
    Reset,
    #[error("EOF")]
    Ended,
    #[error("connection closed before the request was sent")]
    Unsent,
    /// The backend refused the stream: by the rules of HTTP/2 it has not seen the request.
    #[error("stream refused by the backend")]
    StreamRefused,
    #[error("context deadline exceeded")]
    Timeout,
    #[error("context canceled")]
    ClientGone,
    #[error("request body: {0}")]
    BadBody(http1::Refusal),
    #[error("request body timed out")]
    BodyTimeout,
    #[error("the request cannot be expressed in HTTP/2")]
    NotForHttp2,
    #[error("invalid response: {0}")]
    BadResponse(String),
    /// The answer's head has more bytes than the operator allows. The text is Go's, because tools look for it.
    #[error(
        "net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded {0} bytes; aborted"
    )]
    LargeHead(usize),
    #[error("{0}")]
    Other(String),
}

impl Fault {
    /// Returns whether the attempt failed before the backend could have seen the request. `Ended` is no such fault: only a
    /// request that may be repeated is sent again after it.
    pub(crate) fn came_before_request(&self) -> bool {
        matches!(
            self,
            Self::Dial { .. }
                | Self::HandshakeTimeout
                | Self::NotTls
                | Self::Handshake(_)
                | Self::Alert(_)
                | Self::WrongName { .. }
                | Self::OurCertificate(_)
                | Self::TheirCertificate(_)
                | Self::Unsent
                | Self::StreamRefused
        )
    }

    pub(crate) fn may_repeat(&self) -> bool {
        self.came_before_request() || matches!(self, Self::Ended)
    }

    /// Returns the failure of the endpoint that the fault is; `None`: the endpoint is not to blame.
    pub(crate) fn blame(&self) -> Option<Failure> {
        match self {
            Self::WrongName { .. } => Some(Failure::WrongName),
            Self::Dial { reason, .. } if reason.ends_with("connection refused") => {
                Some(Failure::NotListening)
            }
            Self::Dial { .. }
            | Self::HandshakeTimeout
            | Self::NotTls
            | Self::Handshake(_)
            | Self::Alert(_)
            | Self::OurCertificate(_)
            | Self::TheirCertificate(_) => Some(Failure::Unreachable),
            Self::Reset => Some(Failure::EndedEarly),
            Self::Ended
            | Self::Unsent
            | Self::StreamRefused
            | Self::Timeout
            | Self::ClientGone
            | Self::BadBody(_)
            | Self::BodyTimeout
            | Self::NotForHttp2
            | Self::Blocked { .. }
            | Self::BadResponse(_)
            | Self::LargeHead(_)
            | Self::Other(_) => None,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::NotTls | Self::Handshake(_) => 525,
            Self::WrongName { .. } => 503,
            Self::TheirCertificate(_) => 526,
            Self::OurCertificate(_) => 496,
            Self::ClientGone => 499,
            Self::Timeout => 504,
            Self::BadBody(refusal) => refusal.status(),
            Self::NotForHttp2 => 400,
            Self::BodyTimeout => 408,
            _ => 502,
        }
    }

    /// Returns the fault of a failed handshake.
    pub(crate) fn from_handshake(error: &io::Error) -> Self {
        match rustls_error(error) {
            Some(error) => Self::from_rustls(error),
            None if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            ) =>
            {
                Self::Handshake(format!("connection closed during the handshake ({error})"))
            }
            None => Self::Handshake(error.to_string()),
        }
    }

    /// Returns the fault of an established connection that failed before an answer; `sent`: whether the request's head had gone
    /// out.
    pub(crate) fn from_io(error: &io::Error, sent: bool) -> Self {
        if let Some(error) = rustls_error(error) {
            return Self::from_rustls(error);
        }
        if !sent {
            return Self::Unsent;
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::Ended,
            io::ErrorKind::InvalidData => Self::BadResponse(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }

    /// Returns the fault of a failed HTTP/2 stream. The backend has not seen a stream that it refused, nor one beyond the last
    /// that it accepted.
    pub(crate) fn from_http2(error: &h2::Error) -> Self {
        if let Some(io) = error.get_io() {
            return Self::from_io(io, true);
        }
        // The library reports a peer's GOAWAY on streams beyond the last one that it names, and on no other.
        let unseen = error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away();
        if unseen && error.is_remote() {
            return Self::StreamRefused;
        }
        match error.reason() {
            Some(_) if error.is_library() => Self::BadResponse(error.to_string()),
            Some(_) => Self::Other(format!("stream error: {error}")),
            None => Self::Ended,
        }
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        use rustls::Error as Tls;
        match error {
            Tls::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            Tls::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected,
                presented,
            }) => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented_names(presented),
            },
            Tls::InvalidCertificate(CertificateError::NotValidForName) => Self::WrongName {
                expected: "the registered name".into(),
                presented: "another".into(),
            },
            Tls::InvalidCertificate(why) => Self::TheirCertificate(why.to_string()),
            Tls::AlertReceived(alert) => match alert {
                AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::AccessDenied => Self::OurCertificate(format!("{alert:?}")),
                AlertDescription::HandshakeFailure => {
                    Self::Handshake("remote error: tls: handshake failure".into())
                }
                alert => Self::Alert(alert_text(*alert)),
            },
            other => Self::Handshake(other.to_string()),
        }
    }
}

/// Returns Go's name of an alert, or the library's where Go has none.
fn alert_text(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let text = match alert {
        A::UnexpectedMessage => "unexpected message",
        A::BadRecordMac => "bad record MAC",
        A::RecordOverflow => "record overflow",
        A::IllegalParameter => "illegal parameter",
        A::DecodeError => "error decoding message",
        A::DecryptError => "error decrypting message",
        A::ProtocolVersion => "protocol version not supported",
        A::InsufficientSecurity => "insufficient security level",
        A::InternalError => "internal error",
        A::InappropriateFallback => "inappropriate fallback",
        A::UserCanceled => "user canceled",
        A::NoRenegotiation => "no renegotiation",
        A::MissingExtension => "missing extension",
        A::UnsupportedExtension => "unsupported extension",
        A::UnrecognisedName => "unrecognized name",
        A::UnknownPSKIdentity => "unknown PSK identity",
        A::NoApplicationProtocol => "no application protocol",
        other => return format!("{other:?}"),
    };
    text.into()
}

/// Returns `DnsName("a")` and `IpAddress(1.2.3.4)` as `a, 1.2.3.4`.
fn presented_names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name".into();
    }
    let bare = |name: &String| {
        name.split_once('(')
            .map_or(name.as_str(), |(_, rest)| rest.trim_end_matches(')'))
            .trim_matches('"')
            .to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}

/// Returns the TLS error inside of an error, if there is one.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An io::Error hides the error it wraps from `source`.
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            let inner: &(dyn Error + 'static) = inner;
            if let Some(found) = rustls_error(inner) {
                return Some(found);
            }
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_errors_keep_their_meaning_inside_io_errors() {
        let wrap = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        for (error, status) in [
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                525,
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::HandshakeFailure),
                525,
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                496,
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
                502,
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::InternalError),
                502,
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                526,
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::Expired),
                526,
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidForName),
                503,
            ),
        ] {
            let text = error.to_string();
            assert_eq!(
                Fault::from_handshake(&wrap(error)).status(),
                status,
                "{text}"
            );
        }
    }

    #[test]
    fn alerts_have_the_texts_of_the_original() {
        let alert = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
        let fault = Fault::from_handshake(&io::Error::other(alert));
        let words = "incomplete request (remote error: tls: protocol version not supported)";
        assert_eq!(fault.to_string(), words);
    }

    #[test]
    fn both_names_are_in_the_error() {
        let expected = rustls::pki_types::ServerName::try_from("inst-a").unwrap();
        let error = rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            presented: vec!["DnsName(\"inst-b\")".into(), "IpAddress(10.0.0.1)".into()],
        });
        let fault = Fault::from_handshake(&io::Error::other(error));
        assert_eq!(
            fault.to_string(),
            "tls: certificate is valid for inst-b, 10.0.0.1, not inst-a"
        );
    }
}
