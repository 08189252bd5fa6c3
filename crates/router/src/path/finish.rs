//! The end of a request, whatever became of it: everybody who observes requests gets its record.

use crate::observe::record::Record;
use crate::path::tracing_headers;
use crate::worker::Worker;
use http1::{Known, Request, Span};
use std::sync::PoisonError;

/// Passes the record of a finished request to access log, envelopes, traces, failures and metrics. `client`: its address with its port.
/// `host`: the position of the client's `Host` in the request.
pub(crate) fn finish(record: Record, worker: &Worker, client: &str, host: Span, request: &Request) {
    let shared = &worker.shared;
    let finished = record.finished(client, host, request);
    if shared.access_log.is_open() {
        let began = worker.timestamp(record.started_at());
        let scratch = worker.scratch.lock();
        let mut scratch = scratch.unwrap_or_else(PoisonError::into_inner);
        let format = &shared.settings.log_format;
        shared
            .access_log
            .request(&finished, format, began, &mut scratch);
    }
    if let Some(envelopes) = &shared.envelopes
        && envelopes.wanted().server_events
        && envelopes.has_listener()
        && request.fields.contains(Known::XVcapRequestId)
    {
        let trace = tracing_headers::ids(&request.fields, &shared.lasting);
        envelopes.request(&finished, trace);
    }
    if let Some(line) = shared.tracer.finished(&finished) {
        shared.access_log.trace(&finished, line);
    }
    shared.failures.finished(&finished);
    shared.metrics.finished(&finished);
}
