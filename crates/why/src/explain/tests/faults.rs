//! The table of faults: for each the change of the facts, the hop that is to blame, and the reason.

use super::{cell, certificate, container, instance, probes, route, rules, view, views};
use crate::component::Component;
use crate::facts::Facts;
use wire::rep::InspectedRule;

/// A fault: its name, the change of the facts that it makes, the hop that is to blame (component, part, subject), and a piece of
/// the reason.
pub(super) type Fault = (
    &'static str,
    fn(&mut Facts),
    (Component, &'static str, &'static str),
    &'static str,
);

/// Faults of the Cloud Controller and of Diego.
pub(super) const CONTROL: &[Fault] = &[
    (
        "the Cloud Controller is stopped",
        |facts| facts.route = Err("connection refused".to_owned()),
        (Component::CloudController, "route", ""),
        "cannot be read: connection refused",
    ),
    (
        "the route does not exist",
        |facts| facts.route = Ok(None),
        (Component::CloudController, "route", ""),
        "No route serves",
    ),
    (
        "the route is internal",
        |facts| route(facts).is_internal = true,
        (Component::CloudController, "route", ""),
        "internal domain",
    ),
    (
        "the destination is removed",
        |facts| route(facts).destinations.clear(),
        (Component::CloudController, "destination", ""),
        "has no destination",
    ),
    (
        "the app is stopped",
        |facts| route(facts).destinations[0].is_started = false,
        (Component::CloudController, "destination", "shop"),
        "is stopped",
    ),
    (
        "the app is scaled to nothing",
        |facts| route(facts).destinations[0].instances = 0,
        (Component::CloudController, "destination", "shop"),
        "has 0 instances",
    ),
    (
        "the process type does not exist",
        |facts| route(facts).destinations[0].process_guids.clear(),
        (Component::CloudController, "destination", "shop"),
        "has no process web",
    ),
    (
        "the BBS is stopped",
        |facts| {
            facts.desired = Err("connection refused".to_owned());
            facts.actual = Err("connection refused".to_owned());
        },
        (Component::Bbs, "desired LRP", "shop"),
        "The BBS cannot be read",
    ),
    (
        "the desired LRP is lost",
        |facts| facts.desired = Ok(Vec::new()),
        (Component::Bbs, "desired LRP", "shop"),
        "no desired LRP",
    ),
    (
        "the desired LRP lacks the route",
        |facts| facts.desired.as_mut().unwrap()[0].routes.clear(),
        (Component::Bbs, "desired LRP", "shop"),
        "does not carry the route",
    ),
    (
        "the desired LRP has the route for another port",
        |facts| facts.desired.as_mut().unwrap()[0].routes[0].port = 9090,
        (Component::Bbs, "desired LRP", "shop"),
        "for port 9090",
    ),
    (
        "the desired LRP has too few instances",
        |facts| facts.desired.as_mut().unwrap()[0].instances = 1,
        (Component::Bbs, "desired LRP", "shop"),
        "has 1 instances",
    ),
    (
        "the actual LRPs are lost",
        |facts| facts.actual = Ok(Vec::new()),
        (Component::Bbs, "actual LRP", "shop"),
        "no actual LRP",
    ),
    (
        "the app crashes",
        |facts| {
            instance(facts).state = "CRASHED".to_owned();
            instance(facts).crash_reason = "APP/PROC/WEB: Exited with status 137".to_owned();
        },
        (Component::Bbs, "actual LRP", "shop/1"),
        "Exited with status 137",
    ),
    (
        "no cell has memory",
        |facts| {
            instance(facts).state = "UNCLAIMED".to_owned();
            instance(facts).placement_error = "insufficient resources: memory".to_owned();
        },
        (Component::Auctioneer, "actual LRP", "shop/1"),
        "insufficient resources",
    ),
    (
        "the auctioneer is stopped",
        |facts| {
            instance(facts).state = "UNCLAIMED".to_owned();
            instance(facts).cell_id.clear();
        },
        (Component::Auctioneer, "actual LRP", "shop/1"),
        "no auction has placed it",
    ),
    (
        "the readiness check fails",
        |facts| instance(facts).routable = Some(false),
        (Component::Bbs, "actual LRP", "shop/1"),
        "readiness check",
    ),
    (
        "an instance is starting",
        |facts| {
            instance(facts).state = "CLAIMED".to_owned();
            instance(facts).since = NOW - 2;
        },
        (Component::Bbs, "actual LRP", "shop/1"),
        "is starting on cell cell-1 for 2 s",
    ),
];

