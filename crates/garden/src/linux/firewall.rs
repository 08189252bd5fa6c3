//! A container's firewall as data, rendered to the text of `iptables-restore --noflush`.
//!
//! The module is pure; [`super::iptables`] applies the rules. Chain names and the form of the `netin--` rules are those of Cloud
//! Foundry (cf-networking `netrules/`), because operators and tests read them with `iptables -S`.
//!
//! ```text
//! nat     PREROUTING, OUTPUT ─▶ netin--H      CELL_IP:HOST_PORT becomes OVERLAY_IP:CONTAINER_PORT
//! filter  FORWARD -d address ─▶ limits--H     connections to the container (also from OUTPUT), and packets
//!         FORWARD -i veth    ─▶ netout--H     what the container may reach; first limits--H, ends in REJECT
//!         FORWARD -d range   ─▶ overlay--TAG  what may reach containers: answers, what network policies permit
//!                                             (see [`super::policies`]), and what netin-- sent, from no container
//!         INPUT   -i veth    ─▶ input--H      the name server, the router and host services (see [`super::host_services`]);
//!                                             first limits--H, ends in REJECT
//! ```
//! Every packet that a container sends is checked by the current rules of netout--, even within existing connections: a rule that
//! is removed ends its connections. Only answers (direction REPLY) pass without a check. A packet is attributed to its container
//! by the interface, which the container cannot choose, and not by its source address.

use super::addresses::Range;
use super::config::{NetworkLimits, VETH_PREFIX, digest};
use super::egress;
use super::host_services::{self, HostService};
use crate::api::{EgressRule, NetIn};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// A chain's name has at most 28 characters and the longest prefix takes 8.
const NAME_LENGTH: usize = 20;

/// Returns the part of the chain names that identifies the container: the start of the handle, unless another container has it.
pub(crate) fn chain_name<'a>(handle: &str, mut taken: impl Iterator<Item = &'a str>) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.' {
            c
        } else {
            '_'
        }
    };
    let start: String = handle.chars().map(plain).take(NAME_LENGTH).collect();
    if !start.is_empty() && !taken.any(|name| name == start) {
        return start;
    }
    format!("{:.11}-{:08x}", start, digest(handle) as u32)
}

/// The values that apply to the whole cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) tag: String,
    pub(crate) cell_ip: Ipv4Addr,
    /// The addresses of this cell's containers.
    pub(crate) range: Range,
    /// The addresses of all apps on all cells. They are reached only through the router.
    pub(crate) pool: Range,
    pub(crate) dns: Ipv4Addr,
    pub(crate) router_ports: Vec<u16>,
    pub(crate) host_services: Vec<HostService>,
    pub(crate) log_denied: bool,
    /// Whether the kernel has the LOG target. If not, rules that request logs do not log.
    pub(crate) can_log: bool,
    pub(crate) limits: NetworkLimits,
}

/// The rules of one container.
#[derive(Clone, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) name: &'a str,
    pub(crate) veth: &'a str,
    pub(crate) address: Ipv4Addr,
    pub(crate) net_in: &'a [NetIn],
    pub(crate) egress: &'a [EgressRule],
}

const REJECT: &str = "-j REJECT --reject-with icmp-port-unreachable";
const ANSWERS: &str = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
/// The rules that accept errors about connections, and answers to connections from outside.
const REPLIES: [&str; 2] = [
    "-m conntrack --ctstate RELATED -j ACCEPT",
    "-m conntrack --ctstate ESTABLISHED --ctdir REPLY -j ACCEPT",
];
/// The rule that resets a connection that is not permitted any more, so that the app notices at once.
const END: &str =
    "-p tcp -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j REJECT --reject-with tcp-reset";

/// Returns the cell's own chains. They are declared, which empties them if they exist. The jumps to them are in [`base_jumps`].
pub(crate) fn base_chains(cell: &Cell) -> String {
    let Cell { tag, range, .. } = cell;
    let host_services = host_services::declare(tag, &cell.host_services);
    format!(
        "*nat\n\
         :masq--{tag} - [0:0]\n\
         -A masq--{tag} -s {range} ! -o {VETH_PREFIX}+ -j MASQUERADE\n\
         COMMIT\n\
         *filter\n\
         :c2cout--{tag} - [0:0]\n\
         :c2cin--{tag} - [0:0]\n\
         :overlay--{tag} - [0:0]\n\
         -A overlay--{tag} {ANSWERS}\n\
         -A overlay--{tag} -i {VETH_PREFIX}+ -j c2cin--{tag}\n\
         -A overlay--{tag} -i {VETH_PREFIX}+ {REJECT}\n\
         -A overlay--{tag} -m conntrack --ctstate DNAT -j ACCEPT\n\
         -A overlay--{tag} {REJECT}\n\
         {host_services}COMMIT\n"
    )
}

