//! The record of a request. Its way through the router adds to it; when the request is over, the access log, the app's log line,
//! the envelopes to metron and the metrics read it, each in a module of its own.
//!
//! The record has what the request's head does not have; everything else is read from the head at the end.

use super::trace::timeline::Timeline;
use crate::backend::fault::Fault;
use crate::backend::made::Made;
use crate::listen::front_tls::ClientTls;
use http1::{Fields, Request, Span};
use route_table::registry::Endpoint;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The attempts at backends, as far as the record has them.
#[derive(Debug, Default)]
pub(super) struct AttemptCounts {
    pub(super) failed: u32,
    pub(super) failed_time: Duration,
    /// The beginning of the last attempt.
    pub(super) started: Option<Instant>,
    pub(super) made: Made,
}

/// The record of one request in the making.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) started_at: SystemTime,
    pub(super) started: Instant,
    /// Whether the client came by TLS.
    pub(super) tls: bool,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    backend_started: Option<Instant>,
    pub(super) attempts: AttemptCounts,
    pub(super) router_error: String,
    /// The client; set only if the log records it.
    pub(super) client: Option<Arc<ClientTls>>,
    pub(super) route_policy: Option<&'static str>,
    pub(super) status: u16,
    /// The phases of the request; `None`: nobody wants its trace.
    pub(super) timeline: Option<Box<Timeline>>,
    /// The bytes of the request's body.
    pub(crate) received: u64,
    /// The bytes of the response's body.
    pub(crate) sent: u64,
}

impl Record {
    pub(crate) fn begin(tls: bool) -> Self {
        Self {
            started_at: SystemTime::now(),
            started: Instant::now(),
            tls,
            endpoint: None,
            backend_started: None,
            attempts: AttemptCounts::default(),
            router_error: String::new(),
            client: None,
            route_policy: None,
            status: 0,
            timeline: None,
            received: 0,
            sent: 0,
        }
    }

    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// Records the phases of the request from now on, if somebody wants its trace.
    pub(crate) fn traced(&mut self, timeline: Option<Box<Timeline>>) {
        self.timeline = timeline;
    }

    /// Returns the timeline; `None` means that nobody wants a trace, and that no clock needs to be read for one.
    pub(crate) fn timeline(&mut self) -> Option<&mut Timeline> {
        self.timeline.as_deref_mut()
    }

    pub(crate) fn backend_begins(&mut self, now: Instant) {
        self.backend_started = Some(now);
    }

    /// Records the endpoint that is being tried; the log names the last one. `now`: the time before it was picked.
    pub(crate) fn attempt_begins(&mut self, endpoint: &Arc<Endpoint>, now: Instant) {
        self.endpoint = Some(endpoint.clone());
        self.attempts.started = Some(now);
        if let Some(timeline) = self.timeline() {
            timeline.attempt_begins(endpoint.clone(), now, Instant::now());
        }
    }

    /// Records the endpoint that the log names for a request which is not sent.
    pub(crate) fn endpoint(&mut self, endpoint: Arc<Endpoint>) {
        self.endpoint = Some(endpoint);
    }

    /// Records the beginning of an attempt at a route service, which is not an endpoint of the route.
    pub(crate) fn attempt_at_service(&mut self, service: &Arc<Endpoint>, now: Instant) {
        self.attempts.started = Some(now);
        if let Some(timeline) = self.timeline() {
            timeline.attempt_at_service_begins(service.clone(), now);
        }
    }

    /// Records the end of an attempt. As in gorouter, the log describes the connection only if the attempt did not fail.
    pub(crate) fn attempt_ended(&mut self, made: Made, failed: bool) {
        self.attempts.made = if failed { Made::default() } else { made };
        if failed {
            self.attempts.failed += 1;
            let took = self.attempts.started.map(|started| started.elapsed());
            self.attempts.failed_time += took.unwrap_or_default();
        }
        if let Some(timeline) = self.timeline() {
            timeline.attempt_ended(made, Instant::now());
        }
    }

    /// Records why the attempt that ended has failed. `again`: whether another one may follow.
    pub(crate) fn attempt_failed(&mut self, fault: &Fault, again: bool) {
        if let Some(timeline) = self.timeline() {
            timeline.attempt_failed(fault.to_string(), again);
        }
    }

    /// Records what the head of a backend's answer shows about its time.
    pub(crate) fn backend_answered(&mut self, fields: &Fields) {
        if let Some(timeline) = self.timeline() {
            timeline.backend_answered(fields);
        }
    }

    /// Records that the answer did not reach its end.
    pub(crate) fn broken(&mut self, reason: &'static str) {
        if let Some(timeline) = self.timeline() {
            timeline.broken = reason;
        }
    }

    /// Records the client as its TLS handshake identified it.
    pub(crate) fn client(&mut self, client: Option<Arc<ClientTls>>) {
        self.client = client;
    }

    /// Records the verdict, `allowed` or `denied`.
    pub(crate) fn route_policy(&mut self, verdict: &'static str) {
        self.route_policy = Some(verdict);
    }

    pub(crate) fn router_error(&mut self, error: String) {
        self.router_error = error;
    }

    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// Returns the origin for an event that began at `since` and is over.
    pub(crate) fn origin<'r>(
        &self,
        since: Instant,
        client: &'r str,
        request: &'r Request,
    ) -> Origin<'r> {
        Origin {
            client,
            tls: self.tls,
            began: self.started_at + since.saturating_duration_since(self.started),
            took: since.elapsed(),
            request,
        }
    }

    /// Returns the finished request. `client`: its address with its port. `host`: the position of the client's `Host` in the
    /// request.
    pub(crate) fn finished<'r>(
        &'r self,
        client: &'r str,
        host: Span,
        request: &'r Request,
    ) -> FinishedRequest<'r> {
        let took = self.started.elapsed();
        // The time between the sending of the request and the end of the answer is the app's, not ours.
        let ours = self.backend_started.map_or(took, |backend| {
            backend.saturating_duration_since(self.started)
        });
        FinishedRequest {
            record: self,
            request,
            client,
            host: request.fields.slice(host),
            took,
            ours,
        }
    }
}

/// A request and its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// The client's address with its port.
    pub(super) client: &'a str,
    pub(super) tls: bool,
    pub(super) began: SystemTime,
    pub(super) took: Duration,
    pub(super) request: &'a Request,
}

/// A request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedRequest<'a> {
    pub(super) record: &'a Record,
    /// The request; if it went to a backend, its fields are those that the backend got.
    pub(super) request: &'a Request,
    /// The client's address with its port.
    pub(super) client: &'a str,
    /// The client's `Host`.
    pub(super) host: &'a [u8],
    /// The time from the request's arrival to the end of the answer.
    pub(super) took: Duration,
    /// The part of that time that the request spent in the router.
    pub(super) ours: Duration,
}

impl<'a> FinishedRequest<'a> {
    /// Returns the endpoint that was tried last. There is none if none was tried, or if it was a route service.
    pub(super) fn endpoint(&self) -> Option<&'a Endpoint> {
        self.record.endpoint.as_deref()
    }

    /// Returns whether the request was sent, or was about to be sent, to a backend or a route service.
    pub(super) fn went_out(&self) -> bool {
        self.record.backend_started.is_some()
    }

    /// Returns whether a backend or a route service was tried.
    pub(super) fn was_tried(&self) -> bool {
        self.record.attempts.started.is_some()
    }

    pub(super) fn origin(&self) -> Origin<'a> {
        Origin {
            client: self.client,
            tls: self.record.tls,
            began: self.record.started_at,
            took: self.took,
            request: self.request,
        }
    }
}
