//! Identifiers that follow a request: `X-Vcap-Request-Id`, Zipkin's B3 headers, the W3C trace context.

use crate::config::Settings;
use crate::context::RequestContext;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
const B3: HeaderName = HeaderName::from_static("b3");
const TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// What the access log tells when tracing is on.
pub(crate) static ZIPKIN: [HeaderName; 4] = [
    TRACE_ID,
    SPAN_ID,
    HeaderName::from_static("x-b3-parentspanid"),
    B3,
];
pub(crate) static W3C: [HeaderName; 2] = [TRACEPARENT, TRACESTATE];
/// A longer `tracestate` is ignored.
const LONGEST_STATE: usize = 2048;

pub(crate) fn apply(context: &mut RequestContext, headers: &mut HeaderMap, settings: &Settings) {
    let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    context.request_id = value(id.hyphenated().encode_lower(&mut text));
    headers.insert(REQUEST_ID, context.request_id.clone());
    if settings.zipkin {
        zipkin(headers, &id.simple().to_string(), rand::random());
    }
    if settings.w3c {
        w3c(
            headers,
            &id.simple().to_string(),
            rand::random(),
            &settings.w3c_tenant,
        );
    }
}

/// The client learns the id of its request, unless the app has set one.
pub(crate) fn answer(context: &RequestContext, headers: &mut HeaderMap) {
    if !context.request_id.is_empty() {
        headers
            .entry(REQUEST_ID)
            .or_insert_with(|| context.request_id.clone());
    }
}

/// A `b3` header is kept; else trace and span id are kept or made, and `b3` is built from them.
fn zipkin(headers: &mut HeaderMap, new_trace: &str, new_span: u64) {
    if headers.contains_key(&B3) {
        return;
    }
    if !(headers.contains_key(&TRACE_ID) && headers.contains_key(&SPAN_ID)) {
        headers.insert(TRACE_ID, value(new_trace));
        headers.insert(SPAN_ID, value(&format!("{new_span:016x}")));
    }
    let mut b3 = Vec::new();
    b3.extend_from_slice(headers[&TRACE_ID].as_bytes());
    b3.push(b'-');
    b3.extend_from_slice(headers[&SPAN_ID].as_bytes());
    if let Ok(b3) = HeaderValue::from_bytes(&b3) {
        headers.insert(B3, b3);
    }
}

/// A valid `traceparent` keeps its trace and flags and gets a new parent; our entry comes first in `tracestate`.
fn w3c(headers: &mut HeaderMap, new_trace: &str, parent: u64, tenant: &str) {
    let parent = format!("{parent:016x}");
    let old = headers
        .get(&TRACEPARENT)
        .and_then(|v| v.to_str().ok())
        .filter(|v| is_traceparent(v))
        .map(str::to_owned);
    let traceparent = match &old {
        Some(old) => format!("{}-{parent}-{}", &old[..35], &old[53..]),
        None => format!("00-{new_trace}-{parent}-01"),
    };
    headers.insert(TRACEPARENT, value(&traceparent));
    let ours = if tenant.is_empty() {
        "gorouter".to_owned()
    } else {
        format!("{tenant}@gorouter")
    };
    let mut state = format!("{ours}={parent}");
    let given = headers
        .get_all(&TRACESTATE)
        .iter()
        .filter_map(|v| v.to_str().ok())
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
    headers.insert(TRACESTATE, value(&state));
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

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_is_kept_or_built() {
        let mut headers = HeaderMap::new();
        zipkin(&mut headers, "ab", 1);
        assert_eq!(headers[B3], "ab-0000000000000001");
        zipkin(&mut headers, "cd", 2);
        assert_eq!(headers[B3], "ab-0000000000000001");
    }

    #[test]
    fn a_valid_traceparent_keeps_its_trace() {
        let mut headers = HeaderMap::new();
        headers.insert(
            TRACEPARENT,
            value("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        );
        headers.insert(TRACESTATE, value("gorouter=old, x=y"));
        w3c(&mut headers, "new", 1, "");
        assert_eq!(
            headers[TRACEPARENT],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000001-00"
        );
        assert_eq!(headers[TRACESTATE], "gorouter=0000000000000001,x=y");
        headers.insert(TRACEPARENT, value("nonsense"));
        w3c(&mut headers, "4bf92f3577b34da6a3ce929d0e0e4736", 2, "t");
        assert_eq!(
            headers[TRACEPARENT],
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000002-01"
        );
        assert_eq!(headers[TRACESTATE], "t@gorouter=0000000000000002");
    }
}
