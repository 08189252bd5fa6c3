//! The table of faults: for each the change of the facts, the hop that is to blame, and the reason.

use super::{NOW, cell, certificate, container, instance, route, rules};
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
        "garden does not answer",
        |facts| {
            cell(facts).container = None;
            cell(facts).firewall = Err("garden: no room".to_owned()).into();
        },
        (Component::Garden, "container", "shop/1"),
        "does not answer: garden: no room",
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
