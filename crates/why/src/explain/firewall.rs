//! The hop of the cell's firewall: the rule that translates a port of the cell to the container's, the jumps that lead to it, and
//! rules of others that are in the way.

use super::Hops;
use super::diego::Instance;
use crate::component::Component::Iptables;
use crate::explanation::Verdict;
use std::net::Ipv4Addr;
use wire::rep::{InspectedContainer, InspectedRule, Read};

/// Adds the hop of the firewall. `ports`: the cell's port and the container's.
pub(super) fn check(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    firewall: &Read<Vec<InspectedRule>>,
    ports: (u16, u16),
    hops: &mut Hops,
) {
    let part = (Iptables, "DNAT");
    let rules = match firewall.get() {
        Ok(rules) => rules,
        Err(problem) => {
            let verdict = Verdict::unread(
                format!("The firewall of the cell cannot be read: {problem}."),
                "See the log of the role cell.",
            );
            hops.add(part, &instance.name, "", verdict);
            return;
        }
    };
    let (found, verdict) = translation(container, rules, ports);
    hops.add(part, &instance.name, found, verdict);
}

const REPAIR: &str = "Garden repairs the rules within some seconds; if they vanish again, find the program that changes them: iptables -t nat -S.";

fn translation(
    container: &InspectedContainer,
    rules: &[InspectedRule],
    (host_port, container_port): (u16, u16),
) -> (String, Verdict) {
    let nat = || rules.iter().filter(|rule| rule.table == "nat");
    let target = format!("{}:{container_port}", container.address);
    let matches = |rule: &&InspectedRule| {
        let port = value(&rule.rule, "--dport").and_then(|port| port.parse().ok());
        port == Some(host_port) && value(&rule.rule, "-j") == Some("DNAT")
    };
    let Some(rule) = nat().find(matches) else {
        let reason = format!("No DNAT rule translates port {host_port} to {target}.");
        return (String::new(), Verdict::wrong(reason, REPAIR));
    };
    let found = format!("{} ({} packets)", rule.rule, rule.packets);
    let to = value(&rule.rule, "--to-destination").unwrap_or_default();
    if to != target {
        let reason = format!(
            "The DNAT rule translates port {host_port} to {to}, and the container is at {target}."
        );
        return (found, Verdict::wrong(reason, REPAIR));
    }
    let address = value(&rule.rule, "-d").map(without_mask);
    if address.is_some_and(|address| address != container.cell_address) {
        let reason = format!(
            "The DNAT rule is for the address {}, and the cell's is {}.",
            address.unwrap_or_default(),
            container.cell_address
        );
        return (found, Verdict::wrong(reason, REPAIR));
    }
    let chain = chain(&rule.rule);
    for hook in ["PREROUTING", "OUTPUT"] {
        let jumps = |rule: &InspectedRule| {
            self::chain(&rule.rule) == hook && value(&rule.rule, "-j") == Some(chain)
        };
        if !nat().any(jumps) {
            let reason =
                format!("No rule in {hook} leads to the chain {chain} with the DNAT rule.");
            return (found, Verdict::wrong(reason, REPAIR));
        }
    }
    (found, Verdict::Right)
}

/// Adds a hop if a rule of somebody else refuses packets to the container or from it. It comes before the hops of Envoy, because the
/// rep's own connections to Envoy fail then, too. `ports`: the cell's port and the container's.
pub(super) fn check_filter(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    firewall: &Read<Vec<InspectedRule>>,
    (host_port, container_port): (u16, u16),
    hops: &mut Hops,
) {
    let Ok(rules) = firewall.get() else { return };
    let to_container = Packet {
        to: Some((&container.address, container_port)),
        from: None,
        is_new: true,
    };
    let to_cell = Packet {
        to: Some((&container.cell_address, host_port)),
        ..to_container
    };
    let answer = Packet {
        from: Some((&container.address, container_port)),
        to: None,
        is_new: false,
    };
    let refusing = HOOKS.iter().find_map(|(table, hook)| {
        [to_container, to_cell, answer]
            .iter()
            .filter(|packet| packet.passes(hook))
            .find_map(|packet| refusing(rules, (*table, *hook), packet))
    });
    if let Some(rule) = refusing {
        let verdict = Verdict::wrong(
            format!(
                "A rule that is not Cupola's refuses packets of {}: {}.",
                instance.name, rule.rule
            ),
            format!(
                "Remove it, or put it behind Cupola's rules: iptables -t {} -S.",
                rule.table
            ),
        );
        hops.add((Iptables, "filter"), &instance.name, &rule.rule, verdict);
    }
}

