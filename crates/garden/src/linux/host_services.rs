//! The TCP and UDP ports of this machine that containers may reach besides the name server and the router.
//!
//! ```text
//! input--H ─ one address and one port of H's egress rules ─▶ bound--TAG   accepts the services of bound apps
//!          ─ every packet ─▶ hosts--TAG   accepts the services of all apps, and refuses other packets to those of bound apps
//! ```
//! Both chains belong to the cell and are filled at each start, so that a changed configuration is valid for containers that run. The
//! refusal comes before the rule that accepts answers: a connection ends when the egress rule is removed. The module is pure.

use super::egress;
use crate::api::{EgressRule, Protocol};
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

/// The containers that reach a host service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All containers.
    All,
    /// The containers with an egress rule that names exactly this address and this port. A rule for a range does not count.
    Bound,
}

/// A port of this machine that containers may reach. Its text is `tcp:10.0.0.5:5432`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostService {
    /// TCP or UDP.
    pub protocol: Protocol,
    pub address: Ipv4Addr,
    pub port: u16,
    pub audience: Audience,
}

impl HostService {
    fn matching(&self) -> String {
        let name = name(self.protocol);
        let Self { address, port, .. } = self;
        format!("-d {address}/32 -p {name} -m {name} --dport {port}")
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "udp",
        _ => "tcp",
    }
}

impl fmt::Display for HostService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", name(self.protocol), self.address, self.port)
    }
}

/// The error of a text that is no [`HostService`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected tcp: or udp:, an IPv4 address of the machine that is not loopback, and a port")]
pub struct NoHostService;

/// Parses a service that all containers reach.
impl FromStr for HostService {
    type Err = NoHostService;

    fn from_str(text: &str) -> Result<Self, NoHostService> {
        let (protocol, address) = text.split_once(':').ok_or(NoHostService)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(NoHostService),
        };
        let address: SocketAddrV4 = address.parse().map_err(|_| NoHostService)?;
        let ip = *address.ip();
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
            return Err(NoHostService);
        }
        Ok(Self {
            protocol,
            address: ip,
            port: address.port(),
            audience: Audience::All,
        })
    }
}

/// Returns the names of the two chains.
pub(super) fn chains(tag: &str) -> [String; 2] {
    [format!("bound--{tag}"), format!("hosts--{tag}")]
}

/// Returns the declarations of the two chains and their rules, as a part of the table `filter`.
pub(super) fn declare(tag: &str, services: &[HostService]) -> String {
    let [bound, hosts] = chains(tag);
    let mut text = format!(":{bound} - [0:0]\n:{hosts} - [0:0]\n");
    for service in services {
        let matching = service.matching();
        let _ = match (service.audience, service.protocol) {
            (Audience::All, _) => writeln!(text, "-A {hosts} {matching} -j ACCEPT"),
            (Audience::Bound, Protocol::Tcp) => writeln!(
                text,
                "-A {bound} {matching} -j ACCEPT\n-A {hosts} {matching} -j REJECT --reject-with tcp-reset"
            ),
            (Audience::Bound, _) => writeln!(
                text,
                "-A {bound} {matching} -j ACCEPT\n-A {hosts} {matching} -j REJECT --reject-with icmp-port-unreachable"
            ),
        };
    }
    text
}

/// Returns the rules of a container, without its chain: jumps to the two chains.
pub(super) fn jumps(tag: &str, rules: &[EgressRule]) -> Vec<String> {
    let [bound, hosts] = chains(tag);
    let mut jumps: Vec<String> = egress::exact(rules)
        .map(|matching| format!("{matching} -j {bound}"))
        .collect();
    jumps.push(format!("-j {hosts}"));
    jumps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        for text in ["tcp:10.0.0.5:5432", "udp:10.255.3.1:514"] {
            let service: HostService = text.parse().unwrap();
            assert_eq!(service.to_string(), text);
            assert_eq!(service.audience, Audience::All);
        }
        for text in [
            "10.0.0.5:5432",
            "icmp:10.0.0.5:1",
            "tcp:10.0.0.5",
            "tcp:10.0.0.5:0",
            "tcp:127.0.0.1:5432",
            "tcp:0.0.0.0:5432",
            "tcp:db.example:5432",
            "tcp:[fd00::1]:5432",
        ] {
            assert_eq!(text.parse::<HostService>(), Err(NoHostService), "{text}");
        }
    }

    #[test]
    fn a_service_of_bound_apps_needs_a_rule_for_its_address_and_port_alone() {
        let address: Ipv4Addr = "10.0.0.5".parse().unwrap();
        let rule = |last: Ipv4Addr, ports: Vec<(u16, u16)>| EgressRule {
            protocol: Protocol::Tcp,
            destinations: vec![(address, last)],
            ports,
            icmp: None,
            log: false,
        };
        let everything = EgressRule {
            protocol: Protocol::All,
            ports: vec![],
            ..rule(address, vec![])
        };
        let wide = [
            rule("10.0.0.6".parse().unwrap(), vec![(5432, 5432)]),
            rule(address, vec![(1, 65535)]),
            rule(address, vec![]),
            everything,
        ];
        assert_eq!(jumps("t1", &wide), ["-j hosts--t1"]);
        let exact = [rule(address, vec![(80, 90), (5432, 5432)])];
        assert_eq!(
            jumps("t1", &exact),
            [
                "-d 10.0.0.5/32 -p tcp -m tcp --dport 5432 -j bound--t1",
                "-j hosts--t1"
            ]
        );
    }

    #[test]
    fn the_refusal_follows_the_jump_to_the_chain_that_accepts() {
        let services = [
            "tcp:10.0.0.5:5432".parse().unwrap(),
            HostService {
                audience: Audience::Bound,
                ..HostService::from_str("tcp:10.255.3.1:5433").unwrap()
            },
        ];
        assert_eq!(
            declare("t1", &services),
            ":bound--t1 - [0:0]\n:hosts--t1 - [0:0]\n\
             -A hosts--t1 -d 10.0.0.5/32 -p tcp -m tcp --dport 5432 -j ACCEPT\n\
             -A bound--t1 -d 10.255.3.1/32 -p tcp -m tcp --dport 5433 -j ACCEPT\n\
             -A hosts--t1 -d 10.255.3.1/32 -p tcp -m tcp --dport 5433 -j REJECT --reject-with tcp-reset\n"
        );
    }
}
