//! The addresses to which calls may go. A broker's URL comes from a user, who must not reach the platform's own services with it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The rules for addresses: all are permitted but those of this machine itself, of its network segment, and of many receivers. An
/// operator can permit some of these as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The addresses that are permitted besides. `None` permits every port.
    permitted: Vec<(IpAddr, Option<u16>)>,
}

impl Addresses {
    /// Permits an address of this machine, for one port or for all of them.
    #[must_use]
    pub fn permitting(mut self, address: IpAddr, port: Option<u16>) -> Self {
        self.permitted.push((address.to_canonical(), port));
        self
    }

    /// Reads an address as an operator writes it: `127.0.0.1`, `127.0.0.1:8080`, `::1` or `[::1]:8080`.
    pub fn read(text: &str) -> Option<(IpAddr, Option<u16>)> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some((address.ip(), Some(address.port())));
        }
        let address = text.parse::<IpAddr>().ok()?;
        Some((address, None))
    }

    /// Returns whether a call may go to an address.
    pub fn permits(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let is_named = |(other, port): &(IpAddr, Option<u16>)| {
            *other == ip && port.is_none_or(|port| port == address.port())
        };
        !is_special(ip) || self.permitted.iter().any(is_named)
    }
}

/// Returns whether an address means this machine, its network segment, or many receivers.
fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_special_v4(ip),
        IpAddr::V6(ip) => is_special_v6(ip),
    }
}

fn is_special_v4(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 0
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
}

fn is_special_v6(ip: Ipv6Addr) -> bool {
    // Addresses with an IPv4 address inside, for translation, reach that address.
    let segments = ip.segments();
    let inside = match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some((high, low)),
        [0x2002, high, low, ..] => Some((high, low)),
        _ => None,
    };
    let is_special_inside = inside.is_some_and(|(high, low)| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_special_v4(Ipv4Addr::new(a, b, c, d))
    });
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || (segments[0] & 0xffc0) == 0xfe80
        || is_special_inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(rules: &Addresses, address: &str) -> bool {
        rules.permits(address.parse().unwrap())
    }

    #[test]
    fn the_own_machine_and_segment_are_refused() {
        let rules = Addresses::default();
        for refused in [
            "127.0.0.1:80",
            "127.8.8.8:80",
            "0.0.0.0:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "[::1]:80",
            "[::]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[64:ff9b::7f00:1]:80",
            "[2002:7f00:1::]:80",
        ] {
            assert!(!permits(&rules, refused), "{refused}");
        }
        for permitted in [
            "10.0.0.1:80",
            "192.168.1.1:80",
            "8.8.8.8:443",
            "[2001:db8::1]:80",
        ] {
            assert!(permits(&rules, permitted), "{permitted}");
        }
    }

    #[test]
    fn an_operator_permits_single_addresses() {
        let (address, port) = Addresses::read("127.0.0.1:8080").unwrap();
        let rules = Addresses::default().permitting(address, port);
        assert!(permits(&rules, "127.0.0.1:8080"));
        assert!(permits(&rules, "[::ffff:127.0.0.1]:8080"));
        assert!(!permits(&rules, "127.0.0.1:8081"));
        assert!(!permits(&rules, "127.0.0.2:8080"));
        let (address, port) = Addresses::read("::1").unwrap();
        assert!(permits(&rules.permitting(address, port), "[::1]:1"));
        assert_eq!(Addresses::read("localhost:1"), None);
    }
}