/// The places where rules of others can refuse a packet before Cupola's rules accept it.
const HOOKS: &[(&str, &str)] = &[
    ("raw", "PREROUTING"),
    ("raw", "OUTPUT"),
    ("mangle", "PREROUTING"),
    ("mangle", "OUTPUT"),
    ("mangle", "FORWARD"),
    ("mangle", "INPUT"),
    ("mangle", "POSTROUTING"),
    ("filter", "FORWARD"),
    ("filter", "OUTPUT"),
    ("filter", "INPUT"),
];

/// A packet between a router and the container, as far as its ends are known. The router's end is not.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    from: Option<(&'a String, u16)>,
    to: Option<(&'a String, u16)>,
    /// Whether it begins a connection.
    is_new: bool,
}

impl Packet<'_> {
    /// Returns whether such a packet passes the hook. Requests never arrive at the machine itself, and answers are not made by it.
    fn passes(&self, hook: &str) -> bool {
        match hook {
            "INPUT" => !self.is_new,
            "OUTPUT" => self.is_new,
            _ => true,
        }
    }
}

/// Returns the rule of a hook that refuses the packet; `None` if another one accepts it before, or if none refuses it.
fn refusing<'a>(
    rules: &'a [InspectedRule],
    (table, hook): (&str, &str),
    packet: &Packet<'_>,
) -> Option<&'a InspectedRule> {
    let mut here = rules
        .iter()
        .filter(|rule| rule.table == table && chain(&rule.rule) == hook);
    let decides = |rule: &&InspectedRule| {
        let target = value(&rule.rule, "-j").unwrap_or_default();
        ["ACCEPT", "DROP", "REJECT"].contains(&target) && concerns(rule, packet)
    };
    let decisive = here.find(decides);
    decisive.filter(|rule| value(&rule.rule, "-j") != Some("ACCEPT"))
}

/// Returns whether a rule applies to the packet. A condition about something unknown, such as the router's address or the link, holds
/// if the rule names the container or the cell and has matched any packet; one of a kind that is not known here never does.
fn concerns(rule: &InspectedRule, packet: &Packet<'_>) -> bool {
    let names = |option, end: Option<(&String, u16)>| {
        let range = value(&rule.rule, option);
        range.is_some_and(|range| end.is_some() && is_at(end, range, false))
    };
    let is_about = names("-d", packet.to) || names("-s", packet.from);
    let otherwise = is_about && rule.packets > 0;
    let words: Vec<&str> = rule.rule.split(' ').collect();
    let conditions = words.iter().position(|word| *word == "-j");
    let mut words = words[..conditions.unwrap_or(words.len())].iter().skip(2);
    while let Some(word) = words.next() {
        let argument = words.next().copied().unwrap_or_default();
        let holds = match *word {
            "-p" => argument == "tcp",
            "-m" => ["tcp", "comment", "conntrack", "state"].contains(&argument),
            "-d" => is_at(packet.to, argument, otherwise),
            "-s" => is_at(packet.from, argument, otherwise),
            "--dport" => is_port(packet.to, argument),
            "--sport" => is_port(packet.from, argument),
            "-i" | "-o" => argument != "lo" && otherwise,
            "--ctstate" | "--state" => {
                let wanted = if packet.is_new { "NEW" } else { "ESTABLISHED" };
                argument.split(',').any(|state| state == wanted)
            }
            // A comment in quotes may have several words.
            "--comment" if !argument.starts_with('"') || argument.ends_with('"') => true,
            "--comment" => words.any(|word| word.ends_with('"')),
            _ => false,
        };
        if !holds {
            return false;
        }
    }
    true
}

/// Returns whether an end of a packet is in a range of addresses. `otherwise` is the answer if the end is not known.
fn is_at(end: Option<(&String, u16)>, range: &str, otherwise: bool) -> bool {
    let Some((address, _)) = end else {
        return otherwise;
    };
    let (network, bits) = range.split_once('/').unwrap_or((range, "32"));
    let parse = |text: &str| text.parse::<Ipv4Addr>().ok().map(u32::from);
    let (Some(address), Some(network), Ok(bits)) =
        (parse(address), parse(network), bits.parse::<u32>())
    else {
        return false;
    };
    let shift = 32_u32.saturating_sub(bits);
    u64::from(address) >> shift == u64::from(network) >> shift
}

fn is_port(end: Option<(&String, u16)>, port: &str) -> bool {
    end.is_some_and(|(_, known)| port.parse() == Ok(known))
}

/// Returns the chain of a rule `-A CHAIN …`.
fn chain(rule: &str) -> &str {
    value(rule, "-A").unwrap_or_default()
}

/// Returns the word after an option of a rule, unless the option is negated.
fn value<'a>(rule: &'a str, option: &str) -> Option<&'a str> {
    let mut words = rule.split(' ');
    let mut before = "";
    loop {
        let word = words.next()?;
        if word == option && before != "!" {
            return words.next();
        }
        before = word;
    }
}

fn without_mask(address: &str) -> &str {
    address.strip_suffix("/32").unwrap_or(address)
}
