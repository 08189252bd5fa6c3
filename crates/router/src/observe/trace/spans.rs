//! Traces as spans of OTLP: pure. A request is a span of the router's, its phases are parts of that.

use super::Traced;
use super::timeline::{AttemptPhases, Phase};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::otlp::{
    Attribute, Kind, Resource, ResourceSpans, Scope, ScopeSpans, Span, Status, Traces, Value,
};

/// The name under which receivers list the router; envelopes to metron have the same origin.
const SERVICE: &str = "gorouter";

/// Returns the message with the spans of some requests. `router`: the router's id. `id` makes random ids.
pub(super) fn message(router: &str, traced: &[Traced], mut id: impl FnMut() -> u64) -> Traces {
    let spans = traced
        .iter()
        .flat_map(|traced| spans(traced, &mut id))
        .collect();
    Traces {
        resource_spans: vec![ResourceSpans {
            resource: Resource {
                attributes: vec![
                    Attribute::new("service.name", SERVICE),
                    Attribute::new("service.instance.id", router),
                ],
            },
            scope_spans: vec![ScopeSpans {
                scope: Scope {
                    name: "cupola.router".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                },
                spans,
            }],
        }],
    }
}

/// Returns the spans of a request: its own first.
fn spans(traced: &Traced, id: &mut impl FnMut() -> u64) -> Vec<Span> {
    let Some(own) = &traced.span else {
        return Vec::new();
    };
    let mut writer = Writer {
        trace: &own.trace,
        began: traced.began,
        spans: Vec::new(),
        id,
    };
    let whole = Phase {
        from: Duration::ZERO,
        took: traced.phases.total,
    };
    let root = writer.span(&own.span, &traced.request.method, whole);
    root.kind = Kind::Server;
    root.parent_span_id = own.parent.clone().unwrap_or_default();
    root.attributes = request_attributes(traced);
    root.status = request_status(traced);
    if let Some(held) = traced.phases.held {
        writer.part(&own.span, "hold", held);
    }
    for (number, attempt) in (0..).zip(&traced.phases.attempts) {
        writer.attempt(&own.span, traced, number, attempt);
    }
    writer.spans
}

struct Writer<'a, F> {
    trace: &'a str,
    began: SystemTime,
    spans: Vec<Span>,
    id: &'a mut F,
}

impl<F: FnMut() -> u64> Writer<'_, F> {
    /// Adds a span without a parent and without attributes.
    fn span(&mut self, id: &str, name: &str, phase: Phase) -> &mut Span {
        let at = |offset: Duration| {
            let since = (self.began + offset).duration_since(UNIX_EPOCH);
            since.unwrap_or_default().as_nanos().to_string()
        };
        let span = Span {
            trace_id: self.trace.to_owned(),
            span_id: id.to_owned(),
            parent_span_id: String::new(),
            name: name.to_owned(),
            kind: Kind::Internal,
            start_time_unix_nano: at(phase.from),
            end_time_unix_nano: at(phase.until()),
            attributes: Vec::new(),
            status: None,
        };
        let place = self.spans.len();
        self.spans.push(span);
        &mut self.spans[place]
    }

    /// Adds a part of a span.
    fn part(&mut self, parent: &str, name: &str, phase: Phase) -> &mut Span {
        let id = format!("{:016x}", (self.id)());
        let span = self.span(&id, name, phase);
        parent.clone_into(&mut span.parent_span_id);
        span
    }

    fn attempt(&mut self, root: &str, traced: &Traced, number: u64, attempt: &AttemptPhases) {
        let body = traced.phases.body.filter(|_| attempt.fault.is_none());
        let from = attempt.pick.from;
        let until = body.map_or(attempt.answer.until(), Phase::until);
        let whole = Phase {
            from,
            took: until.saturating_sub(from),
        };
        let span = self.part(root, "attempt", whole);
        span.kind = Kind::Client;
        span.attributes = attempt_attributes(attempt, number);
        span.status = attempt
            .fault
            .as_ref()
            .map(|(fault, _)| Status::error(fault));
        let id = span.span_id.clone();
        self.part(&id, "pick", attempt.pick);
        for (name, phase) in [
            ("dead connection", attempt.lost),
            ("connect", attempt.connect),
            ("tls", attempt.tls),
        ] {
            if let Some(phase) = phase {
                self.part(&id, name, phase);
            }
        }
        let answer = self.part(&id, "answer", attempt.answer);
        for (key, time) in [
            ("sidecar.duration_ms", attempt.sidecar()),
            ("app.duration_ms", attempt.app),
        ] {
            let attribute = time.map(|time| Attribute::new(key, super::milliseconds(time)));
            answer.attributes.extend(attribute);
        }
        if let Some(body) = body {
            self.part(&id, "body", body);
        }
    }
}

fn request_attributes(traced: &Traced) -> Vec<Attribute> {
    let request = &traced.request;
    let version = request.version.strip_prefix("HTTP/").unwrap_or_default();
    let scheme = if traced.is_tls { "https" } else { "http" };
    let mut attributes = vec![
        Attribute::new("http.request.method", &*request.method),
        Attribute::new("url.scheme", scheme),
        Attribute::new("server.address", &*request.host),
        Attribute::new("url.path", &*request.path),
        Attribute::new("http.response.status_code", u64::from(request.status)),
        Attribute::new(
            "network.protocol.version",
            version
                .strip_suffix(".0")
                .filter(|v| *v == "2")
                .unwrap_or(version),
        ),
        Attribute::new(
            "http.request.header.x-vcap-request-id",
            &*request.request_id,
        ),
        Attribute::new("http.request.body.size", request.received),
        Attribute::new("http.response.body.size", request.sent),
        Attribute::new("router.duration_ms", request.router_ms),
    ];
    for (key, text) in [
        ("router.error", &request.router_error),
        ("router.broken", &request.broken),
    ] {
        if !text.is_empty() {
            attributes.push(Attribute::new(key, &**text));
        }
    }
    attributes
}

