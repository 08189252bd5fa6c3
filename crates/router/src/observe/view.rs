//! The page `/route`, which is also an answer on the bus: what a request to one URL would meet in this router.

use crate::config::Sharding;
use crate::worker::Shared;
use route_table::registry::{MemberView, request_host};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use wire::router::{EndpointView, RouteView, ViewQuestion};

/// The source of log lines about messages that cannot be read.
const READING: &str = "router::bus::message";
/// The greatest number of failing requests that the page shows.
const FAILURES: usize = 10;

/// Returns the page of a URL, with or without its scheme.
pub(crate) fn page(shared: &Shared, url: &str, now: Instant) -> RouteView {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = match url.find('/') {
        Some(at) => url.split_at(at),
        None => (url, "/"),
    };
    let pool = shared.registry.lookup(host, path);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let pool = pool.as_ref();
    let service = pool.and_then(|pool| pool.route_service_url());
    RouteView {
        router: shared.id.clone(),
        http_address: shown(shared.reached.http),
        https_address: shown(shared.reached.https),
        now: clock.map_or(0, |clock| {
            i64::try_from(clock.as_secs()).unwrap_or(i64::MAX)
        }),
        is_healthy: Some(shared.healthy.load(Ordering::Relaxed)),
        bus_is_connected: Some(shared.bus_is_connected.is_met()),
        last_message_age: Some(shared.registry.since_update(now).as_secs_f64()),
        register_interval: shared.lasting.register_interval.as_secs_f64(),
        segments: segments(&shared.lasting.sharding),
        max_connections: shared.settings.max_conns_per_endpoint,
        route: pool.map(|pool| pool.uri().to_owned()),
        is_starting: pool.is_some_and(|pool| pool.is_starting(now)),
        route_service_url: service.map_or_else(String::new, |url| url.to_string()),
        endpoints: pool.map_or_else(Vec::new, |pool| {
            pool.view(now).iter().map(endpoint).collect()
        }),
        failures: shared
            .failures
            .last(&request_host(host).to_lowercase(), FAILURES),
    }
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| address.to_string())
}

/// Returns the answer to a question on the bus; `None` if it cannot be read.
pub(crate) fn answer(shared: &Shared, question: &[u8]) -> Option<Vec<u8>> {
    let question: ViewQuestion = serde_json::from_slice(question)
        .inspect_err(
            |error| tracing::warn!(target: READING, %error, "view-question-not-understood"),
        )
        .ok()?;
    serde_json::to_vec(&page(shared, &question.url, Instant::now())).ok()
}

/// Returns the isolation segments that the router accepts; the empty one is that of shared routes. `None` means all.
fn segments(sharding: &Sharding) -> Option<Vec<String>> {
    match sharding {
        Sharding::All => None,
        Sharding::Segments(listed) => Some(listed.clone()),
        Sharding::SharedAndSegments(listed) => {
            let mut segments = vec![String::new()];
            segments.extend(listed.iter().cloned());
            Some(segments)
        }
    }
}

fn endpoint(member: &MemberView) -> EndpointView {
    let spec = member.endpoint.spec();
    EndpointView {
        address: member.endpoint.address().to_owned(),
        tls: spec.tls,
        server_cert_domain_san: spec.server_cert_domain_san.to_owned(),
        instance_guid: spec.instance_id.to_owned(),
        isolation_segment: spec.isolation_segment.to_owned(),
        component: member.endpoint.tag("component").to_owned(),
        generation: member.endpoint.generation(),
        message_age: Some(member.silence.as_secs_f64()),
        has_failed: member.has_failed,
        in_flight: member.endpoint.in_flight(),
    }
}
