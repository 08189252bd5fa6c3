//! The table of faults behind the cells: of emitters, of the bus, of routers, and of requests.

use super::faults::Fault;
use super::{probes, view, views};
use crate::component::Component;

/// Faults behind the cells.
pub(super) const ROUTERS: &[Fault] = &[
    (
        "the emitter is stopped before it registered the instance",
        |facts| views(facts, |view| drop(view.endpoints.remove(1))),
        (Component::RouteEmitter, "router.register", "shop/1"),
        "the emitter of cell cell-1 does not register it",
    ),
    (
        "the emitter is stopped",
        |facts| views(facts, |view| view.endpoints[1].message_age = Some(95.0)),
        (Component::RouteEmitter, "router.register", "shop/1"),
        "has not registered shop/1 for 95 s",
    ),
    (
        "the bus is stopped",
        |facts| {
            facts.bus = Some(Err("connection refused".to_owned()));
            views(facts, |view| view.bus_is_connected = Some(false));
        },
        (Component::Nats, "bus", ""),
        "does not answer: connection refused",
    ),
    (
        "the bus loses all messages",
        |facts| {
            views(facts, |view| {
                view.last_message_age = Some(90.0);
                view.endpoints.clear();
            });
        },
        (Component::Nats, "bus", ""),
        "No message has reached a router for 90 s",
    ),
    (
        "one router has lost the bus",
        |facts| view(facts).bus_is_connected = Some(false),
        (Component::Router, "bus", "router-b"),
        "is not connected to the message bus",
    ),
    (
        "the clock of one router is wrong",
        |facts| view(facts).now -= 3600,
        (Component::Router, "clock", "router-b"),
        "3600 s behind",
    ),
    (
        "one router drains",
        |facts| view(facts).is_healthy = Some(false),
        (Component::Router, "health", "router-b"),
        "starting or draining",
    ),
    (
        "one router is paused",
        |facts| {
            facts.routers[1].view = Err("timed out after 5 s".to_owned());
            facts.routers[1].probe = Some(Err("timed out after 5 s".to_owned()));
        },
        (Component::Router, "page", "router-b"),
        "does not answer: timed out",
    ),
    (
        "one router lost a message",
        |facts| drop(view(facts).endpoints.remove(1)),
        (Component::Router, "table", "router-b for shop/1"),
        "has no endpoint 10.0.0.1:61011",
    ),
    (
        "one router has an old address",
        |facts| view(facts).endpoints[1].address = "10.0.0.1:61099".to_owned(),
        (Component::Router, "table", "router-b for shop/1"),
        "at 10.0.0.1:61099, and it is at 10.0.0.1:61011",
    ),
    (
        "one router has the endpoint without TLS",
        |facts| view(facts).endpoints[1].tls = false,
        (Component::Router, "table", "router-b for shop/1"),
        "with tls=false",
    ),
    (
        "one router expects the name of an earlier instance",
        |facts| view(facts).endpoints[1].server_cert_domain_san = "i9".to_owned(),
        (Component::Router, "table", "router-b for shop/1"),
        "expects the certificate name \"i9\"",
    ),
    (
        "an unregistration was lost",
        |facts| {
            let mut stale = view(facts).endpoints[1].clone();
            stale.address = "10.0.0.1:61044".to_owned();
            stale.instance_guid = "i9".to_owned();
            view(facts).endpoints.push(stale);
        },
        (Component::Router, "stale endpoint", "router-b"),
        "10.0.0.1:61044 of the instance i9",
    ),
    (
        "the limit of connections is reached",
        |facts| view(facts).endpoints[0].in_flight = 500,
        (Component::Router, "table", "router-b for shop/0"),
        "has 500 requests",
    ),
    (
        "no router serves the isolation segment",
        |facts| {
            facts.desired.as_mut().unwrap()[0].routes[0].isolation_segment = "iso".to_owned();
            views(facts, |view| {
                view.segments = Some(vec![String::new()]);
                view.endpoints.clear();
            });
        },
        (Component::Router, "segments", "router-a"),
        "No router serves the isolation segment \"iso\"",
    ),
    (
        "the route service is dead",
        |facts| {
            views(facts, |view| {
                view.route_service_url = "https://rs.example.test".to_owned()
            });
            probes(
                facts,
                502,
                "endpoint_failure (dial tcp 192.0.2.7:443: connection refused)",
            );
        },
        (Component::RouteService, "answer", "router-a"),
        "connection refused",
    ),
    (
        "a firewall between router and cell drops packets",
        |facts| {
            probes(
                facts,
                502,
                "endpoint_failure (dial tcp 10.0.0.1:61011: i/o timeout)",
            )
        },
        (Component::Iptables, "answer", "router-a"),
        "cannot be reached",
    ),
    (
        "the router's certificate is refused",
        |facts| {
            probes(
                facts,
                496,
                "endpoint_failure (tls: backend refused the router's certificate: expired)",
            )
        },
        (Component::Envoy, "answer", "router-a"),
        "refused the router's certificate",
    ),
    (
        "the app hangs",
        |facts| probes(facts, 504, "endpoint_failure (context deadline exceeded)"),
        (Component::App, "answer", "router-a"),
        "did not answer in time",
    ),
    (
        "the app closes connections",
        |facts| probes(facts, 502, "endpoint_failure (EOF)"),
        (Component::App, "answer", "router-a"),
        "closed the connection",
    ),
    (
        "the policy does not admit the caller",
        |facts| probes(facts, 403, "route_policy_denied"),
        (Component::Client, "answer", "router-a"),
        "does not admit",
    ),
];