/// A feature that a kernel may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Log,
    /// Limits of the rates of packets and new connections.
    Rates,
    /// Limits of the numbers of connections.
    Counts,
}

/// Returns a text that tests whether the kernel has a feature, and the name of the chain that it creates, which must be removed.
pub(crate) fn probe(cell: &Cell, feature: Feature) -> (String, String) {
    let chain = format!("probe--{}", cell.tag);
    let rule = match feature {
        Feature::Log => "-j LOG".to_owned(),
        Feature::Rates => format!(
            "-m hashlimit --hashlimit-above 9/sec --hashlimit-burst 9 --hashlimit-name probe-{} -j DROP",
            cell.tag
        ),
        Feature::Counts => {
            "-m connlimit --connlimit-above 9 --connlimit-mask 0 --connlimit-saddr -j DROP"
                .to_owned()
        }
    };
    (
        format!("*filter\n:{chain} - [0:0]\n-A {chain} {rule}\nCOMMIT\n"),
        chain,
    )
}

/// Returns the jumps to the cell's chains. Ours precede Docker's, which would drop the packets. They must be added only once.
pub(crate) fn base_jumps(cell: &Cell) -> String {
    let Cell { tag, range, .. } = cell;
    format!(
        "*nat\n-A POSTROUTING -j masq--{tag}\nCOMMIT\n*filter\n-I FORWARD 1 -d {range} -j overlay--{tag}\nCOMMIT\n"
    )
}

/// Adds a container's chains and the jumps to them. The chains must not exist, else the jumps would be doubled: remove them
/// first.
pub(crate) fn add(cell: &Cell, rules: &Rules<'_>) -> String {
    let Rules {
        name,
        veth,
        address,
        net_in,
        egress,
    } = rules;
    let mut text = format!("*nat\n:netin--{name} - [0:0]\n");
    for NetIn {
        host_port,
        container_port,
    } in *net_in
    {
        let cell_ip = cell.cell_ip;
        let _ = writeln!(
            text,
            "-A netin--{name} -d {cell_ip}/32 -p tcp -m tcp --dport {host_port} -j DNAT --to-destination {address}:{container_port}"
        );
    }
    let _ = write!(
        text,
        "-A PREROUTING -j netin--{name}\n-A OUTPUT -j netin--{name}\nCOMMIT\n*filter\n"
    );
    let _ = write!(
        text,
        ":netout--{name} - [0:0]\n:input--{name} - [0:0]\n:limits--{name} - [0:0]\n"
    );
    limits(&mut text, cell, name, veth, *address);
    netout(&mut text, cell, name, egress);
    input(&mut text, cell, name, egress);
    let _ = write!(
        text,
        "-I FORWARD 1 -i {veth} -j netout--{name}\n-I INPUT 1 -i {veth} -j input--{name}\n\
         -I FORWARD 1 -d {address}/32 -j limits--{name}\n-I OUTPUT 1 -d {address}/32 -j limits--{name}\nCOMMIT\n"
    );
    text
}

/// Replaces the egress rules of a container in one step, with what they permit on this machine.
pub(crate) fn egress(cell: &Cell, name: &str, egress: &[EgressRule]) -> String {
    let mut text = format!("*filter\n:netout--{name} - [0:0]\n:input--{name} - [0:0]\n");
    netout(&mut text, cell, name, egress);
    input(&mut text, cell, name, egress);
    text.push_str("COMMIT\n");
    text
}