/// Returns the failure of a request: the server's own, as the conventions of OpenTelemetry define it.
fn request_status(traced: &Traced) -> Option<Status> {
    let request = &traced.request;
    let reason = match (&*request.router_error, &*request.broken) {
        ("", broken) => broken,
        (error, _) => error,
    };
    (request.status >= 500 || !request.broken.is_empty()).then(|| Status::error(reason))
}

fn attempt_attributes(attempt: &AttemptPhases, number: u64) -> Vec<Attribute> {
    let (address, port) = attempt.address.rsplit_once(':').unwrap_or_default();
    let mut attributes = vec![
        Attribute::new("network.peer.address", address),
        Attribute::new("network.peer.port", port.parse::<u64>().unwrap_or_default()),
        Attribute::new("router.connection.tls", attempt.is_tls),
        Attribute::new("router.connection.reused", attempt.is_reused),
        Attribute::new("router.route_service", attempt.is_route_service),
    ];
    for (key, text) in [
        ("cloudfoundry.app.id", &attempt.app_id),
        ("cloudfoundry.app.instance.id", &attempt.instance_index),
        ("cloudfoundry.app.instance.guid", &attempt.instance_id),
    ] {
        if !text.is_empty() {
            attributes.push(Attribute::new(key, &**text));
        }
    }
    if number > 0 {
        let key = "http.request.resend_count".to_owned();
        let value = Value::from(number);
        attributes.push(Attribute { key, value });
    }
    attributes
}

#[cfg(test)]
pub(super) mod sample {
    use super::super::ids::OwnSpan;
    use super::super::timeline;
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;
    use wire::router::RequestTrace;

    /// Makes a request of 50 ms that was held, failed at one instance and was answered by another.
    pub(in crate::observe::trace) fn traced() -> Traced {
        let started = Instant::now();
        let timeline = timeline::sample::retried(None, started);
        Traced {
            request: Arc::new(RequestTrace {
                method: "GET".into(),
                host: "a.test".into(),
                path: "/x".into(),
                version: "HTTP/2.0".into(),
                status: 200,
                ..RequestTrace::default()
            }),
            phases: timeline.phases(started, Duration::from_millis(50)),
            began: UNIX_EPOCH + Duration::from_secs(1_600_000_000),
            is_tls: true,
            span: Some(OwnSpan {
                trace: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
                span: "00f067aa0ba902b7".into(),
                parent: Some("00f067aa0ba902b8".into()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_span_and_its_phases_are_parts_of_it() {
        let traced = sample::traced();
        let mut number = 0;
        let all = spans(&traced, &mut || {
            number += 1;
            number
        });
        let shown: Vec<String> = all
            .iter()
            .map(|span| {
                let parent = all
                    .iter()
                    .find(|other| other.span_id == span.parent_span_id);
                let parent = parent.map_or("-", |parent| parent.name.as_str());
                let offset = |text: &str| {
                    let nanos: u64 = text.parse().unwrap();
                    (nanos - 1_600_000_000_000_000_000) / 1_000_000
                };
                let (from, to) = (&span.start_time_unix_nano, &span.end_time_unix_nano);
                format!("{parent} > {} {}..{}", span.name, offset(from), offset(to))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "- > GET 0..50",
                "GET > hold 1..11",
                "GET > attempt 12..15",
                "attempt > pick 12..13",
                "attempt > connect 13..15",
                "attempt > answer 15..15",
                "GET > attempt 16..50",
                "attempt > pick 16..16",
                "attempt > connect 16..19",
                "attempt > tls 19..24",
                "attempt > answer 24..44",
                "attempt > body 44..50",
            ]
        );
        assert_eq!(all[0].parent_span_id, "00f067aa0ba902b8");
        assert_eq!((all[0].kind, all[2].kind), (Kind::Server, Kind::Client));
        assert_eq!(all[0].status, None);
        assert_eq!(all[2].status, Some(Status::error("refused")));
        let has = |span: &Span, key: &str, value: Value| {
            let attribute = span.attributes.iter().find(|a| a.key == key);
            assert_eq!(attribute.map(|a| &a.value), Some(&value), "{key}");
        };
        has(&all[0], "network.protocol.version", "2".into());
        has(&all[0], "http.response.status_code", 200_u64.into());
        has(&all[6], "network.peer.port", 2_u64.into());
        has(&all[6], "http.request.resend_count", 1_u64.into());
        has(&all[10], "app.duration_ms", 15.0_f64.into());
        has(&all[10], "sidecar.duration_ms", 5.0_f64.into());
    }

    #[test]
    fn a_failed_request_has_its_reason_and_one_without_a_mark_has_no_spans() {
        let mut traced = sample::traced();
        let mut request = (*traced.request).clone();
        (request.status, request.router_error) = (502, "endpoint_failure (EOF)".into());
        traced.request = request.into();
        let message = message("0-id", &[traced], || 1);
        let spans = &message.resource_spans[0].scope_spans[0].spans;
        let wanted = Status::error("endpoint_failure (EOF)");
        assert_eq!(spans[0].status, Some(wanted));
        let mut unmarked = sample::traced();
        unmarked.span = None;
        assert!(super::spans(&unmarked, &mut || 1).is_empty());
    }
}
