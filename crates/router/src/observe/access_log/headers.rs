//! The request headers that each line ends with.

use crate::config::Lasting;
use http1::Known;

/// The headers that the access log contains when tracing is on.
static ZIPKIN: [Known; 4] = [
    Known::XB3TraceId,
    Known::XB3SpanId,
    Known::XB3ParentSpanId,
    Known::B3,
];
static W3C: [Known; 2] = [Known::Traceparent, Known::Tracestate];

/// A request header that is written at the end of each line.
#[derive(Debug)]
pub(super) struct LoggedHeader {
    pub(super) name: String,
    /// The name in the log: `x_request_id`.
    pub(super) label: String,
}

impl LoggedHeader {
    pub(super) fn new(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let label = name.replace('-', "_");
        Self { name, label }
    }

    /// Returns the headers that the operator names, then those of the tracing that is on.
    pub(super) fn of(settings: &Lasting) -> Vec<Self> {
        let asked = settings.logged_headers.iter();
        let mut names: Vec<&str> = asked.map(http::HeaderName::as_str).collect();
        let mut tracing = |on: bool, headers: &[Known]| {
            names.extend(headers.iter().filter(|_| on).map(|known| known.name()));
        };
        tracing(settings.zipkin, &ZIPKIN);
        tracing(settings.w3c, &W3C);
        names.into_iter().map(Self::new).collect()
    }
}
