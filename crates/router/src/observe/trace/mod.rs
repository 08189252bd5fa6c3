//! Traces of single requests, on demand: the phases of a request's time and its attempts at backends.
//!
//! ```text
//!  operator ── /tap?host=… ──────────▶ taps ─┐                        ┌─▶ taps: the page's stream
//!                                            ├─ wanted? ─ timeline ─ finished
//!  client ── X-B3-Flags, traceparent ─▶ ids ─┘   (record)             ├─▶ exporter: spans by OTLP
//!                                                                     └─▶ a line of the app's own log (debug flag)
//! ```
//!
//! [`Tracer::wanted`] decides at a request's beginning whether anybody wants its trace. If nobody does, the request reads no clock and
//! allocates nothing for it. Otherwise its record gets a [`timeline::Timeline`], and at its end [`Tracer::finished`] passes the trace to
//! those who want it. Nothing here ever waits or delays a request.

pub(crate) mod exporter;
pub(crate) mod ids;
pub(crate) mod page;
mod spans;
pub(crate) mod taps;
pub(crate) mod timeline;

use super::changes::rfc3339;
use crate::config::Lasting;
use crate::observe::record::FinishedRequest;
use exporter::Queue;
use http1::{Fields, Known, Span};
use ids::{Mark, OwnSpan};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use taps::Taps;
use timeline::{AttemptPhases, Phases, Timeline};
use wire::router::{AttemptTrace, RequestTrace};

/// The most characters that are kept of a text that a client chose.
const LONGEST: usize = 1000;

/// Decides whose requests are traced, and passes on their traces. All generations of workers share one.
#[derive(Debug)]
pub(crate) struct Tracer {
    taps: Arc<Taps>,
    /// The queue of traces for a receiver; `None`: the operator configured none.
    queue: Option<Queue>,
    /// Whether apps' logs get lines.
    lines: bool,
    /// Whether any mark has an effect.
    marks: bool,
}

/// The trace of a finished request, as its readers get it.
#[derive(Debug)]
pub(super) struct Traced {
    request: Arc<RequestTrace>,
    phases: Phases,
    began: SystemTime,
    /// Whether the client came by TLS.
    is_tls: bool,
    /// The router's span; `None`: the request had no mark.
    span: Option<OwnSpan>,
}

impl Tracer {
    /// Creates the tracer of a router. `lines`: whether apps' logs get lines.
    pub(crate) fn new(settings: &Lasting, queue: Option<Queue>, lines: bool) -> Self {
        Self {
            taps: Arc::default(),
            marks: queue.is_some() && (settings.zipkin || settings.w3c) || lines && settings.zipkin,
            queue,
            lines,
        }
    }

    pub(crate) fn taps(&self) -> &Arc<Taps> {
        &self.taps
    }

    /// Returns the queue of traces for a receiver, which counts what it lost.
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// Returns a timeline for a request that begins, if somebody wants its trace. `fields`: its header as the client sent it. `host`: the
    /// position of its `Host`.
    pub(crate) fn wanted(
        &self,
        fields: &Fields,
        host: Span,
        settings: &Lasting,
    ) -> Option<Box<Timeline>> {
        if !self.marks && !self.taps.any() {
            return None;
        }
        let mark = self.marks.then(|| ids::mark(fields, settings)).flatten();
        let mark = mark.filter(|mark| self.has_reader(mark));
        let is_tapped = || self.taps.any() && self.taps.want(fields.text(host));
        (mark.is_some() || is_tapped()).then(|| Box::new(Timeline::new(mark)))
    }

    /// Returns whether a mark has an effect. Without a receiver only the line for the app is left, and only debuggers get it: an app
    /// whose clients sample every request would get a second line for each.
    fn has_reader(&self, mark: &Mark) -> bool {
        self.queue.is_some() || self.lines && mark.is_debug
    }

