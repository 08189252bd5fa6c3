//! The ids of traces and spans in headers: their forms, and the marks by which a client asks for a trace of its request. All of it is
//! pure.

use crate::config::Lasting;
use http1::{Fields, Known};

/// The trace that a request belongs to, and a span of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The id of the trace: 16 or 32 hex digits.
    pub(crate) id: String,
    /// The id of the span: 16 hex digits.
    pub(crate) span: String,
}

impl Trace {
    /// Creates a trace from a request's id. The two have their digits in common, so that a search for one finds the other.
    pub(crate) fn new(id: uuid::Uuid) -> Self {
        let id = id.simple().to_string();
        let span = id[16..].to_owned();
        Self { id, span }
    }

    /// Returns the trace's id in the form of a request's id, if it has that length.
    pub(crate) fn request_id(&self) -> Option<uuid::Uuid> {
        (self.id.len() == 32).then(|| uuid::Uuid::parse_str(&self.id).ok())?
    }

    /// Returns the trace that is made from the id in `X-Vcap-Request-Id`.
    pub(crate) fn of_request_id(fields: &Fields) -> Option<Self> {
        let id = uuid::Uuid::try_parse(fields.get_text(Known::XVcapRequestId)?);
        id.ok().map(Self::new)
    }

    /// Returns the trace of two ids as B3 writes them, if both are valid.
    pub(crate) fn of_b3(id: Option<&str>, span: Option<&str>) -> Option<Self> {
        let (id, span) = (id?, span?);
        let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let whole = matches!(id.len(), 16 | 32) && span.len() == 16 && hex(id) && hex(span);
        whole.then(|| Self {
            id: id.to_ascii_lowercase(),
            span: span.to_ascii_lowercase(),
        })
    }

    /// Returns the trace of a valid `traceparent`.
    fn of_w3c(traceparent: &str) -> Option<Self> {
        is_traceparent(traceparent).then(|| Self {
            id: traceparent[3..35].to_owned(),
            span: traceparent[36..52].to_owned(),
        })
    }
}

/// Returns whether the text is `00-<32 hex>-<16 hex>-<2 hex>` with ids that are not all zero.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    matches!(parts[..], [version, trace, parent, flags]
        if hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16) && hex(flags, 2) && !zero(trace) && !zero(parent))
}

/// The headers by which a client asks for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    B3,
    W3c,
}

/// A client's wish that its request is traced.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    form: Form,
    /// The ids that the client sent.
    sent: Option<Trace>,
    /// Whether the client debugs this one request (B3's debug flag). Sampled requests may be many.
    pub(super) is_debug: bool,
}

/// The ids of the router's own span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnSpan {
    /// The id of the trace: 32 hex digits.
    pub(crate) trace: String,
    /// The id of the span: 16 hex digits.
    pub(crate) span: String,
    /// The client's span, of which the router's is a part; `None`: the trace begins here.
    pub(crate) parent: Option<String>,
}

/// Returns the mark in a request's headers as they came, if the operator's configuration permits its form.
pub(crate) fn mark(fields: &Fields, settings: &Lasting) -> Option<Mark> {
    let w3c = settings.w3c.then(|| w3c(fields)).flatten();
    let b3 = settings.zipkin.then(|| b3(fields)).flatten();
    let is_debug = b3.as_ref().is_some_and(|b3| b3.is_debug);
    // A trace that both forms mark is that of `traceparent`, because the router writes a span of its own there.
    w3c.map(|mark| Mark { is_debug, ..mark }).or(b3)
}

fn w3c(fields: &Fields) -> Option<Mark> {
    let traceparent = fields.get_text(Known::Traceparent)?;
    let flags = u8::from_str_radix(traceparent.get(53..)?, 16).ok()?;
    if flags & 1 == 0 {
        return None;
    }
    Some(Mark {
        form: Form::W3c,
        sent: Some(Trace::of_w3c(traceparent)?),
        is_debug: false,
    })
}

