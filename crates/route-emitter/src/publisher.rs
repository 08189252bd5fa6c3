//! Publishes on the bus: registrations with their numbers, announcements, digests, and the differences for which routers ask.

use crate::message::{self, Occasion, Stamp};
use crate::metrics::Metrics;
use async_nats::connection::State;
use route_table::emission::{Changes, Registration};
use route_table::numbering::{Numbered, Outgoing};
use std::time::Duration;
use tokio::time::Instant;
use wire::router::digests::{DifferenceMessage, DifferenceQuestion, DigestMessage};
use wire::router::subject;

/// The longest wait of one batch for a bus that does not accept it. It is sent again when the bus is back.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// The time between two digests: short for a second after a change, so that a lost message is noticed at once.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(5);
const RECENT: Duration = Duration::from_secs(1);
/// The maximum number of changes in a difference.
const PART: usize = 200;

#[derive(Debug)]
pub(crate) struct Publisher {
    bus: async_nats::Client,
    /// The name of this emitter: its cell, and a number that every start makes anew.
    emitter: String,
    numbers: Outgoing,
    changed_at: Instant,
    digest_at: Instant,
    metrics: Metrics,
}

impl Publisher {
    pub(crate) fn new(bus: async_nats::Client, cell_id: &str, metrics: Metrics) -> Self {
        let now = Instant::now();
        Self {
            bus,
            emitter: format!("{cell_id}:{:016x}", rand::random::<u64>()),
            numbers: Outgoing::default(),
            changed_at: now,
            digest_at: now + LATER,
            metrics,
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.bus.connection_state() == State::Connected
    }

    /// Numbers changes, which are published next.
    pub(crate) fn record(&mut self, changes: &Changes) {
        self.numbers.record(changes);
        self.changed_at = Instant::now();
        self.digest_at = self.digest_at.min(self.changed_at + SOON);
    }

    /// Publishes messages. The client's connection task writes and flushes as soon as it has a message. Nothing is queued while
    /// the bus is away, because everything is sent again in its present state when the bus is back.
    pub(crate) async fn send(
        &self,
        register: &[Registration],
        unregister: &[Registration],
        occasion: Occasion,
    ) {
        if (register.is_empty() && unregister.is_empty()) || !self.is_connected() {
            return;
        }
        let publish = async {
            for registration in register {
                let subject = message::register_subject(registration);
                let payload = self.payload(registration, occasion);
                self.bus.publish(subject, payload.into()).await?;
            }
            for registration in unregister {
                let subject = message::unregister_subject(registration);
                let payload = self.payload(registration, occasion.of_removal());
                self.bus.publish(subject, payload.into()).await?;
            }
            Ok::<(), async_nats::PublishError>(())
        };
        match tokio::time::timeout(PATIENCE, publish).await {
            Ok(Ok(())) => {
                self.metrics.emitted(register);
                self.metrics.emitted(unregister);
                tracing::debug!(
                    registered = register.len(),
                    unregistered = unregister.len(),
                    "emitted"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "publish-failed"),
            Err(_) => tracing::warn!("publish-stalled: NATS does not accept messages"),
        }
    }

    fn payload(&self, registration: &Registration, occasion: Occasion) -> Vec<u8> {
        let sequence = self.numbers.number(&registration.key());
        let stamp = sequence.map(|sequence| Stamp {
            emitter: &self.emitter,
            sequence,
        });
        message::payload(registration, occasion, stamp)
    }

    /// Announces that instances of these routes are starting, so that routers may hold requests for them. An original router
    /// ignores it.
    pub(crate) async fn announce_starting(&self, uris: Vec<String>) {
        if !uris.is_empty() {
            self.publish(subject::STARTING, message::starting(uris))
                .await;
        }
    }

    /// Returns when the next digest is due.
    pub(crate) fn digest_at(&self) -> Instant {
        self.digest_at
    }

    /// Publishes the digest of all registrations.
    pub(crate) async fn publish_digest(&mut self) {
        let now = Instant::now();
        let is_recent = now.duration_since(self.changed_at) < RECENT;
        self.digest_at = now + if is_recent { SOON } else { LATER };
        let digest = self.numbers.digest();
        let message = DigestMessage {
            emitter: self.emitter.clone(),
            sequence: digest.sequence,
            registrations: digest.registrations,
            sum: digest.sum,
        };
        let payload = serde_json::to_vec(&message).unwrap_or_default();
        self.publish(subject::DIGEST, payload).await;
    }

    /// Answers a router that asks what changed, if it asks this emitter.
    pub(crate) async fn answer(&self, question: &DifferenceQuestion) {
        if question.emitter != self.emitter {
            return;
        }
        let difference = self.numbers.after(question.after, PART);
        let (mut register, mut unregister) = (Vec::new(), Vec::new());
        let occasion = Occasion::missed();
        for (sequence, numbered) in &difference.changes {
            let stamp = Stamp {
                emitter: &self.emitter,
                sequence: *sequence,
            };
            let payload = message::payload(numbered.registration(), occasion, Some(stamp));
            let text = String::from_utf8(payload).unwrap_or_default();
            match numbered {
                Numbered::Present(_) => register.push(text),
                Numbered::Removed(_) => unregister.push(text),
            }
        }
        tracing::info!(
            router = question.router,
            after = question.after,
            upto = difference.upto,
            registered = register.len(),
            unregistered = unregister.len(),
            "difference-sent"
        );
        let message = DifferenceMessage {
            emitter: self.emitter.clone(),
            router: question.router.clone(),
            after: question.after,
            upto: difference.upto,
            register,
            unregister,
        };
        let payload = serde_json::to_vec(&message).unwrap_or_default();
        self.publish(subject::DIFFERENCE, payload).await;
    }

    async fn publish(&self, subject: &'static str, payload: Vec<u8>) {
        if self.is_connected() {
            let publish = self.bus.publish(subject, payload.into());
            let _ = tokio::time::timeout(PATIENCE, publish).await;
        }
    }
}
