//! The table of faults that only a request shows: of route services, of apps that answer badly, of clients.

use super::faults::Fault;
use super::{NOW, probes, views};
use crate::component::Component;
use crate::facts::Facts;
use wire::rep::InspectedCertificate;

/// Leaves the requests through all routers without an answer.
fn silent(facts: &mut Facts, problem: &str) {
    for router in &mut facts.routers {
        router.probe = Some(Err(problem.to_owned()));
    }
}

/// Sets the certificate that one router presents to clients.
fn front(facts: &mut Facts, names: &[&str], not_after: i64) {
    let certificate = InspectedCertificate {
        names: names.iter().map(ToString::to_string).collect(),
        not_before: NOW - 1000,
        not_after,
    };
    facts.routers[0].front = Some(Ok(certificate));
}

/// Faults of requests.
pub(super) const REQUESTS: &[Fault] = &[
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
    (
        "the app answers after the time limit",
        |facts| silent(facts, "timed out after 5 s"),
        (Component::App, "answer", "router-a"),
        "does not answer a request through router router-a: timed out",
    ),
    (
        "the route service answers after the time limit",
        |facts| {
            views(facts, |view| {
                view.route_service_url = "https://rs.example.test".to_owned();
            });
            silent(facts, "timed out after 5 s");
        },
        (Component::RouteService, "answer", "router-a"),
        "the route service https://rs.example.test first",
    ),
    (
        "the router does not listen for requests",
        |facts| silent(facts, "connection refused"),
        (Component::Router, "answer", "router-a"),
        "does not answer a request: connection refused",
    ),
    (
        "the router holds requests for the first instance",
        |facts| {
            views(facts, |view| view.is_starting = true);
            silent(facts, "timed out after 5 s");
        },
        (Component::Router, "answer", "router-a"),
        "holds the request until the first instance",
    ),
    (
        "the router has no file left",
        |facts| {
            let error = "endpoint_failure (dial tcp 10.0.0.1:61011: too many open files)";
            probes(facts, 502, error);
        },
        (Component::Router, "answer", "router-a"),
        "no file or port left",
    ),
    (
        "the app's answer is not HTTP",
        |facts| {
            let error = "endpoint_failure (net/http: HTTP/1.x transport connection broken)";
            probes(facts, 502, error);
        },
        (Component::App, "answer", "router-a"),
        "is not valid HTTP",
    ),
    (
        "the domain is one of identities, and the request has none",
        |facts| probes(facts, 421, "misdirected_request"),
        (Component::Client, "answer", "router-a"),
        "a domain of identities without TLS",
    ),
    (
        "the router's certificate for clients has expired",
        |facts| front(facts, &["*.example.test"], NOW - 60),
        (Component::Router, "certificate", "router-a"),
        "for clients expired 60 s ago",
    ),
    (
        "the router's certificate for clients is for other hosts",
        |facts| front(facts, &["*.test", "example.test"], NOW + 60),
        (Component::Router, "certificate", "router-a"),
        "is for *.test, example.test, and not for shop.example.test",
    ),
    (
        "the router speaks no TLS with clients",
        |facts| facts.routers[0].front = Some(Err("TLS handshake: unexpected EOF".to_owned())),
        (Component::Router, "certificate", "router-a"),
        "does not complete a TLS handshake with clients",
    ),
    (
        "the host has no name",
        |facts| facts.name = Some(Err("no such name".to_owned())),
        (Component::Client, "name", "shop.example.test"),
        "does not reach shop.example.test by its name: no such name",
    ),
];
