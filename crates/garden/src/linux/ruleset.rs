//! Compares the rules on the machine with those that we made, and renders the text that restores them.
//!
//! A [`Piece`] holds the effect of one `iptables-restore` text: chains with their rules, and the jumps to them from the kernel's
//! own chains. `iptables-save` may spell a rule differently from us. At the first look, a chain that has as many rules with the
//! same targets counts as ours, and its spelling is remembered from then on.
//!
//! The module is pure; [`super::iptables`] reads and applies the rules.

use crate::api::FirewallRule;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The prefixes of the chains that cells make, this one and others on the machine.
const PREFIXES: [&str; 6] = [
    "netin--",
    "netout--",
    "input--",
    "limits--",
    "overlay--",
    "masq--",
];
/// The chains whose jumps must precede those to `overlay--`, which accepts packets.
const LIMITS: &str = "limits--";
const OVERLAY: &str = "overlay--";
/// The chains of the kernel in which other programs can refuse packets to a container and from it, besides those of the table `nat`.
const HOOKS: [(&str, &str); 10] = [
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

/// A rule without its chain, and the number of packets that it matched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    text: String,
    packets: u64,
}

impl Rule {
    fn target(&self) -> &str {
        target(&self.text)
    }
}

fn target(rule: &str) -> &str {
    let mut words = rule.split(' ').skip_while(|word| *word != "-j");
    words.nth(1).unwrap_or_default()
}

fn is_ours(target: &str) -> bool {
    PREFIXES.iter().any(|prefix| target.starts_with(prefix))
}

/// All rules of the machine, by table and chain.
#[derive(Debug, Default)]
pub(crate) struct Ruleset {
    tables: BTreeMap<String, BTreeMap<String, Vec<Rule>>>,
}

impl Ruleset {
    /// Reads the output of `iptables-save`, with or without counters.
    pub(crate) fn parse(save: &str) -> Self {
        let mut ruleset = Self::default();
        let mut table = String::new();
        for line in save.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim().to_owned();
            } else if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or_default();
                ruleset
                    .tables
                    .entry(table.clone())
                    .or_default()
                    .entry(name.to_owned())
                    .or_default();
            } else if let Some((chain, rule)) = rule(line) {
                let chains = ruleset.tables.entry(table.clone()).or_default();
                chains.entry(chain.to_owned()).or_default().push(rule);
            }
        }
        ruleset
    }

    fn chain(&self, table: &str, chain: &str) -> Option<&[Rule]> {
        Some(self.tables.get(table)?.get(chain)?)
    }

    /// Returns the rules that decide about packets to the mapped ports of a container: the translations in the chain `netin`, the
    /// jumps to it, translations of other programs before them, and rules of other programs that decide before the cell's own.
    pub(crate) fn towards(&self, netin: &str) -> Vec<FirewallRule> {
        let mut found = Vec::new();
        let mut add = |table: &'static str, chain: &str, rule: &Rule| {
            found.push(FirewallRule {
                table,
                rule: format!("-A {chain} {}", rule.text),
                packets: rule.packets,
            });
        };
        for hook in ["PREROUTING", "OUTPUT"] {
            for rule in self.chain("nat", hook).unwrap_or_default() {
                if rule.target() == netin || rule.target() == "DNAT" {
                    add("nat", hook, rule);
                }
            }
        }
        for rule in self.chain("nat", netin).unwrap_or_default() {
            add("nat", netin, rule);
        }
        let input = netin.replacen("netin--", "input--", 1);
        for (table, hook) in HOOKS {
            let rules = self.chain(table, hook).unwrap_or_default().iter();
            let is_last =
                |rule: &&Rule| rule.target().starts_with(OVERLAY) || rule.target() == input;
            for rule in rules.take_while(|rule| !is_last(rule)) {
                if !is_ours(rule.target()) {
                    add(table, hook, rule);
                }
            }
        }
        found
    }

    /// Returns the number of packets that the chain's REJECT and DROP rules have matched.
    pub(crate) fn refused(&self, chain: &str) -> u64 {
        let rules = self.chain("filter", chain).unwrap_or_default().iter();
        rules
            .filter(|rule| matches!(rule.target(), "REJECT" | "DROP"))
            .map(|rule| rule.packets)
            .sum()
    }
}