/// Faults of a cell.
pub(super) const CELL: &[Fault] = &[
    (
        "the cell is dead",
        |facts| {
            facts.cells = Ok(vec!["cell-0".to_owned()]);
            let problem = Err("connection refused".to_owned());
            facts.inspections.insert("i1".to_owned(), problem);
        },
        (Component::Rep, "cell", "shop/1"),
        "not present",
    ),
    (
        "the rep is paused",
        |facts| {
            let problem = Err("timed out after 5 s".to_owned());
            facts.inspections.insert("i1".to_owned(), problem);
        },
        (Component::Rep, "cell", "shop/1"),
        "does not answer: timed out",
    ),
    (
        "the cell's clock is wrong",
        |facts| cell(facts).now = NOW + 7200,
        (Component::Rep, "cell", "shop/1"),
        "7200 s ahead",
    ),
    (
        "the cell's disk is full",
        |facts| cell(facts).cell_is_healthy = false,
        (Component::Rep, "cell", "shop/1"),
        "unhealthy",
    ),
    (
        "the rep has lost the instance",
        |facts| cell(facts).state.clear(),
        (Component::Rep, "cell", "shop/1"),
        "has no instance i1",
    ),
    (
        "the container is removed",
        |facts| cell(facts).container = None,
        (Component::Garden, "container", "shop/1"),
        "no container",
    ),
    (
        "the port is not mapped",
        |facts| instance(facts).ports.clear(),
        (Component::Garden, "ports", "shop/1"),
        "maps no port to port 8080",
    ),
    (
        "the app listens on another port",
        |facts| container(facts).listeners[1] = "0.0.0.0:9090".to_owned(),
        (Component::App, "port", "shop/1"),
        "listens on 0.0.0.0:9090, not on",
    ),
    (
        "the app listens on another port, and is therefore not healthy",
        |facts| {
            instance(facts).state = "CLAIMED".to_owned();
            cell(facts).state = "created".to_owned();
            container(facts).listeners[1] = "0.0.0.0:9090".to_owned();
        },
        (Component::App, "port", "shop/1"),
        "listens on 0.0.0.0:9090, not on",
    ),
    (
        "the app listens on loopback only",
        |facts| container(facts).listeners[1] = "127.0.0.1:8080".to_owned(),
        (Component::App, "port", "shop/1"),
        "listens on 127.0.0.1:8080, not on",
    ),
    (
        "the app listens nowhere",
        |facts| drop(container(facts).listeners.remove(1)),
        (Component::App, "port", "shop/1"),
        "does not listen on port 8080",
    ),
    (
        "Envoy is killed",
        |facts| container(facts).processes[0].exit_status = Some(137),
        (Component::Envoy, "container", "shop/1"),
        "has ended with status 137",
    ),
    (
        "Envoy does not listen",
        |facts| drop(container(facts).listeners.remove(0)),
        (Component::Envoy, "listener", "shop/1"),
        "does not listen on port 61001",
    ),
    (
        "Envoy is stopped",
        |facts| cell(facts).envoy = Some(Err("timed out after 2 s".to_owned()).into()),
        (Component::Envoy, "certificate", "shop/1"),
        "does not complete a TLS handshake: timed out",
    ),
    (
        "the certificate has expired",
        |facts| certificate(facts).not_after = NOW - 60,
        (Component::Envoy, "certificate", "shop/1"),
        "expired 61 s ago",
    ),
    (
        "the certificate is not valid yet",
        |facts| certificate(facts).not_before = NOW + 61,
        (Component::Envoy, "certificate", "shop/1"),
        "is valid in 60 s only",
    ),
    (
        "the certificate is that of another instance",
        |facts| certificate(facts).names[0] = "i0".to_owned(),
        (Component::Envoy, "certificate", "shop/1"),
        "of another instance",
    ),
    (
        "the DNAT rule is deleted",
        |facts| drop(rules(facts).remove(2)),
        (Component::Iptables, "DNAT", "shop/1"),
        "No DNAT rule translates port 61011",
    ),
    (
        "the DNAT rule leads to another container",
        |facts| {
            let rule = &mut rules(facts)[2].rule;
            *rule = rule.replace("10.255.1.2:61001", "10.255.1.9:61001");
        },
        (Component::Iptables, "DNAT", "shop/1"),
        "to 10.255.1.9:61001, and the container is at 10.255.1.2:61001",
    ),
    (
        "the DNAT rule leads to another port",
        |facts| {
            let rule = &mut rules(facts)[2].rule;
            *rule = rule.replace(":61001", ":61002");
        },
        (Component::Iptables, "DNAT", "shop/1"),
        "to 10.255.1.2:61002",
    ),
    (
        "the DNAT rule is for another address",
        |facts| {
            let rule = &mut rules(facts)[2].rule;
            *rule = rule.replace("10.0.0.1/32", "10.0.0.9/32");
        },
        (Component::Iptables, "DNAT", "shop/1"),
        "for the address 10.0.0.9",
    ),
    (
        "the jump for packets from outside is deleted",
        |facts| drop(rules(facts).remove(0)),
        (Component::Iptables, "DNAT", "shop/1"),
        "No rule in PREROUTING",
    ),
    (
        "the jump for packets of the machine itself is deleted",
        |facts| drop(rules(facts).remove(1)),
        (Component::Iptables, "DNAT", "shop/1"),
        "No rule in OUTPUT",
    ),
    (
        "the firewall is flushed",
        |facts| rules(facts).clear(),
        (Component::Iptables, "DNAT", "shop/1"),
        "No DNAT rule",
    ),
    (
        "somebody drops packets to the container",
        |facts| {
            rules(facts).push(InspectedRule {
                table: "filter".to_owned(),
                rule: "-A FORWARD -d 10.255.1.2/32 -j DROP".to_owned(),
                packets: 3,
            });
        },
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets",
    ),
    (
        "somebody drops packets to the container, the rep's own included",
        |facts| {
            rules(facts).push(InspectedRule {
                table: "filter".to_owned(),
                rule: "-A OUTPUT -d 10.255.1.2/32 -j DROP".to_owned(),
                packets: 3,
            });
            cell(facts).envoy = Some(Err("no answer within 2 s".to_owned()).into());
        },
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets",
    ),
    (
        "the connections of the container are exhausted",
        |facts| {
            container(facts).refused_packets = 40;
            cell(facts).envoy = Some(Err("connect: connection refused".to_owned()).into());
        },
        (Component::Iptables, "limits", "shop/1"),
        "40 packets were refused",
    ),
    (
        "iptables cannot be read",
        |facts| cell(facts).firewall = Err("iptables-save: exit status 1".to_owned()).into(),
        (Component::Iptables, "DNAT", "shop/1"),
        "cannot be read",
    ),
];

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
