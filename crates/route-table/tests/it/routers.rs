//! A router and the messages on their way to it.

use rand::Rng as _;
use rand::rngs::StdRng;
use route_table::emission::Registration;
use route_table::numbering::Incoming;
use route_table::registry::{EndpointSpec, Fingerprint, Registered, Registry, Repeats, Settings};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// The seconds after which an endpoint without a registration is removed, also with TLS.
pub(crate) const STALE_TLS: u64 = 600;

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) registers: bool,
    pub(crate) registration: Registration,
    pub(crate) emitter: String,
    /// The emitter's number; `None` if it has forgotten it.
    pub(crate) number: Option<u64>,
}

impl Message {
    /// Returns the fingerprint of a message; as in the router, equal messages have equal ones.
    fn fingerprint(&self) -> Fingerprint {
        let Registration {
            route, endpoint, ..
        } = &self.registration;
        [1_u64, 2].map(|salt| {
            let mut hasher = DefaultHasher::new();
            salt.hash(&mut hasher);
            (&route.uri, &endpoint.host, endpoint.tls_port).hash(&mut hasher);
            (&endpoint.instance_guid, endpoint.index, &endpoint.app).hash(&mut hasher);
            (&self.emitter, self.number).hash(&mut hasher);
            hasher.finish()
        })
    }

    /// Returns whether a router that knows these numbers applies the message.
    fn is_admitted(&self, incoming: &mut Incoming, now: Instant) -> bool {
        let Some(number) = self.number else {
            return true;
        };
        let mut hasher = DefaultHasher::new();
        (&self.registration.route.uri, self.spec().address()).hash(&mut hasher);
        let key = hasher.finish();
        if self.registers {
            incoming.admit_registration(&self.emitter, number, key, now)
        } else {
            incoming.admit_removal(&self.emitter, number, key, now)
        }
    }

    fn spec(&self) -> EndpointSpec {
        let endpoint = &self.registration.endpoint;
        EndpointSpec {
            host: endpoint.host.clone(),
            port: endpoint.tls_port.unwrap_or(endpoint.port),
            tls: endpoint.tls_port.is_some(),
            app_id: endpoint.app.clone(),
            instance_id: endpoint.instance_guid.clone(),
            instance_index: endpoint.index.to_string(),
            server_cert_domain_san: endpoint.instance_guid.clone(),
            ..EndpointSpec::default()
        }
    }
}

#[derive(Debug)]
pub(crate) struct Router {
    pub(crate) registry: Registry,
    repeats: Repeats,
    pub(crate) incoming: Incoming,
    /// The messages that are on their way.
    bus: Vec<Message>,
    pub(crate) connected: bool,
    pub(crate) refreshed: u64,
}

impl Router {
    pub(crate) fn new(now: Instant) -> Self {
        let settings = Settings {
            stale_tls_threshold: Some(Duration::from_secs(STALE_TLS)),
            ..Settings::default()
        };
        Self {
            registry: Registry::new(settings, now),
            repeats: Repeats::default(),
            incoming: Incoming::default(),
            bus: Vec::new(),
            connected: true,
            refreshed: 0,
        }
    }

    /// Sends messages to the router. A router that is disconnected loses them.
    pub(crate) fn send(&mut self, messages: &[Message]) {
        if self.connected {
            self.bus.extend_from_slice(messages);
        }
    }

    /// Delivers one message: perhaps out of turn, perhaps twice, perhaps not at all.
    pub(crate) fn deliver_badly(&mut self, rng: &mut StdRng, now: Instant) {
        if self.bus.is_empty() || !self.connected {
            return;
        }
        let at = if rng.random_bool(0.5) {
            0
        } else {
            rng.random_range(0..self.bus.len())
        };
        match rng.random_range(0..10) {
            0 => drop(self.bus.remove(at)),
            1 => self.apply(&self.bus[at].clone(), now),
            _ => {
                let message = self.bus.remove(at);
                self.apply(&message, now);
            }
        }
        // A NATS server disconnects a subscriber that is too slow.
        if self.bus.len() > 2000 {
            self.bus.truncate(1000);
        }
    }

    pub(crate) fn deliver_all(&mut self, now: Instant) {
        for message in std::mem::take(&mut self.bus) {
            self.apply(&message, now);
        }
    }

    pub(crate) fn lose_messages(&mut self) {
        self.bus.clear();
    }

    pub(crate) fn apply(&mut self, message: &Message, now: Instant) {
        let uri = &message.registration.route.uri;
        let registry = &self.registry;
        if !message.registers {
            if message.is_admitted(&mut self.incoming, now) {
                registry.unregister(uri, &message.spec().address(), now);
            }
            return;
        }
        let fingerprint = message.fingerprint();
        let unparsed = self.repeats.refresh(fingerprint, registry, now).is_some();
        if !unparsed && !message.is_admitted(&mut self.incoming, now) {
            return;
        }
        self.refreshed += u64::from(unparsed);
        let mut endpoint = registry.endpoint(message.spec());
        let made = registry.register_with_place(uri, &mut endpoint, now, now);
        if unparsed {
            assert_eq!(
                made.outcome,
                Registered::Refreshed,
                "parsing would have done more"
            );
        } else {
            let places = made.place.into_iter().collect();
            self.repeats.record(fingerprint, places, 0, registry);
        }
    }
}