/// Limits the numbers of connections and packets. Refused connections to the outside are rejected with an error; packets beyond
/// the rate are dropped.
///
/// Packets to the container are matched by its address: a packet of the machine itself that was translated on its way out still
/// has the interface that it had before.
fn limits(text: &mut String, cell: &Cell, name: &str, veth: &str, address: Ipv4Addr) {
    let NetworkLimits {
        connections_out,
        connections_in,
        new_connections_per_second,
        packets_per_second,
    } = cell.limits;
    let mut add = |rule: String| {
        let _ = writeln!(text, "-A limits--{name} {rule}");
    };
    let (from, to) = (format!("-i {veth}"), format!("-d {address}/32"));
    if packets_per_second > 0 {
        for (matching, direction) in [(&from, "o"), (&to, "i")] {
            add(format!(
                "{matching} -m hashlimit --hashlimit-above {packets_per_second}/sec --hashlimit-burst {} --hashlimit-name {direction}-{veth} -j DROP",
                BURST.min(packets_per_second)
            ));
        }
    }
    add("-m conntrack ! --ctstate NEW -j RETURN".to_owned());
    if new_connections_per_second > 0 {
        add(format!(
            "{from} -m hashlimit --hashlimit-above {new_connections_per_second}/sec --hashlimit-burst {} --hashlimit-name n-{veth} {REJECT}",
            (4 * new_connections_per_second).min(BURST)
        ));
    }
    for (matching, most) in [(&from, connections_out), (&to, connections_in)] {
        if most > 0 {
            add(format!(
                "{matching} -m connlimit --connlimit-above {most} --connlimit-mask 0 --connlimit-saddr {REJECT}"
            ));
        }
    }
}

/// The largest burst that the kernel accepts.
const BURST: u32 = 10_000;

fn netout(text: &mut String, cell: &Cell, name: &str, egress: &[EgressRule]) {
    let mut add = |rule: String| {
        let _ = writeln!(text, "-A netout--{name}{rule}");
    };
    add(format!(" -j limits--{name}"));
    add(" -m conntrack --ctstate INVALID -j DROP".to_owned());
    for answers in REPLIES {
        add(format!(" {answers}"));
    }
    // The receiver's rules decide about packets that carry a mark. Marks do not leave the machine, so packets to other cells are
    // refused.
    add(format!(" -d {} -j c2cout--{}", cell.pool, cell.tag));
    add(format!(" -d {} -m mark ! --mark 0x0 -j RETURN", cell.range));
    add(format!(" -d {} {REJECT}", cell.pool));
    if !overlap(cell.pool, cell.range) {
        add(format!(" -d {} {REJECT}", cell.range));
    }
    for rule in egress {
        for matching in egress::matches(rule) {
            if rule.log && cell.can_log {
                add(format!(
                    "{matching} -m conntrack --ctstate NEW -j LOG --log-prefix \"OK_{name:.24} \""
                ));
            }
            add(format!("{matching} -j ACCEPT"));
        }
    }
    if cell.log_denied && cell.can_log {
        add(format!(
            " -m limit --limit 2/sec -j LOG --log-prefix \"DENY_{name:.22} \""
        ));
    }
    add(format!(" {END}"));
    add(format!(" {REJECT}"));
}

/// Permits what a container may reach on this machine. The jumps to host services precede the rule for answers, so that a connection
/// to a service ends when its egress rule is removed.
fn input(text: &mut String, cell: &Cell, name: &str, egress: &[EgressRule]) {
    let mut add = |rule: String| {
        let _ = writeln!(text, "-A input--{name} {rule}");
    };
    add(format!("-j limits--{name}"));
    host_services::jumps(&cell.tag, egress)
        .into_iter()
        .for_each(&mut add);
    add(ANSWERS.to_owned());
    for protocol in ["udp", "tcp"] {
        add(format!(
            "-d {}/32 -p {protocol} -m {protocol} --dport 53 -j ACCEPT",
            cell.dns
        ));
    }
    for port in &cell.router_ports {
        add(format!(
            "-d {}/32 -p tcp -m tcp --dport {port} -j ACCEPT",
            cell.cell_ip
        ));
    }
    add(REJECT.to_owned());
}

fn overlap(pool: Range, range: Range) -> bool {
    pool.prefix() <= range.prefix() && pool.overlaps(range)
}

/// Removes the rules of [`add`]. It succeeds only if all of them exist.
pub(crate) fn remove(name: &str, veth: &str, address: Ipv4Addr) -> String {
    format!(
        "*nat\n-D PREROUTING -j netin--{name}\n-D OUTPUT -j netin--{name}\n-F netin--{name}\n-X netin--{name}\nCOMMIT\n\
         *filter\n-D FORWARD -i {veth} -j netout--{name}\n-D INPUT -i {veth} -j input--{name}\n\
         -D FORWARD -d {address}/32 -j limits--{name}\n-D OUTPUT -d {address}/32 -j limits--{name}\n\
         -F netout--{name}\n-X netout--{name}\n-F input--{name}\n-X input--{name}\n\
         -F limits--{name}\n-X limits--{name}\nCOMMIT\n"
    )
}

