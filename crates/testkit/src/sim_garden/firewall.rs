//! The firewall rules that a real garden would have made for a container.

use garden::api::{Container, FirewallRule};
use std::net::Ipv4Addr;

/// Returns the translations of a container's mapped ports and the jumps to them. No packet has matched them.
pub(super) fn rules(container: &Container, cell: Ipv4Addr) -> Vec<FirewallRule> {
    let (chain, ip) = (
        format!("netin--{}", container.handle),
        container.container_ip,
    );
    let jumps = ["PREROUTING", "OUTPUT"].map(|hook| format!("-A {hook} -j {chain}"));
    let ports = container.net_in.iter().map(|port| {
        let (from, to) = (port.host_port, port.container_port);
        format!("-A {chain} -d {cell}/32 -p tcp -m tcp --dport {from} -j DNAT --to-destination {ip}:{to}")
    });
    let rule = |rule| FirewallRule {
        table: "nat",
        rule,
        packets: 0,
    };
    jumps.into_iter().chain(ports).map(rule).collect()
}
