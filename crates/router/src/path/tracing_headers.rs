//! Identifiers that follow a request: `X-Vcap-Request-Id`, Zipkin's B3 headers, the W3C trace context.

use crate::config::Lasting;
use crate::observe::trace::ids::{Trace, is_traceparent};
use crate::path::context::RequestContext;
use crate::path::exchange::Exchange;
use http1::{Fields, Known};
use std::fmt::Write as _;

/// The longest `tracestate` in bytes; a longer one is ignored.
const LONGEST_STATE: usize = 2048;

pub(crate) fn apply(context: &mut RequestContext<'_>, fields: &mut Fields, settings: &Lasting) {
    let fresh = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut given = None;
    if settings.zipkin {
        given = zipkin(fields, fresh);
    }
    if settings.w3c {
        let span = format!("{:016x}", rand::random::<u64>());
        let joined = w3c(fields, fresh, given.as_ref(), span, &settings.w3c_tenant);
        given = given.or(joined);
    }
    let id = given.as_ref().and_then(Trace::request_id).unwrap_or(fresh);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    context.request_id = fields.store(text.as_bytes());
    fields.set_span(Known::XVcapRequestId, context.request_id);
}

/// Returns the ids of the request's trace and span, as hexadecimal digits, for code that has no access to its headers.
pub(crate) fn ids(fields: &Fields, settings: &Lasting) -> Option<(String, String)> {
    let pair = |text: &str, first: usize| {
        let mut parts = text.split('-').skip(first);
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    };
    let zipkin = || pair(fields.get_text(Known::B3)?, 0);
    let w3c = || pair(fields.get_text(Known::Traceparent)?, 1);
    let own = || {
        let trace = Trace::of_request_id(fields)?;
        Some((trace.id, trace.span))
    };
    let zipkin = settings.zipkin.then(zipkin).flatten();
    let w3c = || settings.w3c.then(w3c).flatten();
    zipkin.or_else(w3c).or_else(own)
}

/// Adds the request's id to the response, unless the app has set one.
pub(crate) fn answer(context: &RequestContext<'_>, exchange: &mut Exchange) {
    let fields = &mut exchange.response.fields;
    if !context.request_id.is_empty() && !fields.contains(Known::XVcapRequestId) {
        let id = exchange.request.fields.slice(context.request_id);
        fields.append(Known::XVcapRequestId, id);
    }
}

/// Keeps the trace of a `b3` header, or else that of the pair of trace and span; if neither exists, it makes both. It builds `b3`
/// from the pair. An invalid pair is forwarded unchanged, without a `b3`. `Some`: the trace that the client sent.
fn zipkin(fields: &mut Fields, fresh: uuid::Uuid) -> Option<Trace> {
    let b3 = fields.get_text(Known::B3).unwrap_or_default();
    if matches!(b3, "0" | "1" | "d") {
        return None;
    }
    let mut parts = b3.split('-');
    if let Some(trace) = Trace::of_b3(parts.next(), parts.next()) {
        return Some(trace);
    }
    if !b3.is_empty() {
        tracing::debug!(b3, "failed-to-parse-single-header");
    }
    let id = fields.get_text(Known::XB3TraceId);
    let span = fields.get_text(Known::XB3SpanId);
    if id.is_some_and(|id| !id.is_empty()) && span.is_some_and(|span| !span.is_empty()) {
        let Some(trace) = Trace::of_b3(id, span) else {
            tracing::debug!(id, span, "failed-to-parse-b3-trace-id");
            return None;
        };
        let b3 = single(fields, &trace);
        fields.set(Known::B3, b3.as_bytes());
        return Some(trace);
    }
    let made = Trace::new(fresh);
    fields.set(Known::XB3TraceId, made.id.as_bytes());
    fields.set(Known::XB3SpanId, made.span.as_bytes());
    fields.set(Known::B3, format!("{}-{}", made.id, made.span).as_bytes());
    None
}

