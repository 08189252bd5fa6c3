//! The table of faults of a cell, and of its firewall.

use super::faults::Fault;
use super::{NOW, cell, certificate, container, instance, rules};
use crate::component::Component;
use crate::facts::Facts;
use wire::rep::InspectedRule;

/// Adds a rule of another program to the firewall of one cell.
pub(super) fn add_rule(facts: &mut Facts, table: &str, rule: &str) {
    rules(facts).push(InspectedRule {
        table: table.to_owned(),
        rule: rule.to_owned(),
        packets: 3,
    });
}

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
        "the cell cannot make containers",
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
        "the certificate of the rep has expired",
        |facts| {
            let problem = Err("invalid peer certificate: Expired".to_owned());
            facts.inspections.insert("i1".to_owned(), problem);
        },
        (Component::Rep, "cell", "shop/1"),
        "does not answer: invalid peer certificate",
    ),
    (
        "the disk of the cell has no room",
        |facts| {
            cell(facts).machine.free_disk = Some(4096);
            cell(facts).cell_is_healthy = false;
        },
        (Component::Rep, "disk", "shop/1"),
        "The disk of cell cell-1 is full: 4 KB are free",
    ),
    (
        "the kernel can track no more connections",
        |facts| {
            cell(facts).machine.tracked_connections = Some(65_536);
            cell(facts).machine.most_tracked_connections = Some(65_536);
        },
        (Component::Iptables, "connections", "shop/1"),
        "tracks 65536 connections",
    ),
    (
        "the kernel passes no packets on",
        |facts| cell(facts).machine.forwards_packets = Some(false),
        (Component::Iptables, "forwarding", "shop/1"),
        "net.ipv4.ip_forward is 0",
    ),
    (
        "the container's link is down",
        |facts| {
            let problem = "connect to 10.255.1.2:61001: no answer within 2 s";
            cell(facts).envoy = Some(Err(problem.to_owned()).into());
        },
        (Component::Garden, "network", "shop/1"),
        "do not reach the container of shop/1 at 10.255.1.2",
    ),
    (
        "the route to the container is gone",
        |facts| {
            let problem = "connect to 10.255.1.2:61001: No route to host (os error 113)";
            cell(facts).envoy = Some(Err(problem.to_owned()).into());
        },
        (Component::Garden, "network", "shop/1"),
        "No route to host",
    ),
];

/// Faults of a cell's firewall.
pub(super) const FIREWALL: &[Fault] = &[
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
            add_rule(facts, "filter", "-A FORWARD -d 10.255.1.2/32 -j DROP");
        },
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets",
    ),
    (
        "somebody drops packets to the container, the rep's own included",
        |facts| {
            add_rule(facts, "filter", "-A OUTPUT -d 10.255.1.2/32 -j DROP");
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
    (
        "somebody drops the container's answers",
        |facts| add_rule(facts, "filter", "-A INPUT -s 10.255.1.2/32 -j DROP"),
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets of shop/1: -A INPUT -s 10.255.1.2/32",
    ),
    (
        "somebody drops the packets of all containers",
        |facts| {
            let rule = "-A FORWARD -d 10.255.1.0/24 -i eth0 -p tcp -m tcp --dport 61001 -j DROP";
            add_rule(facts, "filter", rule);
        },
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets of shop/1",
    ),
    (
        "somebody drops requests before they are translated",
        |facts| {
            let rule = "-A OUTPUT -d 10.0.0.1/32 -p tcp -m tcp --dport 61011 -j DROP";
            add_rule(facts, "raw", rule);
        },
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets of shop/1",
    ),
    (
        "somebody rejects new connections",
        |facts| {
            let rule = "-A FORWARD -d 10.255.1.2/32 -m conntrack --ctstate NEW -m comment --comment \"a test\" -j REJECT";
            add_rule(facts, "mangle", rule);
        },
        (Component::Iptables, "filter", "shop/1"),
        "refuses packets of shop/1",
    ),
];
