//! A router and the messages on their way to it.

use rand::Rng as _;
use rand::rngs::StdRng;
use route_table::emission::{Changes, Registration};
use route_table::registry::{EndpointSpec, Fingerprint, Registered, Registry, Repeats, Settings};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// The seconds after which an endpoint without a registration is removed, also with TLS.
pub(crate) const STALE_TLS: u64 = 600;

#[derive(Clone, Debug)]
pub(crate) struct Message {
    registers: bool,
    registration: Registration,
}

impl Message {
    pub(crate) fn all_of(changes: &Changes) -> Vec<Self> {
        let register = changes.register.iter().map(Self::register);
        let unregister = changes.unregister.iter().map(Self::unregister);
        register.chain(unregister).collect()
    }

    pub(crate) fn register(registration: &Registration) -> Self {
        Self {
            registers: true,
            registration: registration.clone(),
        }
    }

    pub(crate) fn unregister(registration: &Registration) -> Self {
        Self {
            registers: false,
            registration: registration.clone(),
        }
    }

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
            hasher.finish()
        })
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

    fn apply(&mut self, message: &Message, now: Instant) {
        let uri = &message.registration.route.uri;
        let registry = &self.registry;
        if !message.registers {
            registry.unregister(uri, &message.spec().address(), now);
            return;
        }
        let fingerprint = message.fingerprint();
        let unparsed = self.repeats.refresh(fingerprint, registry, now).is_some();
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
