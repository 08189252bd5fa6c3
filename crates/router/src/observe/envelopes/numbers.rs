//! Metrics for metron: the growth of counters since the last time, and values as they are.

use super::Envelopes;
use crate::observe::metrics::{Metrics, open_files};
use crate::worker::Shared;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The counters that are sent even if they have not grown.
const ALWAYS: &[&str] = &[
    "bad_gateways",
    "backend_exhausted_conns",
    "backend_invalid_id",
    "backend_invalid_tls_cert",
    "backend_tls_handshake_failed",
    "rejected_requests",
    "total_requests",
    "responses",
    "responses.2xx",
    "responses.3xx",
    "responses.4xx",
    "responses.5xx",
    "responses.xxx",
    "routed_app_requests",
    "routes_pruned",
    "websocket_failures",
    "websocket_upgrades",
];

#[derive(Debug)]
pub(crate) struct Numbers {
    envelopes: Arc<Envelopes>,
    started: Instant,
    sent: HashMap<String, u64>,
}

impl Numbers {
    pub(crate) fn new(envelopes: Arc<Envelopes>) -> Self {
        Self {
            envelopes,
            started: Instant::now(),
            sent: HashMap::new(),
        }
    }

    pub(crate) fn send(&mut self, shared: &Shared) {
        for (name, delta) in self.grown(totals(&shared.metrics)) {
            self.envelopes.count(name, delta);
        }
        let now = Instant::now();
        let since_update = shared.registry.since_update(now).as_millis();
        let buffered = shared.metrics.buffered_messages.load(Ordering::Relaxed);
        let dropped = shared.metrics.total_dropped_messages.value();
        for (name, value, unit) in [
            ("total_routes", shared.registry.routes() as u64, ""),
            ("ms_since_last_registry_update", since_update as u64, "ms"),
            ("buffered_messages", buffered, "message"),
            ("total_dropped_messages", dropped, "message"),
            ("file_descriptors", open_files().unwrap_or_default(), "file"),
            ("uptime", (now - self.started).as_secs(), "seconds"),
        ] {
            self.envelopes.value(name, value as f64, unit);
        }
    }

    fn grown(&mut self, totals: Vec<(String, u64)>) -> Vec<(String, u64)> {
        let mut grown = Vec::new();
        for (name, total) in totals {
            let sent = self.sent.entry(name.clone()).or_default();
            let delta = total.saturating_sub(std::mem::replace(sent, total));
            if delta > 0 || ALWAYS.contains(&name.as_str()) {
                grown.push((name, delta));
            }
        }
        grown
    }
}

/// Returns every counter under its name in envelopes.
fn totals(metrics: &Metrics) -> Vec<(String, u64)> {
    let mut totals = Vec::new();
    let mut total = |name: String, n: u64| totals.push((name, n));
    for (name, counter) in [
        ("backend_exhausted_conns", &metrics.backend_exhausted_conns),
        ("backend_invalid_id", &metrics.backend_invalid_id),
        (
            "backend_invalid_tls_cert",
            &metrics.backend_invalid_tls_cert,
        ),
        (
            "backend_tls_handshake_failed",
            &metrics.backend_tls_handshake_failed,
        ),
        ("rejected_requests", &metrics.rejected_requests),
        ("bad_gateways", &metrics.bad_gateways),
        (
            "empty_content_length_header",
            &metrics.empty_content_length_header,
        ),
        ("websocket_upgrades", &metrics.websocket_upgrades),
        ("websocket_failures", &metrics.websocket_failures),
        ("routes_registered", &metrics.routes_registered),
        ("routes_unregistered", &metrics.routes_unregistered),
        ("routes_pruned", &metrics.routes_pruned),
        ("token_fetch_errors", &metrics.token_fetch_errors),
        ("subscribe_events_errors", &metrics.subscribe_events_errors),
    ] {
        total(name.to_owned(), counter.value());
    }
    let mut to_cells = 0;
    for (component, passed) in metrics.traffic.all() {
        let requests = passed.requests.value();
        if component.starts_with("dea-") {
            to_cells += requests;
        }
        if !component.is_empty() {
            total(format!("requests.{component}"), requests);
        }
    }
    total("total_requests".into(), metrics.traffic.requests());
    total("routed_app_requests".into(), to_cells);
    for (name, groups) in [
        ("responses", metrics.traffic.responses()),
        ("responses.route_services", metrics.route_services.values()),
    ] {
        total(name.to_owned(), groups.iter().map(|(_, n)| n).sum());
        for (group, n) in groups {
            total(format!("{name}.{group}"), n);
        }
    }
    let mut messages = HashMap::<String, u64>::new();
    for ((component, _), n) in metrics.registry_message.all() {
        *messages.entry(component).or_default() += n.value();
    }
    let of = |name: &str, component: &str| {
        let parts = [name, component];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(".")
    };
    for (component, n) in messages {
        total(of("registry_message", &component), n);
    }
    for (component, n) in metrics.unregistry_message.all() {
        total(of("unregistry_message", &component), n.value());
    }
    totals
}
