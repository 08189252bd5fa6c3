//! The matches of egress rules, as words of iptables. The module is pure.

use crate::api::{EgressRule, Protocol};

/// Returns one match for each combination of destination and port range.
pub(super) fn matches(rule: &EgressRule) -> Vec<String> {
    let protocols: Vec<String> = match rule.protocol {
        Protocol::All => vec![String::new()],
        Protocol::Icmp => {
            let kind = match rule.icmp {
                None | Some((-1, _)) => "any".to_owned(),
                Some((kind, -1)) => kind.to_string(),
                Some((kind, code)) => format!("{kind}/{code}"),
            };
            vec![format!(" -p icmp -m icmp --icmp-type {kind}")]
        }
        Protocol::Tcp | Protocol::Udp => {
            let name = name(rule.protocol);
            let dports = rule.ports.iter().map(|(first, last)| match first == last {
                true => format!(" -p {name} -m {name} --dport {first}"),
                false => format!(" -p {name} -m {name} --dport {first}:{last}"),
            });
            if rule.ports.is_empty() {
                vec![format!(" -p {name}")]
            } else {
                dports.collect()
            }
        }
    };
    let mut matches = Vec::new();
    for (first, last) in &rule.destinations {
        for protocol in &protocols {
            matches.push(match first == last {
                true => format!(" -d {first}/32{protocol}"),
                false => format!("{protocol} -m iprange --dst-range {first}-{last}"),
            });
        }
    }
    matches
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp => "udp",
        _ => "tcp",
    }
}

/// Returns a match for each single address with a single port that the rules name.
pub(super) fn exact(rules: &[EgressRule]) -> impl Iterator<Item = String> {
    let with_ports = |rule: &&EgressRule| matches!(rule.protocol, Protocol::Tcp | Protocol::Udp);
    rules.iter().filter(with_ports).flat_map(|rule| {
        let name = name(rule.protocol);
        let addresses = rule
            .destinations
            .iter()
            .filter(|(first, last)| first == last);
        addresses.flat_map(move |(address, _)| {
            let ports = rule.ports.iter().filter(|(first, last)| first == last);
            ports
                .map(move |(port, _)| format!("-d {address}/32 -p {name} -m {name} --dport {port}"))
        })
    })
}