/// Returns the mark of B3's headers. The decision of the single header wins.
fn b3(fields: &Fields) -> Option<Mark> {
    let single = fields.get_text(Known::B3).unwrap_or_default();
    let mut parts = single.split('-');
    let parts = [parts.next(), parts.next(), parts.next()];
    let state = match parts {
        [Some(state @ ("0" | "1" | "d")), None, None] => state,
        [_, _, Some(state)] => state,
        _ if fields.get_text(Known::XB3Flags) == Some("1") => "d",
        _ => match fields.get_text(Known::XB3Sampled) {
            Some("1" | "true") => "1",
            _ => "",
        },
    };
    let is_debug = state == "d";
    if !is_debug && state != "1" {
        return None;
    }
    let of_single = || Trace::of_b3(parts[0], parts[1]);
    let of_pair = || {
        let (id, span) = (Known::XB3TraceId, Known::XB3SpanId);
        Trace::of_b3(fields.get_text(id), fields.get_text(span))
    };
    Some(Mark {
        form: Form::B3,
        sent: of_single().or_else(of_pair),
        is_debug,
    })
}

impl Mark {
    /// Returns the ids of the router's span. `outgoing`: the headers that the backend got. `fresh`: a random id.
    pub(crate) fn own_span(&self, outgoing: &Fields, fresh: u64) -> Option<OwnSpan> {
        let outgoing = match self.form {
            Form::W3c => outgoing
                .get_text(Known::Traceparent)
                .and_then(Trace::of_w3c),
            Form::B3 => {
                let single = outgoing.get_text(Known::B3).unwrap_or_default();
                let mut parts = single.split('-');
                Trace::of_b3(parts.next(), parts.next())
            }
        }
        .or_else(|| Trace::of_request_id(outgoing))?;
        // No receiver accepts an id of zeros, which B3 does not forbid.
        let zero = |id: &str| id.bytes().all(|b| b == b'0');
        let own = own_span(self.sent.as_ref(), &outgoing, fresh);
        (!zero(&own.trace) && !zero(&own.span)).then_some(own)
    }
}

