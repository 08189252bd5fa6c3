//! The page that Prometheus reads.

use super::Metrics;
use crate::router::Shared;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) fn render(metrics: &Metrics, shared: &Shared) -> String {
    let mut out = String::new();
    counters(&mut out, metrics);
    gauges(&mut out, metrics, shared);
    if metrics.per_app {
        pools(&mut out, shared);
    }
    metrics
        .route_lookup_time
        .render(&mut out, "route_lookup_time");
    metrics
        .route_registration_latency
        .render(&mut out, "route_registration_latency");
    metrics.gorouter_time.render(&mut out, "gorouter_time");
    metrics.latency.render(&mut out, "latency", "component");
    if metrics.per_app {
        metrics
            .http_latency
            .render(&mut out, "http_latency_seconds", "source_id");
    }
    out
}

fn counters(out: &mut String, metrics: &Metrics) {
    let mut family = |name: &str, rows: Vec<(String, u64)>| {
        let _ = writeln!(out, "# TYPE {name} counter");
        for (labels, value) in rows {
            let _ = writeln!(out, "{name}{{{labels}}} {value}");
        }
    };
    family("registry_message", metrics.registry_message.values());
    family("unregistry_message", metrics.unregistry_message.values());
    let requests = metrics.total_requests.values().into_iter();
    let requests = requests.map(|(component, n)| (format!("component={component:?}"), n));
    family("total_requests", requests.collect());
    let responses = metrics
        .responses()
        .map(|(group, n)| (format!("status_group={group:?}"), n));
    family("responses", responses.collect());
    for (name, counter) in [
        ("routes_pruned", &metrics.routes_pruned),
        ("total_dropped_messages", &metrics.total_dropped_messages),
        ("rejected_requests", &metrics.rejected_requests),
        ("bad_gateways", &metrics.bad_gateways),
        ("backend_invalid_id", &metrics.backend_invalid_id),
        (
            "backend_invalid_tls_cert",
            &metrics.backend_invalid_tls_cert,
        ),
        (
            "backend_tls_handshake_failed",
            &metrics.backend_tls_handshake_failed,
        ),
        ("backend_exhausted_conns", &metrics.backend_exhausted_conns),
        ("websocket_upgrades", &metrics.websocket_upgrades),
        ("websocket_failures", &metrics.websocket_failures),
    ] {
        let _ = writeln!(out, "# TYPE {name} counter\n{name} {}", counter.value());
    }
}

fn gauges(out: &mut String, metrics: &Metrics, shared: &Shared) {
    let since_update = shared.registry.since_update(Instant::now()).as_millis();
    let buffered = metrics.buffered_messages.load(Ordering::Relaxed);
    let mut gauge = |name: &str, value: u128| {
        let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
    };
    gauge("total_routes", shared.registry.routes() as u128);
    gauge("ms_since_last_registry_update", since_update);
    gauge("buffered_messages", u128::from(buffered));
    let held = metrics.buffers_held.load(Ordering::Relaxed);
    gauge("buffers_held", u128::from(held));
    gauge(
        "access_log_dropped_lines",
        u128::from(shared.access_log.dropped()),
    );
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // Less the one that reads.
        gauge("file_descriptors", (open.count().max(1) - 1) as u128);
    }
}

/// A label for each route: only where labels for each app are wanted as well.
fn pools(out: &mut String, shared: &Shared) {
    let _ = writeln!(out, "# TYPE endpoints_per_pool gauge");
    for (uri, pool) in shared.registry.snapshot().iter() {
        let _ = writeln!(
            out,
            "endpoints_per_pool{{route={uri:?},lb_algorithm={:?}}} {}",
            pool.balancing().as_str(),
            pool.len()
        );
    }
}
