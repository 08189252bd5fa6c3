//! The addresses to which a component connects because a user named them: a log drain, a service broker.
//!
//! The components themselves listen on loopback, and a cloud has its secrets on a link-local address. A user could reach both through
//! the component, so neither is permitted unless the operator allows it. Names are resolved first, and only permitted addresses of a name are
//! used; a connection goes to the address that was checked.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use tokio::net::TcpStream;

/// A range of addresses on one port or on all ports. Its texts are `10.0.0.5`, `10.0.0.0/8`, `10.0.0.5:6514`, `fd00::/8`, `[fd00::1]:6514`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: IpAddr,
    prefix: u8,
    port: Option<u16>,
}

/// A text that is no [`Range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRange;

impl fmt::Display for NoRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "neither an address nor a range: use e.g. 10.0.0.5, 10.0.0.5:6514 or 10.0.0.0/8",
        )
    }
}

impl std::error::Error for NoRange {}

impl FromStr for Range {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::from(address));
        }
        let (network, prefix) = match text.split_once('/') {
            Some((network, prefix)) => (network, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| NoRange)?;
        let width = width(network);
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| NoRange)?,
            None => width,
        };
        if prefix > width {
            return Err(NoRange);
        }
        Ok(Self {
            network,
            prefix,
            port: None,
        })
    }
}

/// One address and its port.
impl From<SocketAddr> for Range {
    fn from(address: SocketAddr) -> Self {
        let network = address.ip();
        Self {
            network,
            prefix: width(network),
            port: Some(address.port()),
        }
    }
}

fn width(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Returns the first bits of an address.
fn first(ip: IpAddr, bits: u8) -> u128 {
    let all = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    // A shift by the whole width is no shift for the compiler.
    match bits {
        0 => 0,
        bits => all >> (width(ip) - bits),
    }
}

impl Range {
    pub fn contains(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.port.is_none_or(|port| port == address.port())
            && width(ip) == width(self.network)
            && first(ip, self.prefix) == first(self.network, self.prefix)
    }
}

/// The addresses to which a component connects for users. By default these are all but those of the machine itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The ranges that are permitted although they are denied or belong to the machine.
    pub allow: Vec<Range>,
    /// The ranges that are not permitted.
    pub deny: Vec<Range>,
}

impl Reach {
    /// Permits every address, for what an operator has named.
    pub fn anywhere() -> Self {
        let all = |network| Range {
            network,
            prefix: 0,
            port: None,
        };
        let networks = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self {
            allow: networks.map(all).into(),
            deny: Vec::new(),
        }
    }

    /// Returns whether the component may connect to an address.
    pub fn permits(&self, address: SocketAddr) -> bool {
        // A translator would lead an address with a denied one inside to the denied one.
        let inside = match address.ip() {
            IpAddr::V6(ip) => embedded(ip).map(|ip| SocketAddr::from((ip, address.port()))),
            IpAddr::V4(_) => None,
        };
        let is_in = |ranges: &[Range], address| ranges.iter().any(|range| range.contains(address));
        let is_denied = |address| is_in(&self.deny, address);
        is_in(&self.allow, address)
            || !(is_denied(address) || inside.is_some_and(is_denied) || is_special(address.ip()))
    }

    /// Connects to a host, whose permitted addresses are tried in their order. A literal IPv6 address has no brackets here.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(ConnectError::Unresolved)?.collect();
        let mut failed = None;
        for address in &addresses {
            if !self.permits(*address) {
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(error),
            }
        }
        Err(match (failed, addresses.first()) {
            (Some(error), _) => ConnectError::Failed(error),
            (None, Some(address)) => ConnectError::Forbidden(address.ip()),
            (None, None) => ConnectError::Unresolved(io::Error::other("the name has no address")),
        })
    }
}

/// The reason why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The name of the host could not be resolved.
    Unresolved(io::Error),
    /// No address of the host is permitted. It is the first one.
    Forbidden(IpAddr),
    /// The permitted addresses did not accept the connection. The error is that of the last one.
    Failed(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved(error) => write!(f, "the host cannot be resolved: {error}"),
            Self::Forbidden(ip) => write!(f, "the operator permits no connection to {ip}"),
            Self::Failed(error) => write!(f, "connect: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// Returns whether an address belongs to the machine, to its link, or to nobody in particular.
fn is_special(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_special_v4(ip),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unicast_link_local()
                || embedded(ip).is_some_and(is_special_v4)
        }
    }
}

