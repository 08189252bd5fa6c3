//! Counters and histograms under gorouter's Prometheus names.

use crate::backend::failure::Fault;
use crate::rejection::Rejection;
use crate::router::Shared;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
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

    fn values(&self) -> Vec<(String, u64)> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(label, counter)| (label.clone(), counter.value()))
            .collect()
    }
}

/// Upper bounds and a count for each, and one for what is above.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// In thousandths.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: f64) {
        let at = self
            .bounds
            .iter()
            .position(|bound| value <= *bound)
            .unwrap_or(self.bounds.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum
            .fetch_add((value.max(0.0) * 1000.0) as u64, Ordering::Relaxed);
    }

    fn render(&self, out: &mut String, name: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        let mut total = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        total += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {total}\n{name}_sum {}\n{name}_count {total}",
            self.sum.load(Ordering::Relaxed) as f64 / 1000.0
        );
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
    gorouter_time: Histogram,
    latency: Histogram,
    total_requests: Family,
    rejected_requests: Counter,
    bad_gateways: Counter,
    backend_invalid_id: Counter,
    backend_invalid_tls_cert: Counter,
    backend_tls_handshake_failed: Counter,
    responses: Family,
}

const MILLISECONDS: &[f64] = &[
    1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 50.0, 100.0, 500.0, 1000.0,
];
const LOOKUP_NANOSECONDS: &[f64] = &[
    10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0, 60_000.0, 70_000.0, 80_000.0, 90_000.0,
    100_000.0,
];
const REGISTRATION_SECONDS: &[f64] = &[0.1, 0.2, 0.4, 0.8, 1.0, 2.0, 4.0];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            registry_message: Family::default(),
            unregistry_message: Family::default(),
            routes_pruned: Counter::default(),
            buffered_messages: AtomicU64::new(0),
            total_dropped_messages: Counter::default(),
            buffers_held: Arc::default(),
            route_lookup_time: Histogram::new(LOOKUP_NANOSECONDS),
            route_registration_latency: Histogram::new(REGISTRATION_SECONDS),
            websocket_upgrades: Counter::default(),
            websocket_failures: Counter::default(),
            backend_exhausted_conns: Counter::default(),
            gorouter_time: Histogram::new(MILLISECONDS),
            latency: Histogram::new(MILLISECONDS),
            total_requests: Family::default(),
            rejected_requests: Counter::default(),
            bad_gateways: Counter::default(),
            backend_invalid_id: Counter::default(),
            backend_invalid_tls_cert: Counter::default(),
            backend_tls_handshake_failed: Counter::default(),
            responses: Family::default(),
        }
    }
}

impl Metrics {
    /// A backend has answered.
    pub(crate) fn answered(&self, component: &str, status: u16) {
        self.total_requests.add(component);
        self.responses.add(match status {
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500..600 => "5xx",
            _ => "xxx",
        });
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

    pub(crate) fn finished(&self, total: Duration, ours: Duration) {
        self.latency.observe(total.as_secs_f64() * 1000.0);
        self.gorouter_time.observe(ours.as_secs_f64() * 1000.0);
    }

    /// The Prometheus text format.
    pub(crate) fn render(&self, shared: &Shared) -> String {
        let mut out = String::new();
        let mut family = |name: &str, rows: Vec<(String, u64)>| {
            let _ = writeln!(out, "# TYPE {name} counter");
            for (labels, value) in rows {
                let _ = writeln!(out, "{name}{{{labels}}} {value}");
            }
        };
        family("registry_message", self.registry_message.values());
        family("unregistry_message", self.unregistry_message.values());
        family(
            "total_requests",
            labelled("component", &self.total_requests),
        );
        family("responses", labelled("status_group", &self.responses));
        for (name, counter) in [
            ("routes_pruned", &self.routes_pruned),
            ("total_dropped_messages", &self.total_dropped_messages),
            ("rejected_requests", &self.rejected_requests),
            ("bad_gateways", &self.bad_gateways),
            ("backend_invalid_id", &self.backend_invalid_id),
            ("backend_invalid_tls_cert", &self.backend_invalid_tls_cert),
            (
                "backend_tls_handshake_failed",
                &self.backend_tls_handshake_failed,
            ),
            ("backend_exhausted_conns", &self.backend_exhausted_conns),
            ("websocket_upgrades", &self.websocket_upgrades),
            ("websocket_failures", &self.websocket_failures),
        ] {
            let _ = writeln!(out, "# TYPE {name} counter\n{name} {}", counter.value());
        }
        let since_update = shared.registry.since_update(Instant::now()).as_millis();
        for (name, value) in [
            ("total_routes", shared.registry.routes() as u128),
            ("ms_since_last_registry_update", since_update),
            (
                "buffered_messages",
                u128::from(self.buffered_messages.load(Ordering::Relaxed)),
            ),
            (
                "buffers_held",
                u128::from(self.buffers_held.load(Ordering::Relaxed)),
            ),
            (
                "access_log_dropped_lines",
                u128::from(shared.access_log.dropped()),
            ),
        ] {
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
        }
        self.route_lookup_time.render(&mut out, "route_lookup_time");
        self.route_registration_latency
            .render(&mut out, "route_registration_latency");
        self.gorouter_time.render(&mut out, "gorouter_time");
        self.latency.render(&mut out, "latency");
        out
    }
}

fn labelled(label: &str, family: &Family) -> Vec<(String, u64)> {
    family
        .values()
        .into_iter()
        .map(|(value, count)| (format!("{label}={value:?}"), count))
        .collect()
}
