//! Tests of what operators see of a route-emitter.

use crate::fixture::{Stage, actual, desired};
use testkit::metrics::value;
use testkit::wait::until;

#[tokio::test]
async fn an_emitter_is_ready_after_its_sync_and_counts_messages() {
    let mut stage = Stage::start(vec![desired(&["a.x", "b.x"], 1)], vec![actual(1)], |_| {}).await;
    stage.next().await;
    stage.next().await;
    let metric = |name: &str| value(&stage.observed.metrics.text(), name);
    until("readiness", || stage.observed.readiness.unmet().is_empty()).await;
    for (name, wanted) in [
        ("route_emitter_routes", 2.0),
        ("route_emitter_http_route_count", 2.0),
        ("route_emitter_routes_registered_total", 2.0),
        ("route_emitter_routes_unregistered_total", 0.0),
        (
            "route_emitter_internal_route_nats_messages_emitted_total",
            0.0,
        ),
    ] {
        until(name, || metric(name) == Some(wanted)).await;
    }
    assert!(metric("route_emitter_http_route_nats_messages_emitted_total") >= Some(2.0));
    assert!(metric("route_emitter_sync_duration_seconds_count") >= Some(1.0));
}
