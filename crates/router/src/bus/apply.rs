//! Applies messages to the table. It alone owns the record of earlier messages, and it parses only what is new.

use super::losses::{Kind, Losses};
use super::message::{self, Ignored, ValidMessage};
use crate::observe::feed::Source;
use crate::observe::metrics::Counter;
use crate::observe::registrations::{self, Message};
use crate::worker::Shared;
use highway::{HighwayHash as _, HighwayHasher, Key};
use route_table::receipts::{Applied, Receipts};
use route_table::registry::{Fingerprint, Registered, Repeats, Unregistered};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::router::{StartingMessage, subject};

/// The time for which a route counts as starting after the last announcement.
const STARTING: Duration = Duration::from_secs(10);

/// The source of log lines about messages that cannot be read.
const READING: &str = "router::bus::message";

#[derive(Debug)]
pub(super) struct Applier {
    shared: Arc<Shared>,
    repeats: Repeats,
    /// The changes that wait for their receipt.
    receipts: Receipts,
    losses: Losses,
    /// A random key, so that nobody can make two messages with the same fingerprint.
    fingerprints: Key,
    /// The fingerprints of the registrations at hand.
    ahead: Vec<Fingerprint>,
    /// The counters of refreshed endpoints by component; a message's label is its position here.
    refreshed: Vec<(String, Arc<Counter>)>,
    measured_from: Instant,
}