/// Parses a line `[1:60] -A chain rule` into chain and rule.
fn rule(line: &str) -> Option<(&str, Rule)> {
    let (packets, line) = match line.strip_prefix('[') {
        Some(rest) => {
            let (counters, line) = rest.split_once("] ")?;
            (counters.split(':').next()?.parse().ok()?, line)
        }
        None => (0, line),
    };
    let (chain, text) = line.strip_prefix("-A ")?.split_once(' ')?;
    let text = text.to_owned();
    Some((chain, Rule { text, packets }))
}

/// The chains and jumps that one restore text makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Piece {
    tables: BTreeMap<String, Part>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    chains: BTreeMap<String, Chain>,
    jumps: Vec<Jump>,
}

#[derive(Clone, Debug, Default)]
struct Chain {
    rules: Vec<String>,
    /// The rules as `iptables-save` spells them.
    spelled: Option<Vec<String>>,
}

/// A rule in a chain that is not ours, which leads to a chain that is.
#[derive(Clone, Debug)]
struct Jump {
    hook: String,
    /// Whether the jump is inserted before the rules of others rather than appended.
    first: bool,
    rule: String,
}

impl Piece {
    /// Parses a text of [`super::firewall`].
    pub(crate) fn parse(text: &str) -> Self {
        let mut piece = Self::default();
        let mut table = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.trim().to_owned();
                continue;
            }
            let part = piece.tables.entry(table.clone()).or_default();
            if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split(' ').next().unwrap_or_default();
                part.chains.entry(name.to_owned()).or_default();
            } else if let Some((chain, rule)) = line
                .strip_prefix("-A ")
                .and_then(|rest| rest.split_once(' '))
            {
                match part.chains.get_mut(chain) {
                    Some(own) => own.rules.push(rule.to_owned()),
                    None => part.jump(chain, false, rule),
                }
            } else if let Some((hook, rule)) = line
                .strip_prefix("-I ")
                .and_then(|rest| rest.split_once(" 1 "))
            {
                part.jump(hook, true, rule);
            }
        }
        piece
    }

    /// Adopts the changes that a text makes to some of the chains.
    pub(crate) fn change(&mut self, text: &str) {
        for (table, part) in Self::parse(text).tables {
            self.tables
                .entry(table)
                .or_default()
                .chains
                .extend(part.chains);
        }
    }

    /// Returns the tables in which something of the piece is missing, changed, doubled or out of order. It remembers the spelling
    /// of chains that are correct.
    pub(crate) fn broken(&mut self, present: &Ruleset) -> Vec<String> {
        let broken = self.tables.iter_mut().filter_map(|(table, part)| {
            // All chains are compared, so that the spelling of each is remembered.
            let mut wrong = 0;
            for (name, chain) in &mut part.chains {
                wrong += usize::from(!chain.is_intact(present.chain(table, name)));
            }
            wrong += part
                .jumps
                .iter()
                .filter(|jump| !jump.is_intact(present, table))
                .count();
            (wrong > 0).then(|| table.clone())
        });
        broken.collect()
    }

    /// Returns the text that restores the piece in one table, whatever of it exists: chains are emptied and filled, jumps removed
    /// and added again, all in one step.
    pub(crate) fn repair(&self, present: &Ruleset, table: &str) -> String {
        let Some(part) = self.tables.get(table) else {
            return String::new();
        };
        let mut text = format!("*{table}\n");
        for name in part.chains.keys() {
            let _ = writeln!(text, ":{name} - [0:0]");
        }
        for (name, chain) in &part.chains {
            for rule in &chain.rules {
                let _ = writeln!(text, "-A {name} {rule}");
            }
        }
        let hooks: BTreeSet<&String> = part.jumps.iter().map(|jump| &jump.hook).collect();
        for hook in hooks {
            let standing = present.chain(table, hook).unwrap_or_default();
            for rule in standing {
                if part.chains.contains_key(rule.target()) {
                    let _ = writeln!(text, "-D {hook} {}", rule.text);
                }
            }
        }
        for Jump { hook, first, rule } in &part.jumps {
            let _ = match first {
                true => writeln!(text, "-I {hook} 1 {rule}"),
                false => writeln!(text, "-A {hook} {rule}"),
            };
        }
        text.push_str("COMMIT\n");
        text
    }
}

