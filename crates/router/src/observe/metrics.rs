//! Counters and histograms under gorouter's Prometheus names.

mod histogram;
mod text;

use crate::backend::failure::Fault;
use crate::config::Settings;
use crate::rejection::Rejection;
use crate::router::Shared;
use histogram::{Histogram, Histograms};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by one label with few values.
#[derive(Debug, Default)]
pub(crate) struct Family(RwLock<BTreeMap<String, Arc<Counter>>>);

impl Family {
    pub(crate) fn add(&self, label: &str) {
        if let Some(counter) = self
            .0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(label)
        {
            return counter.add(1);
        }
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(label.to_owned())
            .or_default()
            .add(1);
    }

    /// For who counts often.
    pub(crate) fn counter(&self, label: &str) -> Arc<Counter> {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(label.to_owned())
            .or_default()
            .clone()
    }

    pub(crate) fn values(&self) -> Vec<(String, u64)> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(label, counter)| (label.clone(), counter.value()))
            .collect()
    }
}

#[derive(Debug)]
pub(crate) struct Metrics {
    /// By component and action, as the rendered labels.
    pub(crate) registry_message: Family,
    pub(crate) unregistry_message: Family,
    pub(crate) routes_pruned: Counter,
    pub(crate) buffered_messages: AtomicU64,
    pub(crate) total_dropped_messages: Counter,
    /// Buffers that hold bytes on their way: none, while nothing moves.
    pub(crate) buffers_held: Arc<AtomicU64>,
    pub(crate) route_lookup_time: Histogram,
    pub(crate) route_registration_latency: Histogram,
    pub(crate) websocket_upgrades: Counter,
    pub(crate) websocket_failures: Counter,
    pub(crate) backend_exhausted_conns: Counter,
    pub(crate) rejected_requests: Counter,
    pub(crate) bad_gateways: Counter,
    pub(crate) total_requests: Family,
    pub(crate) latency: Histograms,
    responses: [Counter; GROUPS.len()],
    gorouter_time: Histogram,
    http_latency: Histograms,
    backend_invalid_id: Counter,
    backend_invalid_tls_cert: Counter,
    backend_tls_handshake_failed: Counter,
    per_request: bool,
    per_app: bool,
}

/// Of statuses; the last is for what is none of them.
const GROUPS: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "xxx"];

impl Metrics {
    pub(crate) fn new(settings: &Settings) -> Self {
        let buckets = &settings.buckets;
        Self {
            registry_message: Family::default(),
            unregistry_message: Family::default(),
            routes_pruned: Counter::default(),
            buffered_messages: AtomicU64::new(0),
            total_dropped_messages: Counter::default(),
            buffers_held: Arc::default(),
            route_lookup_time: Histogram::new(&buckets.lookup, 1.0),
            route_registration_latency: Histogram::new(&buckets.registration, 1e6),
            websocket_upgrades: Counter::default(),
            websocket_failures: Counter::default(),
            backend_exhausted_conns: Counter::default(),
            rejected_requests: Counter::default(),
            bad_gateways: Counter::default(),
            total_requests: Family::default(),
            latency: Histograms::new(&buckets.latency, 1e3),
            responses: Default::default(),
            gorouter_time: Histogram::new(&buckets.gorouter_time, 1e3),
            http_latency: Histograms::new(&buckets.http_latency, 1e6),
            backend_invalid_id: Counter::default(),
            backend_invalid_tls_cert: Counter::default(),
            backend_tls_handshake_failed: Counter::default(),
            per_request: settings.per_request_metrics,
            per_app: settings.per_app_metrics,
        }
    }

    /// A backend has answered.
    pub(crate) fn answered(&self, component: &str, status: u16) {
        if !self.per_request {
            return;
        }
        self.total_requests.add(component);
        let group = usize::from(status / 100).wrapping_sub(2);
        self.responses[group.min(GROUPS.len() - 1)].add(1);
    }

    pub(crate) fn rejected(&self, rejection: &Rejection) {
        match rejection {
            Rejection::Backend(fault) if fault.status() == 502 => self.bad_gateways.add(1),
            Rejection::NoneAvailable
            | Rejection::RouteServiceUnsupported
            | Rejection::RouteServiceSignature { expired: false }
            | Rejection::Panic => self.bad_gateways.add(1),
            Rejection::Backend(_) => {}
            _ => self.rejected_requests.add(1),
        }
    }

    pub(crate) fn fault(&self, fault: &Fault) {
        match fault.status() {
            503 => self.backend_invalid_id.add(1),
            525 => self.backend_tls_handshake_failed.add(1),
            526 => self.backend_invalid_tls_cert.add(1),
            _ => {}
        }
    }

    /// A request is over. `component`, `source_id`: of the backend that answered, empty if none did.
    pub(crate) fn finished(
        &self,
        component: &str,
        source_id: &str,
        total: Duration,
        ours: Duration,
    ) {
        if !self.per_request {
            return;
        }
        self.latency.observe(component, total.as_secs_f64() * 1e3);
        self.gorouter_time.observe(ours.as_secs_f64() * 1e3);
        if self.per_app && !source_id.is_empty() {
            self.http_latency.observe(source_id, total.as_secs_f64());
        }
    }

    /// By status group.
    pub(crate) fn responses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let groups = GROUPS.iter().zip(&self.responses);
        groups.map(|(group, counter)| (*group, counter.value()))
    }

    /// The Prometheus text format.
    pub(crate) fn render(&self, shared: &Shared) -> String {
        text::render(self, shared)
    }
}
