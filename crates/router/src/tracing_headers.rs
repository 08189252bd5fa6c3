//! Identifiers that follow a request: `X-Vcap-Request-Id`, Zipkin's B3 headers, the W3C trace context.

use crate::config::Settings;
use crate::context::RequestContext;
use crate::exchange::Exchange;
use http1::{Fields, Known};
use std::fmt::Write as _;

/// What the access log tells when tracing is on.
pub(crate) static ZIPKIN: [Known; 4] = [
    Known::XB3TraceId,
    Known::XB3SpanId,
    Known::XB3ParentSpanId,
    Known::B3,
];
pub(crate) static W3C: [Known; 2] = [Known::Traceparent, Known::Tracestate];
/// A longer `tracestate` is ignored.
const LONGEST_STATE: usize = 2048;

pub(crate) fn apply(context: &mut RequestContext<'_>, fields: &mut Fields, settings: &Settings) {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    context.request_id = fields.store(text.as_bytes());
    fields.set_span(Known::XVcapRequestId, context.request_id);
    if settings.zipkin {
        zipkin(fields, &id.simple().to_string(), rand::random());
    }
    if settings.w3c {
        let (trace, parent) = (id.simple().to_string(), rand::random());
        w3c(fields, &trace, parent, &settings.w3c_tenant);
    }
}

/// The client learns the id of its request, unless the app has set one.
pub(crate) fn answer(context: &RequestContext<'_>, exchange: &mut Exchange) {
    let fields = &mut exchange.response.fields;
    if !context.request_id.is_empty() && !fields.contains(Known::XVcapRequestId) {
        let id = exchange.request.fields.slice(context.request_id);
        fields.append(Known::XVcapRequestId, id);
    }
}

/// A `b3` header is kept; else trace and span id are kept or made, and `b3` is built from them.
fn zipkin(fields: &mut Fields, new_trace: &str, new_span: u64) {
    if fields.contains(Known::B3) {
        return;
    }
    if !(fields.contains(Known::XB3TraceId) && fields.contains(Known::XB3SpanId)) {
        fields.set(Known::XB3TraceId, new_trace.as_bytes());
        fields.set(Known::XB3SpanId, format!("{new_span:016x}").as_bytes());
    }
    let mut b3 = Vec::new();
    b3.extend_from_slice(fields.get(Known::XB3TraceId).unwrap_or_default());
    b3.push(b'-');
    b3.extend_from_slice(fields.get(Known::XB3SpanId).unwrap_or_default());
    fields.set(Known::B3, &b3);
}

/// A valid `traceparent` keeps its trace and flags and gets a new parent; our entry comes first in `tracestate`.
fn w3c(fields: &mut Fields, new_trace: &str, parent: u64, tenant: &str) {
    let parent = format!("{parent:016x}");
    let old = fields
        .get_text(Known::Traceparent)
        .filter(|v| is_traceparent(v))
        .map(str::to_owned);
    let traceparent = match &old {
        Some(old) => format!("{}-{parent}-{}", &old[..35], &old[53..]),
        None => format!("00-{new_trace}-{parent}-01"),
    };
    fields.set(Known::Traceparent, traceparent.as_bytes());
    let ours = if tenant.is_empty() {
        "gorouter".to_owned()
    } else {
        format!("{tenant}@gorouter")
    };
    let mut state = format!("{ours}={parent}");
    let given = fields
        .get_all(Known::Tracestate)
        .filter_map(|v| std::str::from_utf8(v).ok())
        .collect::<Vec<_>>()
        .join(",");
    if old.is_some() && given.len() <= LONGEST_STATE {
        for entry in given
            .split(',')
            .map(str::trim)
            .filter(|e| !e.is_empty() && e.split('=').next() != Some(&ours))
        {
            let _ = write!(state, ",{entry}");
        }
    }
    fields.set(Known::Tracestate, state.as_bytes());
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, ids not all zero.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    matches!(parts[..], [version, trace, parent, flags]
        if hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && !zero(trace) && !zero(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_is_kept_or_built() {
        let mut fields = Fields::default();
        zipkin(&mut fields, "ab", 1);
        assert_eq!(fields.get_text(Known::B3), Some("ab-0000000000000001"));
        zipkin(&mut fields, "cd", 2);
        assert_eq!(fields.get_text(Known::B3), Some("ab-0000000000000001"));
    }

    #[test]
    fn a_valid_traceparent_keeps_its_trace() {
        let mut fields = Fields::default();
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        fields.append(Known::Traceparent, parent);
        fields.append(Known::Tracestate, b"gorouter=old, x=y");
        w3c(&mut fields, "new", 1, "");
        let both = |fields: &Fields| {
            [Known::Traceparent, Known::Tracestate]
                .map(|name| fields.get_text(name).unwrap().to_owned())
        };
        assert_eq!(
            both(&fields),
            [
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-00",
                "gorouter=0000000000000001,x=y"
            ]
        );
        fields.set(Known::Traceparent, b"nonsense");
        w3c(&mut fields, "4bf92f3577b34da6a3ce929d0e0e4736", 2, "t");
        assert_eq!(
            both(&fields),
            [
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01",
                "t@gorouter=0000000000000002"
            ]
        );
    }
}