impl Part {
    fn jump(&mut self, hook: &str, first: bool, rule: &str) {
        self.jumps.push(Jump {
            hook: hook.to_owned(),
            first,
            rule: rule.to_owned(),
        });
    }
}

impl Chain {
    fn is_intact(&mut self, present: Option<&[Rule]>) -> bool {
        let Some(present) = present else { return false };
        let texts = present.iter().map(|rule| &rule.text);
        if let Some(spelled) = &self.spelled {
            return texts.eq(spelled);
        }
        let alike = present.len() == self.rules.len()
            && std::iter::zip(present, &self.rules).all(|(is, made)| is.target() == target(made));
        if alike {
            self.spelled = Some(texts.cloned().collect());
        }
        alike
    }
}

impl Jump {
    fn is_intact(&self, present: &Ruleset, table: &str) -> bool {
        let rules = present.chain(table, &self.hook).unwrap_or_default();
        let to = target(&self.rule);
        let mut places = rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.text == self.rule);
        let (Some((place, _)), None) = (places.next(), places.next()) else {
            return false;
        };
        let in_the_way = |rule: &Rule| {
            let other = rule.target();
            !is_ours(other) || (to.starts_with(LIMITS) && other.starts_with(OVERLAY))
        };
        !(self.first && rules[..place].iter().any(in_the_way))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "*nat\n:netin--a - [0:0]\n-A netin--a -d 10.0.0.1/32 -j DNAT --to-destination 10.255.0.5:8080\n\
        -A PREROUTING -j netin--a\nCOMMIT\n*filter\n:netout--a - [0:0]\n:limits--a - [0:0]\n-A netout--a -j limits--a\n\
        -A netout--a -j REJECT\n-A limits--a -m x -j DROP\n-I FORWARD 1 -i cvt-5 -j netout--a\n-I FORWARD 1 -o cvt-5 -j limits--a\nCOMMIT\n";
    const WHOLE: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:netin--a - [0:0]\n[1:60] -A PREROUTING -j netin--a\n\
        [0:0] -A netin--a -d 10.0.0.1/32 -j DNAT --to-destination 10.255.0.5:8080\nCOMMIT\n\
        *filter\n:FORWARD ACCEPT [0:0]\n:netout--a - [0:0]\n:limits--a - [0:0]\n[0:0] -A FORWARD -o cvt-5 -j limits--a\n\
        [0:0] -A FORWARD -i cvt-5 -j netout--a\n[0:0] -A FORWARD -d 10.255.0.0/24 -j overlay--t\n[0:0] -A FORWARD -j DOCKER\n\
        [0:0] -A netout--a -j limits--a\n[0:0] -A netout--a -j REJECT --reject-with icmp-port-unreachable\n[7:420] -A limits--a -m x -j DROP\nCOMMIT\n";

    fn broken(save: &str) -> Vec<String> {
        let mut piece = Piece::parse(MADE);
        assert!(piece.broken(&Ruleset::parse(WHOLE)).is_empty());
        piece.broken(&Ruleset::parse(save))
    }

    #[test]
    fn intact_rules_are_left_alone() {
        assert!(broken(WHOLE).is_empty());
        assert_eq!(Ruleset::parse(WHOLE).refused("limits--a"), 7);
        assert_eq!(Ruleset::parse(WHOLE).refused("limits--b"), 0);
    }

