//! The page that Prometheus reads.

use super::{Metrics, open_files};
use crate::worker::Shared;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Returns the page in Prometheus' text format.
pub(crate) fn render(shared: &Shared) -> String {
    let metrics = &*shared.metrics;
    let mut out = String::new();
    counters(&mut out, metrics);
    families(&mut out, metrics);
    gauges(&mut out, metrics, shared);
    if metrics.per_app {
        pools(&mut out, shared);
    }
    for (name, histogram) in [
        ("route_lookup_time", &metrics.route_lookup_time),
        (
            "route_registration_latency",
            &metrics.route_registration_latency,
        ),
        ("gorouter_time", &metrics.gorouter_time),
    ] {
        histogram.render(&mut out, name);
    }
    let _ = writeln!(out, "# TYPE latency histogram");
    for (component, passed) in metrics.traffic.all() {
        let label = format!("component={component:?}");
        passed.latency.rows(&mut out, "latency", &label);
    }
    if metrics.per_app {
        metrics
            .http_latency
            .render(&mut out, "http_latency_seconds", "source_id");
    }
    out
}

/// Writes the counters with labels.
fn families(out: &mut String, metrics: &Metrics) {
    let mut family = |name: &str, rows: Vec<(String, u64)>| {
        let _ = writeln!(out, "# TYPE {name} counter");
        for (labels, value) in rows {
            let _ = writeln!(out, "{name}{{{labels}}} {value}");
        }
    };
    let messages = metrics.registry_message.all().into_iter();
    let messages = messages.map(|((component, action), n)| {
        let labels = format!("component={component:?},action={action:?}");
        (labels, n.value())
    });
    family("registry_message", messages.collect());
    let component = |name: &str| format!("component={name:?}");
    let messages = metrics.unregistry_message.all().into_iter();
    let messages = messages.map(|(name, n)| (component(&name), n.value()));
    family("unregistry_message", messages.collect());
    let requests = metrics.traffic.all().into_iter();
    let requests = requests.map(|(name, passed)| (component(&name), passed.requests.value()));
    family("total_requests", requests.collect());
    for (name, responses) in [
        ("responses", metrics.traffic.responses()),
        ("responses_route_services", metrics.route_services.values()),
    ] {
        let rows = responses.map(|(group, n)| (format!("status_group={group:?}"), n));
        family(name, rows.to_vec());
    }
}

fn counters(out: &mut String, metrics: &Metrics) {
    for (name, counter) in [
        ("routes_registered", &metrics.routes_registered),
        ("routes_unregistered", &metrics.routes_unregistered),
        ("routes_pruned", &metrics.routes_pruned),
        (
            "component_routes_refused",
            &metrics.component_routes_refused,
        ),
        (
            "route_differences_requested",
            &metrics.route_differences_requested,
        ),
        ("token_fetch_errors", &metrics.token_fetch_errors),
        ("subscribe_events_errors", &metrics.subscribe_events_errors),
        ("rejected_requests", &metrics.rejected_requests),
        ("bad_gateways", &metrics.bad_gateways),
        (
            "empty_content_length_header",
            &metrics.empty_content_length_header,
        ),
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
    let loaded = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
    let mut gauge = |name: &str, value: u64| {
        let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
    };
    gauge("total_routes", shared.registry.routes() as u64);
    gauge("ms_since_last_registry_update", since_update as u64);
    gauge("buffered_messages", loaded(&metrics.buffered_messages));
    let dropped = &metrics.total_dropped_messages;
    gauge("total_dropped_messages", dropped.value());
    gauge("buffers_held", loaded(&metrics.buffers_held));
    gauge("access_log_dropped_lines", shared.access_log.dropped());
    if let Some(envelopes) = &shared.envelopes {
        gauge("envelopes_dropped", envelopes.dropped());
    }
    match open_files() {
        Some(open) => gauge("file_descriptors", open),
        None => metrics.not_gathered.add(1),
    }
    if let Some(queue) = shared.tracer.queue() {
        for (name, count) in [
            ("otlp_traces_sent", queue.sent()),
            ("otlp_traces_dropped", queue.dropped()),
        ] {
            let _ = writeln!(out, "# TYPE {name} counter\n{name} {count}");
        }
    }
    // The name is that of Prometheus' own library, which counts the same.
    let name = "promhttp_metric_handler_errors_total";
    let failures = metrics.not_gathered.value();
    let _ = writeln!(
        out,
        "# TYPE {name} counter\n{name}{{cause=\"gathering\"}} {failures}"
    );
}

/// Writes a row for each route, only where the operator also wants labels for each app.
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