/// Decides which span is the router's. Where the router wrote a span of its own into the headers, this is the one, so that the app's
/// spans are parts of it. Where it passed on the client's, its own is a new part of that.
fn own_span(sent: Option<&Trace>, outgoing: &Trace, fresh: u64) -> OwnSpan {
    let sent = sent.filter(|sent| sent.id == outgoing.id);
    let passed_on = sent.is_some_and(|sent| sent.span == outgoing.span);
    OwnSpan {
        trace: format!("{:0>32}", outgoing.id),
        span: match passed_on {
            true => format!("{fresh:016x}"),
            false => outgoing.span.clone(),
        },
        parent: sent.map(|sent| sent.span.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn with(lines: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append_spelled(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    fn settings(zipkin: bool, w3c: bool) -> Lasting {
        Lasting {
            zipkin,
            w3c,
            ..Lasting::default()
        }
    }

    /// Returns the form of the mark, whether it is that of a debugger, and whether it has ids.
    fn marked(lines: &[(&str, &str)], zipkin: bool, w3c: bool) -> Option<(Form, bool, bool)> {
        let mark = mark(&with(lines), &settings(zipkin, w3c))?;
        Some((mark.form, mark.is_debug, mark.sent.is_some()))
    }

    #[test]
    fn marks_are_read_in_all_their_forms() {
        let pair = format!("{ID}-{SPAN}");
        let single = |state: &str| format!("{pair}-{state}");
        let parent = |flags: &str| format!("00-{ID}-{SPAN}-{flags}");
        let b3 = |debug, ids| Some((Form::B3, debug, ids));
        for (name, value, wanted) in [
            ("b3", "1", b3(false, false)),
            ("b3", "d", b3(true, false)),
            ("b3", "0", None),
            ("b3", "", None),
            ("b3", &*pair, None),
            ("b3", &*single("1"), b3(false, true)),
            ("b3", &*single("d"), b3(true, true)),
            ("b3", &*single("0"), None),
            ("b3", &*single("d-00f067aa0ba902b8"), b3(true, true)),
            ("X-B3-Flags", "1", b3(true, false)),
            ("x-b3-flags", "0", None),
            ("X-B3-Sampled", "1", b3(false, false)),
            ("X-B3-Sampled", "true", b3(false, false)),
            ("X-B3-Sampled", "0", None),
            (
                "traceparent",
                &*parent("01"),
                Some((Form::W3c, false, true)),
            ),
            (
                "traceparent",
                &*parent("03"),
                Some((Form::W3c, false, true)),
            ),
            ("traceparent", &*parent("00"), None),
            ("traceparent", "00-1-2-01", None),
        ] {
            assert_eq!(
                marked(&[(name, value)], true, true),
                wanted,
                "{name} {value}"
            );
        }
        assert_eq!(marked(&[], true, true), None);
    }

    #[test]
    fn the_configuration_and_the_single_header_decide() {
        let parent = format!("00-{ID}-{SPAN}-01");
        let both = [("x-b3-flags", "1"), ("traceparent", &*parent)];
        assert_eq!(marked(&both, false, false), None);
        assert_eq!(marked(&both, true, false), Some((Form::B3, true, false)));
        assert_eq!(marked(&both, false, true), Some((Form::W3c, false, true)));
        assert_eq!(marked(&both, true, true), Some((Form::W3c, true, true)));
        assert_eq!(
            marked(&[("b3", "0"), ("x-b3-flags", "1")], true, true),
            None
        );
        let with_ids = [
            ("x-b3-traceid", ID),
            ("x-b3-spanid", SPAN),
            ("x-b3-sampled", "1"),
        ];
        assert_eq!(marked(&with_ids, true, true), Some((Form::B3, false, true)));
    }

    #[test]
    fn the_router_s_span_is_its_own_and_a_part_of_the_client_s() {
        let trace = |id: &str, span: &str| Trace {
            id: id.into(),
            span: span.into(),
        };
        let sent = trace(ID, SPAN);
        let own = own_span(Some(&sent), &trace(ID, "0000000000000007"), 1);
        assert_eq!((&*own.trace, &*own.span), (ID, "0000000000000007"));
        assert_eq!(own.parent.as_deref(), Some(SPAN));
        // B3's headers go on unchanged.
        let own = own_span(Some(&sent), &sent, 255);
        assert_eq!(own.span, "00000000000000ff");
        assert_eq!(own.parent.as_deref(), Some(SPAN));
        // The client sent a mark and no ids.
        let own = own_span(None, &sent, 255);
        assert_eq!((&*own.span, own.parent), (SPAN, None));
        let short = own_span(None, &trace(SPAN, "0000000000000007"), 1);
        assert_eq!(short.trace, format!("0000000000000000{SPAN}"));
    }

    #[test]
    fn the_ids_are_those_that_the_backend_got() {
        let request_id = "8d2f6cd5-0000-4000-8000-0000000000ab";
        let parent = format!("00-{ID}-0000000000000007-01");
        let outgoing = with(&[
            ("x-vcap-request-id", request_id),
            ("traceparent", &parent),
            ("b3", "1"),
        ]);
        let span = |form| {
            let mark = Mark {
                form,
                sent: None,
                is_debug: false,
            };
            mark.own_span(&outgoing, 1).unwrap()
        };
        assert_eq!(span(Form::W3c).trace, ID);
        let own = span(Form::B3);
        assert_eq!(own.trace, "8d2f6cd50000400080000000000000ab");
        assert_eq!(own.span, "80000000000000ab");
        let mark = mark(&with(&[("b3", "1")]), &settings(true, true)).unwrap();
        assert_eq!(mark.own_span(&Fields::default(), 1), None);
        let zeros = with(&[("b3", &format!("{}-{SPAN}-1", "0".repeat(32)))]);
        assert_eq!(mark.own_span(&zeros, 1), None);
    }
}