/// Removes the given chains and every jump to them that the output of `iptables-save` shows. Returns an empty text if none of
/// them exists.
pub(crate) fn remove_existing(save: &str, chains: &[String]) -> String {
    let mut text = String::new();
    let (mut table, mut deletions, mut declared) = ("", String::new(), Vec::new());
    for line in save.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name] if name.starts_with('*') => {
                (table, deletions, declared) = (&name[1..], String::new(), Vec::new())
            }
            [chain, ..]
                if chain.starts_with(':') && chains.iter().any(|wanted| wanted == &chain[1..]) =>
            {
                declared.push(&chain[1..])
            }
            ["-A", chain, .., "-j", target]
                if chains.iter().any(|wanted| wanted == target)
                    && !chains.iter().any(|own| own == chain) =>
            {
                let _ = writeln!(deletions, "-D{}", &line[2..]);
            }
            ["COMMIT"] if !declared.is_empty() => {
                let _ = writeln!(text, "*{table}");
                text.push_str(&deletions);
                for chain in &declared {
                    let _ = writeln!(text, "-F {chain}");
                }
                for chain in &declared {
                    let _ = writeln!(text, "-X {chain}");
                }
                text.push_str("COMMIT\n");
            }
            _ => {}
        }
    }
    text
}

/// Returns the chains of one container.
pub(crate) fn chains(name: &str) -> Vec<String> {
    ["netin", "netout", "input", "limits"]
        .map(|kind| format!("{kind}--{name}"))
        .into()
}

pub(crate) fn limits_chain(name: &str) -> String {
    format!("limits--{name}")
}

/// Returns the chains of the cell itself.
pub(crate) fn base(tag: &str) -> Vec<String> {
    let own = ["masq", "overlay", "c2cin", "c2cout"].map(|kind| format!("{kind}--{tag}"));
    own.into_iter().chain(host_services::chains(tag)).collect()
}

/// Returns the names of this cell's containers that have chains, from the output of `iptables-save`: those whose jump matches an
/// interface of ours, or whose rules lead into our range.
pub(crate) fn present(save: &str, tag: &str, range: Range) -> Vec<String> {
    let veth = format!("{VETH_PREFIX}{tag}-");
    let mut names: Vec<String> = Vec::new();
    for line in save.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = match words.as_slice() {
            ["-A", _, "-i", interface, "-j", target] if interface.starts_with(&veth) => {
                target.split_once("--").map(|(_, name)| name)
            }
            ["-A", chain, .., "--to-destination", to] if inside(range, to) => {
                chain.strip_prefix("netin--")
            }
            _ => None,
        };
        if let Some(name) = name.filter(|name| !names.iter().any(|known| known == name)) {
            names.push(name.to_owned());
        }
    }
    names
}

