//! Checks security-group rules as the Cloud Controller sends them, and turns them into ranges of addresses and ports.
//!
//! A destination is an address, a CIDR or a range `a-b`. One text may contain several, separated by commas. IPv6 destinations and
//! `icmpv6` are left out, because containers have no IPv6 address.

use std::net::{IpAddr, Ipv4Addr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
    All,
}

/// A rule as it was received.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuleText<'a> {
    pub protocol: &'a str,
    pub destinations: &'a [String],
    pub ports: &'a [u32],
    pub port_range: Option<(u32, u32)>,
    pub icmp: Option<(i32, i32)>,
    pub log: bool,
}

/// A checked rule. Ranges are inclusive; no ports means all ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub protocol: Protocol,
    pub destinations: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub ports: Vec<(u16, u16)>,
    pub icmp: Option<(i32, i32)>,
    pub log: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("egress protocol {0:?}: expected tcp, udp, icmp, icmpv6 or all")]
    Protocol(String),
    #[error(
        "egress destination {0:?}: expected an address, a CIDR such as 10.0.0.0/8, or a range a-b with a not above b"
    )]
    Destination(String),
    #[error(
        "egress port {0}: expected a number from 1 to 65535; the first port of a range must not be above the last"
    )]
    Port(String),
    #[error("egress rule for {0}: it names no ports; set ports or a port range")]
    NoPorts(&'static str),
    #[error("egress rule for {0}: ports are allowed for tcp and udp only")]
    Ports(String),
    #[error("egress rule for icmp: type {0} and code {1} must lie between -1 and 255")]
    Icmp(i32, i32),
}

/// Checks one rule. Returns `Ok(None)` when nothing in it concerns IPv4.
pub fn check(text: &RuleText<'_>) -> Result<Option<Rule>, RuleError> {
    let protocol = match text.protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        "all" => Protocol::All,
        "icmpv6" => return Ok(None),
        _ => return Err(RuleError::Protocol(text.protocol.to_owned())),
    };
    let ports = ports(text)?;
    match protocol {
        Protocol::Tcp if ports.is_empty() => return Err(RuleError::NoPorts("tcp")),
        Protocol::Udp if ports.is_empty() => return Err(RuleError::NoPorts("udp")),
        Protocol::Icmp | Protocol::All if !ports.is_empty() => {
            return Err(RuleError::Ports(text.protocol.to_owned()));
        }
        _ => {}
    }
    let icmp = match (protocol, text.icmp) {
        (Protocol::Icmp, Some((kind, code)))
            if (-1..=255).contains(&kind) && (-1..=255).contains(&code) =>
        {
            Some((kind, code))
        }
        (Protocol::Icmp, Some((kind, code))) => return Err(RuleError::Icmp(kind, code)),
        (Protocol::Icmp, None) => Some((-1, -1)),
        _ => None,
    };
    let mut destinations = Vec::new();
    for destination in text.destinations.iter().flat_map(|d| d.split(',')) {
        destinations.extend(range(destination.trim())?);
    }
    Ok((!destinations.is_empty()).then_some(Rule {
        protocol,
        destinations,
        ports,
        icmp,
        log: text.log,
    }))
}

fn ports(text: &RuleText<'_>) -> Result<Vec<(u16, u16)>, RuleError> {
    let port = |n: u32| u16::try_from(n).ok().filter(|p| *p != 0);
    let mut ports = Vec::new();
    for n in text.ports {
        let p = port(*n).ok_or_else(|| RuleError::Port(n.to_string()))?;
        ports.push((p, p));
    }
    if let Some((start, end)) = text.port_range.filter(|r| *r != (0, 0)) {
        match (port(start), port(end)) {
            (Some(start), Some(end)) if start <= end => ports.push((start, end)),
            _ => return Err(RuleError::Port(format!("{start}-{end}"))),
        }
    }
    Ok(ports)
}

/// Returns one destination as a range, or `None` for IPv6.
fn range(text: &str) -> Result<Option<(Ipv4Addr, Ipv4Addr)>, RuleError> {
    let bad = || RuleError::Destination(text.to_owned());
    let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| bad());
    if let Some((network, bits)) = text.split_once('/') {
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        return match address(network)? {
            IpAddr::V4(network) if bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                let first = u32::from(network) & mask;
                Ok(Some((Ipv4Addr::from(first), Ipv4Addr::from(first | !mask))))
            }
            IpAddr::V6(_) if bits <= 128 => Ok(None),
            _ => Err(bad()),
        };
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (address(first)?, address(last)?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Ok(Some((first, last))),
        (IpAddr::V6(_), IpAddr::V6(_)) => Ok(None),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        for (text, want) in [
            ("10.0.0.1", Some(("10.0.0.1", "10.0.0.1"))),
            ("10.1.2.3/8", Some(("10.0.0.0", "10.255.255.255"))),
            ("0.0.0.0/0", Some(("0.0.0.0", "255.255.255.255"))),
            ("1.2.3.4/32", Some(("1.2.3.4", "1.2.3.4"))),
            ("0.0.0.0-9.255.255.255", Some(("0.0.0.0", "9.255.255.255"))),
            ("::1", None),
            ("2001:db8::/32", None),
        ] {
            let want = want.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
            assert_eq!(range(text), Ok(want), "{text}");
        }
        for text in [
            "",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.2-10.0.0.1",
            "a.example",
            "10.0.0.0/x",
        ] {
            assert_eq!(
                range(text),
                Err(RuleError::Destination(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn rules() {
        let any = ["10.0.0.0/8,1.1.1.1".to_owned()];
        let rule = |protocol, ports, port_range| {
            check(&RuleText {
                protocol,
                destinations: &any,
                ports,
                port_range,
                icmp: None,
                log: false,
            })
        };
        let tcp = rule("tcp", &[80, 443], Some((1000, 2000)))
            .unwrap()
            .unwrap();
        assert_eq!(tcp.ports, [(80, 80), (443, 443), (1000, 2000)]);
        assert_eq!(tcp.destinations.len(), 2);
        assert_eq!(
            rule("icmp", &[], None).unwrap().unwrap().icmp,
            Some((-1, -1))
        );
        assert_eq!(
            rule("all", &[], None).unwrap().unwrap().protocol,
            Protocol::All
        );
        assert_eq!(rule("icmpv6", &[], None), Ok(None));
        assert_eq!(rule("tcp", &[], None), Err(RuleError::NoPorts("tcp")));
        assert_eq!(
            rule("all", &[80], None),
            Err(RuleError::Ports("all".into()))
        );
        assert_eq!(
            rule("udp", &[70000], None),
            Err(RuleError::Port("70000".into()))
        );
        assert_eq!(
            rule("udp", &[], Some((9, 8))),
            Err(RuleError::Port("9-8".into()))
        );
        assert_eq!(
            rule("sctp", &[], None),
            Err(RuleError::Protocol("sctp".into()))
        );
    }
}
