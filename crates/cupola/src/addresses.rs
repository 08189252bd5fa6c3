//! The addresses of a foundation's services: where each one listens on this machine, and where other roles reach it.
//!
//! The section of a role in the configuration names both. Without a section, a service listens on loopback at the port of the plan.
//! A machine that joined knows the services of other machines from its bundle. The module is pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A socket of a role that other roles or operators connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Service {
    Nats,
    Bbs,
    Locket,
    Auctioneer,
    Rep,
    CloudController,
    CloudControllerInternal,
    Uaa,
    LogCache,
    LogIngress,
    RouterStatus,
    Dashboard,
    SshProxy,
    /// The broker of PostgreSQL databases.
    PostgresBroker,
    /// The server that this broker runs.
    Postgres,
}

impl Service {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Nats,
        Self::Bbs,
        Self::Locket,
        Self::Auctioneer,
        Self::Rep,
        Self::CloudController,
        Self::CloudControllerInternal,
        Self::Uaa,
        Self::LogCache,
        Self::LogIngress,
        Self::RouterStatus,
        Self::Dashboard,
        Self::SshProxy,
        Self::PostgresBroker,
        Self::Postgres,
    ];

    /// Returns the section of the configuration that has the service's `listen` and `advertise`.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Bbs => "bbs",
            Self::Locket => "bbs.locket",
            Self::Auctioneer => "auctioneer",
            Self::Rep => "cell",
            Self::CloudController => "cloud_controller",
            Self::CloudControllerInternal => "cloud_controller.internal",
            Self::Uaa => "uaa",
            Self::LogCache => "log_cache",
            Self::LogIngress => "log_cache.ingress",
            Self::RouterStatus => "router.status",
            Self::Dashboard => "dashboard",
            Self::SshProxy => "ssh_proxy",
            Self::PostgresBroker => "postgres",
            Self::Postgres => "postgres.server",
        }
    }

    /// Returns the name of the component in its certificate.
    pub(crate) fn component(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Bbs | Self::Locket => "bbs",
            Self::Auctioneer => "auctioneer",
            Self::Rep => "cell",
            Self::CloudController | Self::CloudControllerInternal => "cloud-controller-ng",
            Self::Uaa => "uaa",
            Self::LogCache | Self::LogIngress => "log-cache",
            Self::RouterStatus => "gorouter",
            Self::Dashboard => "dashboard",
            Self::SshProxy => "ssh-proxy",
            Self::PostgresBroker => "postgres-broker",
            Self::Postgres => "postgres",
        }
    }
}

/// A service's addresses as the configuration names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    pub(crate) listen: Option<SocketAddr>,
    /// A host, which is a name or an IP address, and a port.
    pub(crate) advertise: Option<String>,
}

/// Where a service listens on this machine, and where others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) listen: SocketAddr,
    pub(crate) advertise: String,
}

pub(crate) type Addresses = BTreeMap<Service, Address>;

/// Returns the address of a service. `joined` is where the service of the foundation that this machine joined is reached.
pub(crate) fn resolve(
    configured: Option<&Configured>,
    joined: Option<&String>,
    loopback: SocketAddr,
) -> Address {
    let configured = configured.cloned().unwrap_or_default();
    let own = configured.listen.map(|listen| listen.to_string());
    Address {
        listen: configured.listen.unwrap_or(loopback),
        advertise: configured
            .advertise
            .or(own)
            .or_else(|| joined.cloned())
            .unwrap_or_else(|| loopback.to_string()),
    }
}

/// Returns the host of `host:port`.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Returns whether only this machine reaches the address.
pub(crate) fn is_loopback(address: &str) -> bool {
    let host = host(address);
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Returns whether the text is a host, which is a name or an IP address, and a port other than 0.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let Some((name, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_ip = text.parse::<SocketAddr>().is_ok();
    port.parse::<u16>().is_ok_and(|port| port > 0) && (is_ip || is_host_name(name))
}

/// Returns whether the text is a DNS name.
pub(crate) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253
        && name.split('.').all(is_label)
        // A last label of digits would be an IP address that is written wrong.
        && name.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_precedes_the_bundle_and_the_bundle_loopback() {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 8889));
        let joined = "10.0.0.2:8889".to_owned();
        let at = |listen: Option<&str>, advertise: Option<&str>, joined| {
            let configured = Configured {
                listen: listen.map(|text| text.parse().unwrap()),
                advertise: advertise.map(str::to_owned),
            };
            let address = resolve(Some(&configured), joined, loopback);
            format!("{} {}", address.listen, address.advertise)
        };
        assert_eq!(at(None, None, None), "127.0.0.1:8889 127.0.0.1:8889");
        assert_eq!(
            at(None, None, Some(&joined)),
            "127.0.0.1:8889 10.0.0.2:8889"
        );
        assert_eq!(
            at(Some("10.0.0.9:1"), None, Some(&joined)),
            "10.0.0.9:1 10.0.0.9:1"
        );
        assert_eq!(
            at(Some("0.0.0.0:1"), Some("bbs.example:2"), None),
            "0.0.0.0:1 bbs.example:2"
        );
        assert_eq!(
            at(None, Some("bbs.example:2"), Some(&joined)),
            "127.0.0.1:8889 bbs.example:2"
        );
        let address = resolve(None, Some(&joined), loopback);
        assert_eq!(address.advertise, joined);
    }

    #[test]
    fn hosts_and_ports_are_recognised() {
        for good in [
            "10.0.0.2:80",
            "bbs:8889",
            "bbs.example.com:1",
            "[fd00::1]:9",
        ] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in [
            "10.0.0.2",
            "bbs:",
            "bbs:0",
            "10.0.0:80",
            "a b:80",
            "-a:80",
            ":80",
            "http://a:80",
            "fd00::1:9",
        ] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
        assert_eq!(host("[fd00::1]:9"), "fd00::1");
        assert_eq!(host("bbs.example:9"), "bbs.example");
        assert!(is_loopback("127.0.0.1:9") && is_loopback("[::1]:9") && is_loopback("localhost:9"));
        assert!(!is_loopback("10.0.0.2:9"));
    }
}