fn inside(range: Range, to: &str) -> bool {
    to.split(':')
        .next()
        .and_then(|address| address.parse().ok())
        .is_some_and(|address| range.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Protocol;
    use crate::linux::host_services::Audience;

    fn cell() -> Cell {
        Cell {
            tag: "t1".to_owned(),
            cell_ip: "10.255.0.1".parse().unwrap(),
            range: "10.255.0.0/24".parse().unwrap(),
            pool: "10.255.0.0/16".parse().unwrap(),
            dns: "10.255.0.1".parse().unwrap(),
            router_ports: vec![80, 443],
            host_services: vec![HostService {
                audience: Audience::Bound,
                .."tcp:10.255.0.1:5432".parse().unwrap()
            }],
            log_denied: false,
            can_log: true,
            limits: NetworkLimits::default(),
        }
    }

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn sample() -> String {
        let egress = [
            EgressRule {
                protocol: Protocol::All,
                destinations: vec![(address("0.0.0.0"), address("9.255.255.255"))],
                ports: vec![],
                icmp: None,
                log: false,
            },
            EgressRule {
                protocol: Protocol::Tcp,
                destinations: vec![(address("10.0.11.7"), address("10.0.11.7"))],
                ports: vec![(5432, 5432), (8000, 8010)],
                icmp: None,
                log: true,
            },
            EgressRule {
                protocol: Protocol::Icmp,
                destinations: vec![(address("1.1.1.1"), address("1.1.1.1"))],
                ports: vec![],
                icmp: Some((8, 0)),
                log: false,
            },
        ];
        let net_in = [
            NetIn {
                host_port: 61001,
                container_port: 8080,
            },
            NetIn {
                host_port: 61002,
                container_port: 61001,
            },
        ];
        add(
            &cell(),
            &Rules {
                name: "4f2b1c9e-0f5d-4c0e-6",
                veth: "cvt1-0005",
                address: address("10.255.0.5"),
                net_in: &net_in,
                egress: &egress,
            },
        )
    }

    #[test]
    fn a_containers_rules() {
        insta::assert_snapshot!(sample());
    }

    #[test]
    fn the_cells_rules() {
        insta::assert_snapshot!(base_chains(&cell()) + &base_jumps(&cell()));
    }

    #[test]
    fn every_netout_chain_denies_the_apps_before_it_permits() {
        let text = sample();
        let place = |needle: &str| text.find(needle).unwrap();
        assert!(
            place("-d 10.255.0.0/16 -j REJECT")
                < place("-j ACCEPT\n-A netout--4f2b1c9e-0f5d-4c0e-6 -d 10.0.11.7")
        );
        assert!(text.contains("-A netout--4f2b1c9e-0f5d-4c0e-6 -j REJECT --reject-with icmp-port-unreachable\n-A input"));
        assert!(
            place("--ctdir REPLY -j ACCEPT") < place("-d 10.255.0.0/16 -j REJECT"),
            "answers to the router pass"
        );
        assert!(!text.contains(
            "-A netout--4f2b1c9e-0f5d-4c0e-6 -m conntrack --ctstate RELATED,ESTABLISHED"
        ));
    }

    #[test]
    fn a_changed_egress_is_what_add_makes() {
        let rule = EgressRule {
            protocol: Protocol::Tcp,
            destinations: vec![(address("1.1.1.1"), address("1.1.1.1"))],
            ports: vec![(443, 443)],
            icmp: None,
            log: false,
        };
        let rules = Rules {
            name: "a",
            veth: "cvt1-0005",
            address: address("10.255.0.5"),
            net_in: &[],
            egress: std::slice::from_ref(&rule),
        };
        let changed = egress(&cell(), "a", std::slice::from_ref(&rule));
        let whole = add(&cell(), &rules);
        let lines = changed.lines().filter(|line| line.starts_with("-A"));
        assert!(lines.clone().count() > 5);
        lines.for_each(|line| assert!(whole.contains(&format!("{line}\n")), "{line}"));
    }

    #[test]
    fn a_long_handle_is_cut_and_a_clash_avoided() {
        let handle = "4f2b1c9e-0f5d-4c0e-6e6e-1a2b";
        assert_eq!(
            chain_name(handle, std::iter::empty()),
            "4f2b1c9e-0f5d-4c0e-6"
        );
        let other = chain_name(handle, std::iter::once("4f2b1c9e-0f5d-4c0e-6"));
        assert!(
            other.starts_with("4f2b1c9e-0f-") && other.len() == 20,
            "{other}"
        );
        assert_eq!(chain_name("a b", std::iter::empty()), "a_b");
    }

    #[test]
    fn present_rules_are_removed_and_nothing_else() {
        let save = "*nat\n:PREROUTING ACCEPT [0:0]\n:netin--a - [0:0]\n:netin--b - [0:0]\n\
                    -A PREROUTING -j netin--a\n-A PREROUTING -j netin--b\n-A OUTPUT -j netin--a\n\
                    -A netin--a -d 10.255.0.1/32 -p tcp -m tcp --dport 61001 -j DNAT --to-destination 10.255.0.5:8080\n\
                    -A netin--b -d 10.255.1.1/32 -p tcp -m tcp --dport 61001 -j DNAT --to-destination 10.255.1.5:8080\nCOMMIT\n\
                    *filter\n:FORWARD ACCEPT [0:0]\n:netout--c - [0:0]\n-A FORWARD -i cvt1-0007 -j netout--c\nCOMMIT\n";
        assert_eq!(
            remove_existing(save, &chains("a")),
            "*nat\n-D PREROUTING -j netin--a\n-D OUTPUT -j netin--a\n-F netin--a\n-X netin--a\nCOMMIT\n"
        );
        assert_eq!(remove_existing(save, &chains("x")), "");
        assert_eq!(
            present(save, "t1", "10.255.0.0/24".parse().unwrap()),
            ["a", "c"]
        );
    }
}
