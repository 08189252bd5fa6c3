//! One backend as the registry knows it: what its registration said, and what the router found out about it since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Http1,
    Http2,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// What a registration says of an endpoint. Two equal specs are the same endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub protocol: Protocol,
    pub app_id: String,
    pub instance_id: String,
    pub instance_index: String,
    /// The name that the backend's certificate must carry; empty: its host.
    pub server_cert_domain_san: String,
    pub tags: Arc<BTreeMap<String, String>>,
    pub route_service_url: String,
    pub isolation_segment: String,
    pub availability_zone: String,
    /// Zero or above the router's own: the router's own.
    pub stale_threshold: Duration,
}

/// A registered endpoint. The marks on it are shared by all routes of its message.
#[derive(Debug)]
pub struct Endpoint {
    spec: EndpointSpec,
    address: String,
    /// Connections may be shared by endpoints with the same number, and by no others.
    transport: u64,
    epoch: Instant,
    seen_ms: AtomicU64,
    /// 0: not failed.
    failed_ms: AtomicU64,
    /// Survives an update of the registration: the requests do.
    in_flight: Arc<AtomicU32>,
}

impl Endpoint {
    pub(super) fn new(spec: EndpointSpec, transport: u64, epoch: Instant, now: Instant) -> Self {
        let address = if spec.host.contains(':') {
            format!("[{}]:{}", spec.host, spec.port)
        } else {
            format!("{}:{}", spec.host, spec.port)
        };
        Self {
            spec,
            address,
            transport,
            epoch,
            seen_ms: AtomicU64::new(millis(epoch, now)),
            failed_ms: AtomicU64::new(0),
            in_flight: Arc::default(),
        }
    }

    /// The same as `self`, with the connections of `old`, if both name the same peer.
    pub(super) fn succeed(&self, old: &Self, now: Instant) -> Arc<Self> {
        let same_peer = self.spec.tls == old.spec.tls
            && self.spec.protocol == old.spec.protocol
            && self.spec.server_cert_domain_san == old.spec.server_cert_domain_san
            && self.spec.instance_id == old.spec.instance_id;
        let transport = if same_peer {
            old.transport
        } else {
            self.transport
        };
        let mut new = Self::new(self.spec.clone(), transport, self.epoch, now);
        new.in_flight = old.in_flight.clone();
        Arc::new(new)
    }

    pub fn spec(&self) -> &EndpointSpec {
        &self.spec
    }

    /// `host:port`, the endpoint's identity within a pool.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn transport(&self) -> u64 {
        self.transport
    }

    /// The instance guid, or the address when the registration had none.
    pub fn instance_id(&self) -> &str {
        if self.spec.instance_id.is_empty() {
            &self.address
        } else {
            &self.spec.instance_id
        }
    }

    /// The name to verify in the backend's certificate.
    pub fn tls_name(&self) -> &str {
        if self.spec.server_cert_domain_san.is_empty() {
            &self.spec.host
        } else {
            &self.spec.server_cert_domain_san
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn refresh(&self, now: Instant) {
        self.seen_ms
            .store(millis(self.epoch, now), Ordering::Relaxed);
    }

    /// TLS endpoints never go stale: a wrong peer shows by its certificate.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        let age = millis(self.epoch, now).saturating_sub(self.seen_ms.load(Ordering::Relaxed));
        !self.spec.tls && u128::from(age) > self.spec.stale_threshold.as_millis()
    }

    pub(super) fn mark_failed(&self, now: Instant) {
        self.failed_ms
            .store(millis(self.epoch, now).max(1), Ordering::Relaxed);
    }

    pub(super) fn clear_failed(&self) {
        self.failed_ms.store(0, Ordering::Relaxed);
    }

    /// A failure is held against an endpoint for a quarter of its stale threshold (30 s).
    pub(super) fn is_failed(&self, now: Instant) -> bool {
        let failed = self.failed_ms.load(Ordering::Relaxed);
        failed != 0
            && u128::from(millis(self.epoch, now).saturating_sub(failed))
                < self.spec.stale_threshold.as_millis() / 4
    }

    pub(super) fn is_full(&self, max_conns: u32) -> bool {
        max_conns > 0 && self.in_flight() >= max_conns
    }

    pub(super) fn tag(&self, name: &str) -> &str {
        self.spec.tags.get(name).map_or("", String::as_str)
    }
}

/// Counts one request (or tunnel) of an endpoint for as long as it lives.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn millis(epoch: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(epoch).as_millis()).unwrap_or(u64::MAX)
}