fn is_special_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback()
        || ip.octets()[0] == 0
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
}

/// Returns the IPv4 address that a translator, a tunnel or an older stack reads from an IPv6 address (`64:ff9b::/96`, `2002::/16`, `::/96`).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = ip.to_bits();
    let translated = 0x0064_ff9b_u128 << 96;
    let prefix = (bits >> 32) << 32;
    if bits >> 112 == 0x2002 {
        return Some(Ipv4Addr::from_bits(low(bits >> 80)));
    }
    (prefix == translated || prefix == 0).then(|| Ipv4Addr::from_bits(low(bits)))
}

/// Returns the last 32 bits.
fn low(bits: u128) -> u32 {
    u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(reach: &Reach, address: &str) -> bool {
        reach.permits(address.parse().unwrap())
    }

    fn ranges(texts: &[&str]) -> Vec<Range> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_machine_and_its_link_are_not_reached_by_default() {
        let reach = Reach::default();
        for open in [
            "10.0.0.5:514",
            "8.8.8.8:443",
            "[2001:db8::1]:6514",
            "[fd00::1]:1",
        ] {
            assert!(permits(&reach, open), "{open}");
        }
        for closed in [
            "127.0.0.1:4222",
            "127.8.0.1:1",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "[::1]:1",
            "[::]:1",
            "[fe80::1]:1",
            "[ff02::1]:1",
            "[::ffff:127.0.0.1]:1",
            "[::127.0.0.1]:1",
            "[64:ff9b::7f00:1]:1",
            "[2002:7f00:1::]:1",
        ] {
            assert!(!permits(&reach, closed), "{closed}");
        }
    }

    #[test]
    fn what_is_allowed_is_narrower_than_what_is_denied() {
        let reach = Reach {
            allow: ranges(&["127.0.0.1:443", "10.1.0.0/16", "fd00::/8", "[fd01::1]:9"]),
            deny: ranges(&["10.0.0.0/8", "8.8.8.8", "0.0.0.0/32", "::/0"]),
        };
        for open in ["127.0.0.1:443", "10.1.2.3:1", "[fd00::9]:1", "9.9.9.9:1"] {
            assert!(permits(&reach, open), "{open}");
        }
        for closed in [
            "127.0.0.1:444",
            "10.2.0.1:1",
            "8.8.8.8:53",
            "[2001:db8::1]:1",
        ] {
            assert!(!permits(&reach, closed), "{closed}");
        }
        let reach = Reach {
            allow: vec![],
            deny: ranges(&["10.0.0.5:53"]),
        };
        for closed in [
            "[::ffff:10.0.0.5]:53",
            "[64:ff9b::a00:5]:53",
            "[2002:a00:5::]:53",
        ] {
            assert!(!permits(&reach, closed), "{closed}");
        }
        assert!(permits(&reach, "[64:ff9b::a00:5]:54"));
        let mapped = ranges(&["127.0.0.1"]);
        assert!(mapped[0].contains("[::ffff:127.0.0.1]:5".parse().unwrap()));
    }

    #[test]
    fn an_operator_reaches_everything() {
        for address in ["127.0.0.1:1", "[::1]:1", "8.8.8.8:1", "169.254.1.1:1"] {
            assert!(permits(&Reach::anywhere(), address), "{address}");
        }
    }

    #[test]
    fn wrong_ranges_are_refused() {
        for wrong in [
            "",
            "host",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.1:x",
            "/8",
        ] {
            assert_eq!(wrong.parse::<Range>(), Err(NoRange), "{wrong}");
        }
    }

    #[tokio::test]
    async fn connections_go_to_permitted_addresses_only() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closed = Reach::default().connect("localhost", address.port()).await;
        assert!(
            matches!(closed, Err(ConnectError::Forbidden(_))),
            "{closed:?}"
        );
        let reach = Reach {
            allow: vec![address.into()],
            deny: vec![],
        };
        reach.connect("127.0.0.1", address.port()).await.unwrap();
        drop(listener);
        let failed = reach.connect("127.0.0.1", address.port()).await;
        assert!(matches!(failed, Err(ConnectError::Failed(_))), "{failed:?}");
        let unknown = reach.connect(&"a".repeat(64), 1).await;
        assert!(
            matches!(unknown, Err(ConnectError::Unresolved(_))),
            "{unknown:?}"
        );
    }
}
