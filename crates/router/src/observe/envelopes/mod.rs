//! Envelopes to the metron agent of the machine, as a gorouter sends them: access log lines of apps, an event for each request,
//! metrics. Metron sends them on to the apps' log streams and to the operator's firehose.
//!
//! Requests put their envelopes into a queue as they pass; nothing here waits for anything.

mod event;
pub(crate) mod numbers;

pub(crate) use event::Attempt;

use crate::backend::peer;
use crate::config::{Lasting, Metron};
use crate::observe::record::FinishedRequest;
use anyhow::{Context as _, Result};
use clients::metron::Emitter;
use route_table::registry::Endpoint;
use std::sync::Arc;
use std::time::Duration;
use wire::dropsonde::{CounterEvent, Event, LARGEST, LogMessage, MessageType, ValueMetric};

/// The longest line in bytes; a longer one is shortened, part by part.
pub(crate) const LONGEST_LINE: usize = 65_400;
/// The origin that original routers put into their envelopes.
const ORIGIN: &str = "gorouter";
/// The time that the rest of the queue has at the end.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Envelopes {
    wanted: Metron,
    emitter: Emitter,
    /// This router's index, as the `RTR` lines' instance.
    index: String,
}

impl Envelopes {
    /// Opens the sender; `None`: nothing is to be sent.
    pub(crate) fn open(settings: &Lasting) -> Result<Option<Arc<Self>>> {
        let wanted = settings.metron.clone();
        if !wanted.is_wanted() {
            return Ok(None);
        }
        let emitter = Emitter::start(&wanted.address, ORIGIN);
        Ok(Some(Arc::new(Self {
            emitter: emitter.context("envelopes to metron")?,
            index: settings.index.to_string(),
            wanted,
        })))
    }

    pub(crate) fn wanted(&self) -> &Metron {
        &self.wanted
    }

    /// Returns whether an agent listens. Without one, envelopes are not worth making.
    pub(crate) fn has_listener(&self) -> bool {
        self.emitter.has_listener()
    }

    /// Sends an access log line of the endpoint's app. `shortened` makes one that fits into a datagram.
    pub(crate) fn log(
        &self,
        line: &[u8],
        endpoint: &Endpoint,
        shortened: impl FnOnce() -> Vec<u8>,
    ) {
        let tags = endpoint.tags().iter();
        let around: usize = tags.map(|(k, v)| k.len() + v.len() + 16).sum();
        // The envelope also holds the name of the app and its other fields.
        let around = around + peer::app_id(endpoint).len() + 128;
        let line = if line.len() > LONGEST_LINE.min(LARGEST.saturating_sub(around)) {
            shortened()
        } else {
            line.to_vec()
        };
        let mut envelope = self.emitter.envelope(Event::LogMessage(LogMessage {
            message: line,
            message_type: MessageType::Out as i32,
            timestamp: 0,
            app_id: Some(peer::app_id(endpoint).to_owned()),
            source_type: Some("RTR".into()),
            source_instance: Some(self.index.clone()),
        }));
        if let Some(Event::LogMessage(log)) = &mut envelope.event {
            log.timestamp = envelope.timestamp.unwrap_or_default();
        }
        self.emitter
            .send_with_tags(&envelope, endpoint.tags().iter());
    }

    /// Sends the event of a finished request. `trace`: the ids of trace and span.
    pub(crate) fn request(&self, finished: &FinishedRequest<'_>, trace: Option<(String, String)>) {
        let event = Event::HttpStartStop(event::server(finished));
        let envelope = self.emitter.envelope(event);
        let tags = finished.endpoint().map(|endpoint| endpoint.tags().iter());
        let trace = trace.as_ref().map(|(trace, span)| {
            let ids = [("trace_id", trace.as_str()), ("span_id", span.as_str())];
            ids.into_iter()
        });
        // A reader keeps the last value of a tag that comes twice.
        let tags = tags.into_iter().flatten();
        self.emitter
            .send_with_tags(&envelope, tags.chain(trace.into_iter().flatten()));
    }

    /// Sends the event of an attempt: a backend has answered, or failed.
    pub(crate) fn attempt(&self, attempt: &Attempt<'_>) {
        let event = event::client(attempt);
        self.emitter.emit(Event::HttpStartStop(event));
    }

    pub(crate) fn value(&self, name: &str, value: f64, unit: &str) {
        if !self.has_listener() {
            return;
        }
        self.emitter.emit(Event::ValueMetric(ValueMetric {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
        }));
    }

    fn count(&self, name: String, delta: u64) {
        self.emitter.emit(Event::CounterEvent(CounterEvent {
            name,
            delta,
            total: None,
        }));
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.emitter.dropped()
    }

    /// Waits until the queue is sent, for a second at most.
    pub(crate) fn flush(&self) {
        self.emitter.flush(FAREWELL);
    }
}