impl Applier {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let measured_from = Instant::now() + shared.lasting.route_latency_muzzle;
        Self {
            losses: Losses::new(&shared),
            shared,
            repeats: Repeats::default(),
            receipts: Receipts::new(Instant::now()),
            fingerprints: Key(rand::random()),
            ahead: Vec::new(),
            refreshed: Vec::new(),
            measured_from,
        }
    }

    pub(super) fn receipts(&mut self) -> &mut Receipts {
        &mut self.receipts
    }

    pub(super) fn losses(&mut self) -> &mut Losses {
        &mut self.losses
    }

    /// Applies messages of `router.*` and of `route-digests.*`, given as subject and payload, in their order. Greetings are answered elsewhere.
    pub(super) fn apply(&mut self, messages: &[(&str, &[u8])], now: Instant) {
        let registrations = messages.iter().filter(|(s, _)| *s == subject::REGISTER);
        let key = self.fingerprints;
        let fingerprints =
            registrations.map(|(_, payload)| HighwayHasher::new(key).hash128(payload));
        self.ahead.clear();
        self.ahead.extend(fingerprints);
        self.repeats.look_ahead(&self.ahead);
        let mut registered = 0;
        for &(subject, payload) in messages {
            match subject {
                subject::REGISTER => {
                    self.register(payload, self.ahead[registered], now);
                    registered += 1;
                }
                subject::UNREGISTER => {
                    if let Some(registration) = self.parse(subject, payload) {
                        self.unregister(registration, now);
                    }
                }
                subject::DIGEST => self.losses.compare(payload, now),
                subject::DIFFERENCE => self.difference(payload, now),
                subject::STARTING if !self.shared.lasting.hold_timeout.is_zero() => {
                    self.starting(payload, now);
                }
                _ => {}
            }
        }
    }

    fn parse(&self, subject: &str, payload: &[u8]) -> Option<ValidMessage> {
        match message::parse(payload, &self.shared.lasting) {
            Ok(registration) => Some(registration),
            Err(Ignored::OtherSegment) => None,
            Err(Ignored::Invalid(error)) => {
                let start = &payload[..payload.len().min(1024)];
                let payload = String::from_utf8_lossy(start).into_owned();
                tracing::error!(target: READING, subject, payload, error, "validation-error");
                None
            }
        }
    }

    fn register(&mut self, payload: &[u8], fingerprint: Fingerprint, now: Instant) {
        if let Some((count, label)) = self
            .repeats
            .refresh(fingerprint, &self.shared.registry, now)
        {
            if let Some((_, counter)) = self.refreshed.get(usize::from(label)) {
                counter.add(count as u64);
            }
            return;
        }
        let Some(mut registration) = self.parse(subject::REGISTER, payload) else {
            return;
        };
        if !self.losses.admits(&registration, Kind::Registration, now) {
            tracing::debug!(uris = ?registration.uris, "registration-overtaken");
            return;
        }
        let shared = &self.shared;
        let age = registration.updated_at_ns.and_then(since);
        let changed_at = age.and_then(|age| now.checked_sub(age)).unwrap_or(now);
        let component = registration
            .spec
            .tags
            .get("component")
            .cloned()
            .unwrap_or_default();
        let mut endpoint = shared
            .registry
            .endpoint(std::mem::take(&mut registration.spec));
        let message = Message {
            source: Source::Nats(subject::REGISTER),
            component: &component,
            now,
        };
        let mut places = Vec::with_capacity(registration.uris.len());
        for uri in &registration.uris {
            let made = shared
                .registry
                .register_with_place(uri, &mut endpoint, changed_at, now);
            registrations::registered(shared, &message, uri, &endpoint, &made);
            places.extend(made.place);
            if !matches!(made.outcome, Registered::Refused | Registered::Unmodified) {
                let generation = endpoint.generation();
                confirm(
                    &mut self.receipts,
                    uri,
                    generation,
                    registration.emitted_at_ns,
                );
            }
            if let Registered::Added { .. } = made.outcome
                && let Some(latency) = age.filter(|_| now >= self.measured_from)
            {
                shared.metrics.registered_after(latency);
            }
        }
        // A message that carries its time is sent once only, when the endpoint is new.
        if registration.updated_at_ns.is_none()
            && registration.emitted_at_ns.is_none()
            && places.len() == registration.uris.len()
            && let Some(label) = self.label(&component)
        {
            let registry = &self.shared.registry;
            self.repeats.record(fingerprint, places, label, registry);
        }
    }

    /// Returns the component's label; `None`: there are more components than a label can number.
    fn label(&mut self, component: &str) -> Option<u8> {
        if let Some(at) = self.refreshed.iter().position(|(c, _)| c == component) {
            return u8::try_from(at).ok();
        }
        let label = u8::try_from(self.refreshed.len()).ok()?;
        let metric = &self.shared.metrics.registry_message;
        let message = (component.to_owned(), "refreshed");
        let counter = metric.own(&message, Counter::default);
        self.refreshed.push((component.to_owned(), counter));
        Some(label)
    }

    /// Applies an emitter's answer to the question what this router missed.
    fn difference(&mut self, payload: &[u8], now: Instant) {
        let Some(difference) = self.losses.difference(&self.shared, payload) else {
            return;
        };
        for payload in &difference.register {
            let payload = payload.as_bytes();
            let fingerprint = HighwayHasher::new(self.fingerprints).hash128(payload);
            self.register(payload, fingerprint, now);
        }
        for payload in &difference.unregister {
            if let Some(removal) = self.parse(subject::UNREGISTER, payload.as_bytes()) {
                self.unregister(removal, now);
            }
        }
        self.losses.applied(&difference, now);
    }

    fn unregister(&mut self, registration: ValidMessage, now: Instant) {
        if !self.losses.admits(&registration, Kind::Removal, now) {
            tracing::debug!(uris = ?registration.uris, "unregistration-overtaken");
            return;
        }
        let ValidMessage {
            uris,
            spec,
            emitted_at_ns,
            withdrawn,
            ..
        } = registration;
        let generation = spec.generation;
        let shared = &self.shared;
        let unregister = |uri: &String| shared.registry.unregister_as(&spec, uri, !withdrawn, now);
        let outcomes: Vec<_> = uris.iter().map(unregister).collect();
        let component = spec.tags.get("component").cloned().unwrap_or_default();
        let message = Message {
            source: Source::Nats(subject::UNREGISTER),
            component: &component,
            now,
        };
        let endpoint = shared.registry.endpoint(spec);
        for (uri, outcome) in uris.iter().zip(outcomes) {
            registrations::unregistered(shared, &message, uri, &endpoint, outcome);
            if outcome != Unregistered::Refused {
                confirm(&mut self.receipts, uri, generation, emitted_at_ns);
            }
        }
    }

    fn starting(&self, payload: &[u8], now: Instant) {
        match serde_json::from_slice::<StartingMessage>(payload) {
            Ok(message) => {
                for uri in &message.uris {
                    let registry = &self.shared.registry;
                    if !registry.announce_start(uri, now + STARTING, now) {
                        let source = Source::Nats(subject::STARTING);
                        registrations::start_refused(&self.shared, source, uri);
                    }
                }
            }
            Err(error) => tracing::error!(target: READING, %error, "validation-error"),
        }
    }
}

/// Records that a change must be confirmed. Messages of an original emitter, and repetitions, need no receipt.
fn confirm(receipts: &mut Receipts, uri: &str, generation: u64, emitted_at_ns: Option<u64>) {
    let Some(emitted_at_ns) = emitted_at_ns.filter(|_| generation > 0) else {
        return;
    };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since_epoch.unwrap_or_default().as_nanos();
    let applied = Applied {
        generation,
        emitted_at_ns,
        applied_at_ns: u64::try_from(nanos).unwrap_or_default(),
    };
    receipts.record(uri, applied);
}

fn since(ns: i64) -> Option<Duration> {
    let at = UNIX_EPOCH + Duration::from_nanos(u64::try_from(ns).ok()?);
    SystemTime::now().duration_since(at).ok()
}
