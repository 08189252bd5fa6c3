//! The configuration of route services.

use super::{Certificate, TlsTerms};
use std::net::IpAddr;
use std::time::Duration;

/// The configuration of route services: services that requests of some routes pass on their way to the app.
#[derive(Clone)]
pub struct RouteServices {
    /// The secret that all routers of the foundation share.
    pub secret: String,
    /// The previous secret, which is accepted while the secret is being changed.
    pub secret_decrypt_only: Option<String>,
    /// The time after which all routers use the next key, which they derive from the secret and their clocks. `None`: the secret
    /// stands for one key, as in gorouter.
    pub rotation: Option<Duration>,
    /// The time that a service may take to send a request back.
    pub timeout: Duration,
    /// Whether services are asked to send requests back by HTTPS.
    pub recommend_https: bool,
    /// The port at which services send requests back. `None`: the port of the scheme, which the url leaves out, as in gorouter.
    pub return_port: Option<u16>,
    pub max_attempts: usize,
    /// Whether signatures are also checked on routes without a service.
    pub strict_signature_validation: bool,
    pub websockets: bool,
    /// The certificate that the router presents to services.
    pub identity: Option<Certificate>,
    /// The TLS versions and suites towards services.
    pub tls_terms: TlsTerms,
    pub skip_ssl_validation: bool,
    /// Authorities, as PEM, that may have signed the certificates of services in addition to those of backends. It may be empty.
    pub authorities: String,
    /// Whether the authorities of the machine may have signed them too.
    pub system_authorities: bool,
    /// Whether a service that is an app of this foundation is reached without leaving it.
    pub hairpinning: bool,
    /// The only hosts for which that is done (`*.` is one label); empty: all hosts.
    pub hairpinning_allowlist: Vec<String>,
    /// The addresses at which no service may be, after resolution of its name.
    pub egress_blocklist: Vec<AddressRange>,
}

impl std::fmt::Debug for RouteServices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteServices")
            .field("secret", &"<redacted>")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A range of addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    ip: IpAddr,
    bits: u32,
}

impl AddressRange {
    /// Parses `10.0.0.0/8`, `fd00::/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, bits) = text.split_once('/').unwrap_or((text, ""));
        let ip: IpAddr = ip.parse().ok()?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = if bits.is_empty() {
            most
        } else {
            bits.parse().ok()?
        };
        (bits <= most).then_some(Self { ip, bits })
    }

    /// Returns whether an address is in the range. An IPv4 address may also be mapped into IPv6.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let number = |ip: IpAddr| match ip.to_canonical() {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, true),
            IpAddr::V6(ip) => (u128::from(ip), false),
        };
        let ((a, a4), (b, b4)) = (number(self.ip), number(ip));
        a4 == b4 && (self.bits == 0 || (a ^ b) >> (128 - self.bits) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_addresses() {
        for (range, ip, inside) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("fd00::/8", "fd12::1", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.5", false),
        ] {
            let range = AddressRange::parse(range).unwrap();
            assert_eq!(
                range.contains(ip.parse().unwrap()),
                inside,
                "{range:?} {ip}"
            );
        }
        assert!(AddressRange::parse("10.0.0.0/33").is_none());
    }
}
