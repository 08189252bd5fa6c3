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
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use wire::dropsonde::{
    CounterEvent, Envelope, Event, EventType, HttpStartStop, LARGEST, LogMessage, MessageType,
    ValueMetric,
};

/// The longest line in bytes; a longer one is shortened, part by part.
pub(crate) const LONGEST_LINE: usize = 65_400;
/// The origin that original routers put into their envelopes.
const ORIGIN: &str = "gorouter";
/// The time that the rest of the queue has at the end.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    /// The envelopes that a thread fills anew for each request.
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// One envelope of each kind that requests send. Their texts keep their memory: new ones would cost each request two dozen
/// allocations.
#[derive(Debug, Default)]
struct Kept {
    server: Envelope,
    client: Envelope,
    line: Envelope,
}

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
        let short;
        let line = if line.len() > LONGEST_LINE.min(LARGEST.saturating_sub(around)) {
            short = shortened();
            &short
        } else {
            line
        };
        KEPT.with_borrow_mut(|Kept { line: envelope, .. }| {
            self.emitter.stamp(envelope);
            let now = envelope.timestamp.unwrap_or_default();
            let log = log_message(envelope);
            line.clone_into(&mut log.message);
            log.timestamp = now;
            peer::app_id(endpoint).clone_into(log.app_id.get_or_insert_default());
            self.index
                .clone_into(log.source_instance.get_or_insert_default());
            self.emitter
                .send_with_tags(envelope, endpoint.tags().iter());
        });
    }

    /// Sends the event of a finished request. `trace`: the ids of trace and span.
    pub(crate) fn request(&self, finished: &FinishedRequest<'_>, trace: Option<(String, String)>) {
        let tags = finished.endpoint().map(|endpoint| endpoint.tags().iter());
        let trace = trace.as_ref().map(|(trace, span)| {
            let ids = [("trace_id", trace.as_str()), ("span_id", span.as_str())];
            ids.into_iter()
        });
        // A reader keeps the last value of a tag that comes twice.
        let tags = tags.into_iter().flatten();
        let tags = tags.chain(trace.into_iter().flatten());
        KEPT.with_borrow_mut(|Kept { server, .. }| {
            self.emitter.stamp(server);
            event::server(start_stop(server), finished);
            self.emitter.send_with_tags(server, tags);
        });
    }

    /// Sends the event of an attempt: a backend has answered, or failed.
    pub(crate) fn attempt(&self, attempt: &Attempt<'_>) {
        KEPT.with_borrow_mut(|Kept { client, .. }| {
            self.emitter.stamp(client);
            event::client(start_stop(client), attempt);
            self.emitter.send(client);
        });
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

/// Returns the event of an envelope that holds start-stop events alone.
fn start_stop(envelope: &mut Envelope) -> &mut HttpStartStop {
    envelope.event_type = EventType::HttpStartStop as i32;
    let fresh = || Event::HttpStartStop(HttpStartStop::default());
    match envelope.event.get_or_insert_with(fresh) {
        Event::HttpStartStop(event) => event,
        _ => unreachable!("the envelope holds start-stop events alone"),
    }
}

/// Returns the line of an envelope that holds access log lines alone.
fn log_message(envelope: &mut Envelope) -> &mut LogMessage {
    envelope.event_type = EventType::LogMessage as i32;
    let fresh = || {
        Event::LogMessage(LogMessage {
            message_type: MessageType::Out as i32,
            source_type: Some("RTR".into()),
            ..LogMessage::default()
        })
    };
    match envelope.event.get_or_insert_with(fresh) {
        Event::LogMessage(log) => log,
        _ => unreachable!("the envelope holds access log lines alone"),
    }
}