/// Returns the pair as a single header, with the sampling decision and the parent.
fn single(fields: &Fields, trace: &Trace) -> String {
    let mut b3 = format!("{}-{}", trace.id, trace.span);
    let sampled = match (
        fields.get_text(Known::XB3Flags),
        fields.get_text(Known::XB3Sampled),
    ) {
        (Some("1"), _) => "d",
        (_, Some("1" | "true")) => "1",
        (_, Some("0" | "false")) => "0",
        _ => return b3,
    };
    let _ = write!(b3, "-{sampled}");
    if let Some(parent) = fields.get_text(Known::XB3ParentSpanId) {
        let _ = write!(b3, "-{parent}");
    }
    b3
}

/// Keeps the trace and flags of a valid `traceparent` and gives it a new parent, `span`; otherwise the trace is that of B3, or a
/// new one. Our entry comes first in `tracestate`. `Some`: the trace that the client sent.
fn w3c(
    fields: &mut Fields,
    fresh: uuid::Uuid,
    b3: Option<&Trace>,
    span: String,
    tenant: &str,
) -> Option<Trace> {
    let old = fields
        .get_text(Known::Traceparent)
        .filter(|v| is_traceparent(v))
        .map(str::to_owned);
    let (traceparent, parent, given) = match &old {
        Some(old) => {
            let joined = Trace {
                id: old[3..35].to_owned(),
                span: span.clone(),
            };
            // We know later versions no better than this one, so version 00 is written.
            let traceparent = format!("00-{}-{span}-{}", joined.id, &old[53..]);
            (traceparent, span, Some(joined))
        }
        None => {
            let new = Trace::new(fresh);
            let of = b3.unwrap_or(&new);
            let traceparent = format!("00-{:0>32}-{}-01", of.id, of.span);
            (traceparent, of.span.clone(), None)
        }
    };
    fields.set(Known::Traceparent, traceparent.as_bytes());
    let ours = if tenant.is_empty() {
        "gorouter".to_owned()
    } else {
        format!("{tenant}@gorouter")
    };
    let mut state = format!("{ours}={parent}");
    let given_state = fields
        .get_all(Known::Tracestate)
        .filter_map(|v| std::str::from_utf8(v).ok())
        .collect::<Vec<_>>()
        .join(",");
    if old.is_some() && given_state.len() <= LONGEST_STATE {
        for entry in given_state
            .split(',')
            .map(str::trim)
            .filter(|e| !e.is_empty() && e.split('=').next() != Some(&ours))
        {
            let _ = write!(state, ",{entry}");
        }
    }
    fields.set(Known::Tracestate, state.as_bytes());
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    const FRESH: uuid::Uuid = uuid::Uuid::from_u128(0x11111111_2222_4333_8444_555555555555);

    fn with(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append_spelled(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn b3_is_kept_or_built() {
        let made = "11111111222243338444555555555555-8444555555555555";
        for (lines, b3, given) in [
            (vec![], Some(made.to_owned()), None),
            (vec![("b3", "nonsense")], Some(made.to_owned()), None),
            (vec![("b3", "0")], Some("0".into()), None),
            (vec![("b3", "PAIR-0")], Some("PAIR-0".into()), Some(ID)),
            (vec![("x-b3-traceid", ID)], Some(made.to_owned()), None),
            (
                vec![("x-b3-traceid", "z"), ("x-b3-spanid", "y")],
                None,
                None,
            ),
            (
                vec![("x-b3-traceid", ID), ("x-b3-spanid", SPAN)],
                Some("PAIR".into()),
                Some(ID),
            ),
            (
                vec![
                    ("x-b3-traceid", ID),
                    ("x-b3-spanid", SPAN),
                    ("x-b3-sampled", "0"),
                ],
                Some("PAIR-0".into()),
                Some(ID),
            ),
            (
                vec![
                    ("x-b3-traceid", ID),
                    ("x-b3-spanid", SPAN),
                    ("x-b3-flags", "1"),
                    ("x-b3-parentspanid", "a"),
                ],
                Some("PAIR-d-a".into()),
                Some(ID),
            ),
        ] {
            let pair = format!("{ID}-{SPAN}");
            let lines: Vec<(&str, String)> = lines
                .into_iter()
                .map(|(name, value)| (name, value.replace("PAIR", &pair)))
                .collect();
            let said: Vec<_> = lines.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let mut fields = with(&said);
            let trace = zipkin(&mut fields, FRESH);
            let b3 = b3.map(|b3| b3.replace("PAIR", &pair));
            assert_eq!(fields.get_text(Known::B3), b3.as_deref(), "{said:?}");
            assert_eq!(trace.map(|trace| trace.id).as_deref(), given, "{said:?}");
        }
    }

    /// The id of a trace finds the request by its id, and both kinds of tracing use one trace.
    #[test]
    fn a_requests_id_is_its_traces() {
        let of = |id: &str| Trace {
            id: id.into(),
            span: SPAN.into(),
        };
        let id = of(ID).request_id().unwrap().hyphenated().to_string();
        assert_eq!(id, "4bf92f35-77b3-4da6-a3ce-929d0e0e4736");
        assert_eq!(of(SPAN).request_id(), None);
        for (b3, traceparent) in [
            (ID, format!("00-{ID}-{SPAN}-01")),
            (SPAN, format!("00-0000000000000000{SPAN}-{SPAN}-01")),
        ] {
            let mut fields = Fields::default();
            assert_eq!(
                w3c(&mut fields, FRESH, Some(&of(b3)), "new".into(), ""),
                None
            );
            assert_eq!(fields.get_text(Known::Traceparent), Some(&*traceparent));
            let state = format!("gorouter={SPAN}");
            assert_eq!(fields.get_text(Known::Tracestate), Some(&*state));
        }
    }

    #[test]
    fn ids_for_others_are_those_in_the_headers() {
        let mut fields = Fields::default();
        let id = b"8d2f6cd5-0000-4000-8000-0000000000ab";
        fields.append(Known::XVcapRequestId, id);
        let parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        fields.append(Known::Traceparent, parent);
        fields.append(Known::B3, b"ab-cd-1");
        for (zipkin, w3c, trace, span) in [
            (true, true, "ab", "cd"),
            (
                false,
                true,
                "4bf92f3577b34da6a3ce929d0e0e4736",
                "00f067aa0ba902b7",
            ),
            (
                false,
                false,
                "8d2f6cd50000400080000000000000ab",
                "80000000000000ab",
            ),
        ] {
            let settings = Lasting {
                zipkin,
                w3c,
                ..Lasting::default()
            };
            let found = ids(&fields, &settings);
            assert_eq!(found, Some((trace.into(), span.into())));
        }
    }

    #[test]
    fn a_valid_traceparent_keeps_its_trace() {
        let span = || "0000000000000001".to_owned();
        let given = format!("cc-{ID}-{SPAN}-00");
        let mut fields = with(&[("traceparent", &given), ("tracestate", "gorouter=old, x=y")]);
        let both = |fields: &Fields| {
            [Known::Traceparent, Known::Tracestate]
                .map(|name| fields.get_text(name).unwrap().to_owned())
        };
        let joined = w3c(&mut fields, FRESH, None, span(), "");
        assert_eq!(joined.unwrap().id, ID);
        assert_eq!(
            both(&fields),
            [
                &format!("00-{ID}-0000000000000001-00"),
                "gorouter=0000000000000001,x=y"
            ]
        );
        fields.set(Known::Traceparent, b"nonsense");
        assert_eq!(w3c(&mut fields, FRESH, None, span(), "t"), None);
        assert_eq!(
            both(&fields),
            [
                "00-11111111222243338444555555555555-8444555555555555-01",
                "t@gorouter=8444555555555555"
            ]
        );
    }
}