    /// Passes the trace of a finished request, if it has one, to taps and receiver. Returns the line for the app's log, if the client
    /// debugs the request.
    pub(crate) fn finished(&self, finished: &FinishedRequest<'_>) -> Option<String> {
        let timeline = finished.record.timeline.as_deref()?;
        let mark = timeline.mark.as_ref();
        let own_span = |mark: &Mark| mark.own_span(&finished.request.fields, rand::random());
        let phases = timeline.phases(finished.record.started, finished.took);
        let span = mark.and_then(own_span);
        let request = Arc::new(summary(finished, timeline.broken, &phases, span.as_ref()));
        if self.taps.any() {
            self.taps.show(&request.host, &request);
        }
        let is_debug = self.lines && mark.is_some_and(|mark| mark.is_debug);
        let line = is_debug.then(|| (*request).clone().for_the_app().to_string());
        if let Some(queue) = &self.queue
            && span.is_some()
        {
            queue.push(Traced {
                request,
                phases,
                began: finished.record.started_at,
                is_tls: finished.record.tls,
                span,
            });
        }
        line
    }
}

/// Returns the trace as people and programs read it.
fn summary(
    finished: &FinishedRequest<'_>,
    broken: &str,
    phases: &Phases,
    span: Option<&OwnSpan>,
) -> RequestTrace {
    let FinishedRequest {
        record, request, ..
    } = *finished;
    let target = String::from_utf8_lossy(request.received_target());
    let took = |phase: timeline::Phase| milliseconds(phase.took);
    RequestTrace {
        time: rfc3339(record.started_at),
        request_id: bounded(
            request
                .fields
                .get_text(Known::XVcapRequestId)
                .unwrap_or_default(),
        ),
        trace_id: span.map_or_else(String::new, |span| span.trace.clone()),
        method: bounded(request.method()),
        host: bounded(&String::from_utf8_lossy(finished.host)),
        path: bounded(target.split('?').next().unwrap_or_default()),
        version: request.version.as_str().to_owned(),
        status: record.status,
        router_error: bounded(&record.router_error),
        broken: broken.to_owned(),
        total_ms: milliseconds(phases.total),
        router_ms: milliseconds(phases.router),
        held_ms: phases.held.map_or(0.0, took),
        attempts: phases.attempts.iter().map(attempt).collect(),
        body_ms: phases.body.map(took),
        received: record.received,
        sent: record.sent,
    }
}

fn attempt(phases: &AttemptPhases) -> AttemptTrace {
    let took = |phase: timeline::Phase| milliseconds(phase.took);
    let fault = phases.fault.as_ref();
    AttemptTrace {
        address: phases.address.clone(),
        app_id: phases.app_id.clone(),
        instance_id: phases.instance_id.clone(),
        instance_index: phases.instance_index.clone(),
        is_route_service: phases.is_route_service,
        is_tls: phases.is_tls,
        is_reused: phases.is_reused,
        pick_ms: took(phases.pick),
        lost_ms: phases.lost.map(took),
        connect_ms: phases.connect.map(took),
        tls_ms: phases.tls.map(took),
        answer_ms: took(phases.answer),
        sidecar_ms: phases.sidecar().map(milliseconds),
        app_ms: phases.app.map(milliseconds),
        fault: fault.map(|(reason, _)| bounded(reason)),
        is_retried: fault.is_some_and(|(_, again)| *again),
    }
}

/// Returns the milliseconds of a time, to the microsecond.
fn milliseconds(time: Duration) -> f64 {
    (time.as_nanos() as f64 / 1e3).round() / 1e3
}