    #[test]
    fn rules_towards_a_container_have_their_counters() {
        let foreign = WHOLE
            .replace("[0:0] -A FORWARD -o", "[3:9] -A FORWARD -j DROP\n[0:0] -A FORWARD -o")
            .replace("[1:60] -A", "[2:8] -A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.9.9.9:80\n[1:60] -A");
        let rules: Vec<(&str, String, u64)> = Ruleset::parse(&foreign)
            .towards("netin--a")
            .into_iter()
            .map(|rule| (rule.table, rule.rule, rule.packets))
            .collect();
        let expected = [
            (
                "nat",
                "-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.9.9.9:80",
                2,
            ),
            ("nat", "-A PREROUTING -j netin--a", 1),
            (
                "nat",
                "-A netin--a -d 10.0.0.1/32 -j DNAT --to-destination 10.255.0.5:8080",
                0,
            ),
            ("filter", "-A FORWARD -j DROP", 3),
        ];
        let expected = expected.map(|(table, rule, packets)| (table, rule.to_owned(), packets));
        assert_eq!(rules, expected);
        assert!(Ruleset::default().towards("netin--a").is_empty());
    }

    #[test]
    fn every_kind_of_damage_is_seen() {
        let without = |line: &str| {
            let kept: Vec<&str> = WHOLE.lines().filter(|l| !l.ends_with(line)).collect();
            kept.join("\n")
        };
        for (damage, table) in [
            (without("-A PREROUTING -j netin--a"), "nat"),
            (without("10.255.0.5:8080"), "nat"),
            (without("-A netout--a -j limits--a"), "filter"),
            (without("-A FORWARD -i cvt-5 -j netout--a"), "filter"),
            (without("-A FORWARD -o cvt-5 -j limits--a"), "filter"),
            (without("-m x -j DROP"), "filter"),
            (WHOLE.replace("10.255.0.5:8080", "10.255.0.6:8080"), "nat"),
            (
                WHOLE.replace(
                    "-A netout--a -j REJECT --reject-with icmp-port-unreachable",
                    "-A netout--a -j ACCEPT",
                ),
                "filter",
            ),
            (
                WHOLE.replace(
                    "[0:0] -A FORWARD -o",
                    "[0:0] -A FORWARD -j ACCEPT\n[0:0] -A FORWARD -o",
                ),
                "filter",
            ),
            (
                WHOLE.replace(
                    "[0:0] -A FORWARD -o",
                    "[0:0] -A FORWARD -d 1.1.1.1/32 -j overlay--t\n[0:0] -A FORWARD -o",
                ),
                "filter",
            ),
            (
                WHOLE.replace(
                    "[1:60] -A PREROUTING",
                    "[1:60] -A PREROUTING -j netin--a\n[1:60] -A PREROUTING",
                ),
                "nat",
            ),
        ] {
            assert_eq!(broken(&damage), [table], "{damage}");
        }
        assert_eq!(
            broken("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"),
            ["filter", "nat"]
        );
    }

    #[test]
    fn a_repair_removes_duplicates_and_restores_the_rest() {
        let doubled = WHOLE.replace(
            "[0:0] -A FORWARD -j DOCKER",
            "[0:0] -A FORWARD -j DOCKER\n[0:0] -A FORWARD -i cvt-5 -j netout--a",
        );
        let text = Piece::parse(MADE).repair(&Ruleset::parse(&doubled), "filter");
        assert_eq!(text.matches("-D FORWARD -i cvt-5 -j netout--a").count(), 2);
        assert_eq!(text.matches("-D FORWARD -o cvt-5 -j limits--a").count(), 1);
        assert!(
            !text.contains("DOCKER") && !text.contains("overlay--t"),
            "{text}"
        );
        assert!(
            text.contains(":limits--a - [0:0]\n:netout--a - [0:0]\n"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "-I FORWARD 1 -i cvt-5 -j netout--a\n-I FORWARD 1 -o cvt-5 -j limits--a\nCOMMIT\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_change_replaces_the_rules_of_one_chain() {
        let mut piece = Piece::parse(MADE);
        assert!(piece.broken(&Ruleset::parse(WHOLE)).is_empty());
        piece.change("*filter\n:netout--a - [0:0]\n-A netout--a -j limits--a\n-A netout--a -d 1.1.1.1/32 -j ACCEPT\n-A netout--a -j REJECT\nCOMMIT\n");
        assert_eq!(piece.broken(&Ruleset::parse(WHOLE)), ["filter"]);
        assert!(
            piece
                .repair(&Ruleset::default(), "filter")
                .contains("1.1.1.1")
        );
    }
}
