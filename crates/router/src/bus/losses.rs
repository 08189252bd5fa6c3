//! Notices lost messages of an emitter by its digests, and requests the difference. The decisions are in
//! [`route_table::numbering`].

use super::message::ValidMessage;
use crate::config::Sharding;
use crate::worker::Shared;
use route_table::numbering::{Digest, Incoming};
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Instant;
use wire::router::digests::{DifferenceMessage, DifferenceQuestion, DigestMessage};

/// The source of log lines about messages that cannot be read.
const READING: &str = "router::bus::message";

#[derive(Debug)]
pub(super) struct Losses {
    incoming: Incoming,
    /// The keys of the hash of registrations. They are secret, so that nobody can make two with the same hash.
    hasher: RandomState,
    /// The time at which an emitter must be asked.
    ask_at: Option<Instant>,
    /// Whether this router receives all routes. One of an isolation segment ignores some, and cannot compare digests.
    takes_all: bool,
}

/// The kind of a message about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Registration,
    Removal,
}

impl Losses {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            incoming: Incoming::default(),
            hasher: RandomState::new(),
            ask_at: None,
            takes_all: matches!(shared.lasting.sharding, Sharding::All),
        }
    }

    /// Returns whether to apply a message. Those without a number, such as an original emitter's, are always applied.
    pub(super) fn admits(&mut self, message: &ValidMessage, kind: Kind, now: Instant) -> bool {
        let (Some(emitter), Some(sequence), [uri]) =
            (&message.emitter, message.sequence, &message.uris[..])
        else {
            return true;
        };
        if !self.takes_all {
            return true;
        }
        // Emitters distinguish their registrations in the same way.
        let key = (uri.to_lowercase(), message.spec.address());
        let key = self.hasher.hash_one(key);
        match kind {
            Kind::Registration => self
                .incoming
                .admit_registration(emitter, sequence, key, now),
            Kind::Removal => self.incoming.admit_removal(emitter, sequence, key, now),
        }
    }

    /// Compares an emitter's digest with what came from it.
    pub(super) fn compare(&mut self, payload: &[u8], now: Instant) {
        let digest = parse::<DigestMessage>(payload);
        let Some(digest) = digest.filter(|_| self.takes_all) else {
            return;
        };
        let other = Digest {
            sequence: digest.sequence,
            registrations: digest.registrations,
            sum: digest.sum,
        };
        self.incoming.compare(&digest.emitter, other, now);
        self.ask_at = self.incoming.ask_at();
    }

    /// Returns a difference, if it is for this router. The caller applies it, and then calls [`applied`](Self::applied).
    pub(super) fn difference(&self, shared: &Shared, payload: &[u8]) -> Option<DifferenceMessage> {
        parse::<DifferenceMessage>(payload).filter(|difference| difference.router == shared.id)
    }

    pub(super) fn applied(&mut self, difference: &DifferenceMessage, now: Instant) {
        let (after, upto) = (difference.after, difference.upto);
        self.incoming.applied(&difference.emitter, after, upto, now);
        self.ask_at = self.incoming.ask_at();
    }

    /// Returns when to [`ask`](Self::ask); `None`: all emitters agree with this router.
    pub(super) fn ask_at(&self) -> Option<Instant> {
        self.ask_at
    }

    /// Returns the questions that are due.
    pub(super) fn ask(&mut self, shared: &Shared, now: Instant) -> Vec<Vec<u8>> {
        let asks = self.incoming.ask(now);
        self.ask_at = self.incoming.ask_at();
        let question = |ask: route_table::numbering::Ask| {
            tracing::info!(
                emitter = ask.emitter,
                after = ask.after,
                "route-messages-lost"
            );
            shared.metrics.route_differences_requested.add(1);
            let question = DifferenceQuestion {
                emitter: ask.emitter,
                router: shared.id.clone(),
                after: ask.after,
            };
            serde_json::to_vec(&question).unwrap_or_default()
        };
        asks.into_iter().map(question).collect()
    }
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload)
        .inspect_err(|error| tracing::warn!(target: READING, %error, "digest-not-understood"))
        .ok()
}
