//! The hop of the cell's firewall: the rule that translates a port of the cell to the container's, the jumps that lead to it, and
//! rules of others that are in the way.

use super::Steps;
use super::diego::Instance;
use crate::component::Component::Iptables;
use crate::explanation::Verdict;
use wire::rep::{InspectedContainer, InspectedRule, Read};

/// Adds the hop of the firewall. `ports`: the cell's port and the container's.
pub(super) fn check(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    firewall: &Read<Vec<InspectedRule>>,
    ports: (u16, u16),
    steps: &mut Steps,
) {
    let part = (Iptables, "DNAT");
    let rules = match firewall.get() {
        Ok(rules) => rules,
        Err(problem) => {
            let verdict = Verdict::unread(
                format!("The firewall of the cell cannot be read: {problem}."),
                "See the log of the role cell.",
            );
            steps.add(part, &instance.name, "", verdict);
            return;
        }
    };
    let (found, verdict) = translation(container, rules, ports);
    steps.add(part, &instance.name, found, verdict);
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

/// Adds a hop if a rule of somebody else refuses packets to the container. It comes before the hops of Envoy, because the rep's own
/// connections to Envoy fail then, too.
pub(super) fn check_filter(
    instance: &Instance<'_>,
    container: &InspectedContainer,
    firewall: &Read<Vec<InspectedRule>>,
    steps: &mut Steps,
) {
    let Ok(rules) = firewall.get() else { return };
    let refuses = |rule: &&InspectedRule| {
        let is_hook = ["FORWARD", "OUTPUT"].contains(&chain(&rule.rule));
        let target = value(&rule.rule, "-j").unwrap_or_default();
        // A rule with other conditions may not concern the container.
        let is_general = rule.rule.split(' ').nth(2) == Some("-j");
        let to = value(&rule.rule, "-d").map(without_mask);
        let is_there = is_general || to == Some(container.address.as_str());
        rule.table == "filter" && is_hook && is_there && ["DROP", "REJECT"].contains(&target)
    };
    if let Some(rule) = rules.iter().find(refuses) {
        let verdict = Verdict::wrong(
            format!(
                "A rule that is not Cupola's refuses packets to {}: {}.",
                instance.name, rule.rule
            ),
            "Remove it, or put it behind Cupola's rules: iptables -S FORWARD.",
        );
        steps.add((Iptables, "filter"), &instance.name, &rule.rule, verdict);
    }
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