fn bounded(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::record::Record;
    use http1::{Request, Version};
    use std::time::Instant;

    fn settings() -> Lasting {
        Lasting {
            zipkin: true,
            w3c: true,
            ..Lasting::default()
        }
    }

    fn request(host: &str, lines: &[(&str, &str)]) -> Request {
        let mut request = Request::default();
        request.begin("GET", b"/x?secret=1", Version::Http11);
        request.fields.append("Host", host.as_bytes());
        for (name, value) in lines {
            request
                .fields
                .append_spelled(name.as_bytes(), value.as_bytes());
        }
        request
    }

    fn wanted(tracer: &Tracer, request: &Request) -> Option<Box<Timeline>> {
        let host = request.fields.span("Host").unwrap_or_default();
        tracer.wanted(&request.fields, host, &settings())
    }

    #[test]
    fn nobody_wants_a_trace_until_somebody_asks() {
        let debug = request("a.test", &[("x-b3-flags", "1")]);
        let sampled = request("a.test", &[("x-b3-sampled", "1")]);
        let plain = request("a.test:80", &[]);
        let idle = Tracer::new(&settings(), None, false);
        for request in [&debug, &sampled, &plain] {
            assert!(wanted(&idle, request).is_none());
        }
        let lines = Tracer::new(&settings(), None, true);
        assert!(wanted(&lines, &debug).is_some());
        assert!(wanted(&lines, &sampled).is_none());
        let (queue, _exporter) = exporter::sample::queue();
        let exporting = Tracer::new(&settings(), Some(queue), false);
        assert!(wanted(&exporting, &sampled).is_some());
        assert!(wanted(&exporting, &plain).is_none());
        let _reader = idle.taps.open("A.test", 1).unwrap();
        assert!(wanted(&idle, &plain).is_some());
        assert!(wanted(&idle, &request("b.test", &[])).is_none());
    }

    #[tokio::test]
    async fn a_finished_request_reaches_its_tap_and_the_app_s_line_has_no_reasons() {
        let tracer = Tracer::new(&settings(), None, true);
        let mut reader = tracer.taps.open("a.test", 9).unwrap();
        let request = request(
            "a.test",
            &[("x-b3-flags", "1"), ("x-vcap-request-id", "id")],
        );
        let mut record = Record::begin(true);
        let Timeline { mark, .. } = *wanted(&tracer, &request).unwrap();
        let started = Instant::now();
        let timeline = timeline::sample::retried(mark, started);
        record.traced(Some(Box::new(timeline)));
        record.answered(200);
        let host = request.fields.span("Host").unwrap_or_default();
        let finished = FinishedRequest {
            took: Duration::from_millis(50),
            ..record.finished("1.2.3.4:5", host, &request)
        };
        let line = tracer.finished(&finished).unwrap();
        assert!(
            line.starts_with("a.test \"GET /x\" 200 in 50.00 ms: held "),
            "{line}"
        );
        assert!(!line.contains("refused") && !line.contains("i1"), "{line}");
        assert!(line.contains("(instance i2, index 0)"), "{line}");
        let trace = reader.next().await.unwrap();
        assert_eq!(
            (trace.status, &*trace.path, &*trace.request_id),
            (200, "/x", "id")
        );
        assert_eq!(trace.attempts[0].fault.as_deref(), Some("refused"));
        assert!(trace.attempts[0].is_retried && !trace.attempts[1].is_retried);
        let answered = &trace.attempts[1];
        assert_eq!(
            (answered.sidecar_ms, answered.app_ms),
            (Some(5.0), Some(15.0))
        );
        let attempts = trace.attempts.iter().map(|attempt| {
            let made = attempt.connect_ms.unwrap_or(0.0) + attempt.tls_ms.unwrap_or(0.0);
            attempt.pick_ms + attempt.lost_ms.unwrap_or(0.0) + made + attempt.answer_ms
        });
        let sum = trace.router_ms + trace.held_ms + attempts.sum::<f64>();
        let sum = sum + trace.body_ms.unwrap();
        assert!((sum - trace.total_ms).abs() < 0.1, "{trace:?}");
    }

    #[test]
    fn a_request_that_nobody_traced_costs_nothing_at_its_end() {
        let tracer = Tracer::new(&settings(), None, true);
        let request = request("a.test", &[]);
        let record = Record::begin(false);
        let host = request.fields.span("Host").unwrap_or_default();
        assert_eq!(tracer.finished(&record.finished("", host, &request)), None);
    }
}
