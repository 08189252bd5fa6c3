//! What a request must be to go on, beyond what its head's parser has seen to: how large it may be, and the upgrade that
//! it asks for.

use crate::config::Serving;
use http1::fields::items;
use http1::{Known, Limits, Refusal, Request, Span, Version};
use std::time::Duration;

/// A head that is larger than the operator allows, by no more than this, is read all the same: its request is answered and
/// logged as any other that the router refuses.
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

/// These bytes are in HTTP/1.1 and not in HTTP/2: the blank before the version, the version and the ends of both lines; the colon, the blank and the end of
/// a field's line.
const LINES_OF_HTTP1: usize = "  HTTP/1.1\r\n\r\n".len();
const PER_FIELD_OF_HTTP1: usize = ": \r\n".len();

pub(crate) fn response_limits(settings: &Serving) -> Limits {
    Limits {
        bytes: settings.max_response_head,
        fields: most_fields(settings.max_response_headers),
    }
}

/// A number of fields as it is set, where zero stands for any number.
fn most_fields(setting: usize) -> usize {
    if setting == 0 { usize::MAX } else { setting }
}

/// A time-out as it is set, where zero stands for none: a year is long enough for that.
pub(crate) fn patience(setting: Duration) -> Duration {
    if setting.is_zero() {
        Duration::from_secs(365 * 24 * 3600)
    } else {
        setting
    }
}

/// How long an endpoint may take for a request. What the client speaks decides it, as in gorouter: an operator sets another
/// time for HTTP/2 because of gRPC's long calls, whatever the backend behind them speaks.
pub(crate) fn endpoint_timeout(settings: &Serving, client: Version) -> Duration {
    patience(match client {
        Version::Http2 => settings.http2_endpoint_timeout,
        Version::Http10 | Version::Http11 => settings.endpoint_timeout,
    })
}

/// An upgrade that the client asked for: where its token stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgrade {
    pub(crate) token: Span,
}

/// Any token but `h2c`: behind that, requests would pass unseen, as many as the client likes.
pub(crate) fn upgrade(request: &Request) -> Option<Upgrade> {
    let token = request.fields.span(Known::Upgrade)?;
    let mut tokens = items(request.fields.get_all(Known::Upgrade));
    let h2c = tokens.any(|token| token.eq_ignore_ascii_case(b"h2c"));
    (request.upgrade && !h2c).then_some(Upgrade { token })
}

/// What gorouter says of a `;`, which frameworks once took for a separator of a query: a word in both its logs.
pub(crate) const SEMICOLONS: &str = "deprecated-semicolon-params";

pub(crate) fn has_semicolons(request: &Request) -> bool {
    request.asked().contains(&b';')
}
