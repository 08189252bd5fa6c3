//! The requirements that a request must meet beyond those of its head's parser: its size, and the upgrade that it asks for.

use crate::config::Serving;
use http1::fields::items;
use http1::{Known, Limits, Refusal, Request, Span, Version};
use std::time::Duration;

/// The number of bytes by which a head may exceed the operator's limit and still be read. Such a request is answered and logged
/// as any other that the router refuses.
const BEYOND: usize = 64 << 10;

/// Returns how much of a request's head is read. The operator allows less ([`oversize`]).
pub(crate) fn request_limits(settings: &Serving) -> Limits {
    Limits {
        bytes: settings.max_request_head.saturating_add(BEYOND),
        fields: usize::MAX,
    }
}

/// Returns why a request is larger than the operator allows. A request of HTTP/2 is as large as it would be in HTTP/1.1.
/// `Host` does not count as a field, as in gorouter.
pub(crate) fn oversize(request: &Request, settings: &Serving) -> Option<Refusal> {
    let fields = &request.fields;
    let size = match request.version {
        Version::Http2 => fields.stored() + LINES_OF_HTTP1 + PER_FIELD_OF_HTTP1 * fields.len(),
        Version::Http10 | Version::Http11 => fields.stored(),
    };
    let most = most_fields(settings.max_request_headers);
    if size > settings.max_request_head {
        Some(Refusal::HeadTooLarge)
    } else if fields.len() > most && fields.len() - fields.get_all(Known::Host).count() > most {
        Some(Refusal::TooManyFields)
    } else {
        None
    }
}

/// The bytes of a head's lines that HTTP/1.1 has and HTTP/2 has not: both blanks of the request line, the version, the end of
/// that line, and the empty line. The next constant counts the colon, the blank and the end of a field's line.
const LINES_OF_HTTP1: usize = "  HTTP/1.1\r\n\r\n".len();
const PER_FIELD_OF_HTTP1: usize = ": \r\n".len();

pub(crate) fn response_limits(settings: &Serving) -> Limits {
    Limits {
        bytes: settings.max_response_head,
        fields: most_fields(settings.max_response_headers),
    }
}

/// Returns the largest number of fields for a setting in which zero stands for any number.
fn most_fields(setting: usize) -> usize {
    if setting == 0 { usize::MAX } else { setting }
}

/// Returns the time-out for a setting in which zero stands for none: a year is long enough for that.
pub(crate) fn patience(setting: Duration) -> Duration {
    if setting.is_zero() {
        Duration::from_secs(365 * 24 * 3600)
    } else {
        setting
    }
}

/// Returns how long an endpoint may take for a request. The client's protocol decides it, as in gorouter: operators set another
/// time for HTTP/2 because of gRPC's long calls, whatever the backend speaks.
pub(crate) fn endpoint_timeout(settings: &Serving, client: Version) -> Duration {
    patience(match client {
        Version::Http2 => settings.http2_endpoint_timeout,
        Version::Http10 | Version::Http11 => settings.endpoint_timeout,
    })
}

/// An upgrade that the client asked for: the position of its token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgrade {
    pub(crate) token: Span,
}

/// Returns the upgrade that the request asks for: any token except `h2c`. After an upgrade to `h2c` any number of requests would
/// pass unseen.
pub(crate) fn upgrade(request: &Request) -> Option<Upgrade> {
    let token = request.fields.span(Known::Upgrade)?;
    let mut tokens = items(request.fields.get_all(Known::Upgrade));
    let h2c = tokens.any(|token| token.eq_ignore_ascii_case(b"h2c"));
    (request.upgrade && !h2c).then_some(Upgrade { token })
}

/// The text that gorouter writes to both logs about a `;`, which frameworks once took for a separator in a query.
pub(crate) const SEMICOLONS: &str = "deprecated-semicolon-params";

pub(crate) fn has_semicolons(request: &Request) -> bool {
    request.received_target().contains(&b';')
}
