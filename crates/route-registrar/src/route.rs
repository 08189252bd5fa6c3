//! Describes the routes that are kept registered, and which parts of one end when it changes. Pure.

use crate::HealthCheck;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;
use wire::router::RegistryMessage;

/// One HTTP backend with the uris that lead to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRoute {
    pub uris: Vec<String>,
    pub host: String,
    /// The port of plain HTTP; 0 if there is none.
    pub port: u16,
    /// The port of TLS, which has precedence over `port`; 0 if there is none.
    pub tls_port: u16,
    /// The name in the backend's certificate. It is required with `tls_port`.
    pub server_cert_domain_san: String,
    pub tags: BTreeMap<String, String>,
    /// The protocol: `http1` (also when empty) or `http2`.
    pub protocol: String,
    /// The URL of the route service; empty if there is none.
    pub route_service_url: String,
    pub availability_zone: String,
    /// The options of the route, in the form in which routers accept them.
    pub options: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One TCP backend with the port of a router group that leads to it, of type `tcp` or `sni`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpRoute {
    /// The router group's name.
    pub router_group: String,
    pub external_port: u16,
    pub host: String,
    pub port: u16,
    /// The name that clients of a shared port request in their TLS handshakes. If it is empty, only this backend uses the port.
    pub sni_hostname: String,
}

/// A route of either kind. The kind determines where it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyRoute {
    /// A route that is registered with every router, over NATS.
    Http(HttpRoute),
    /// A route that is registered with the Routing API.
    Tcp(TcpRoute),
}

/// A route, the interval at which it is registered, and its health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The name for the log.
    pub name: String,
    pub route: AnyRoute,
    pub interval: Duration,
    pub health_check: Option<HealthCheck>,
}

impl HttpRoute {
    pub(crate) fn message(&self, instance_id: &str) -> RegistryMessage {
        RegistryMessage {
            host: self.host.clone(),
            port: self.port,
            tls_port: (self.tls_port != 0).then_some(self.tls_port),
            uris: self.uris.clone(),
            private_instance_id: Some(instance_id.to_owned()),
            server_cert_domain_san: non_empty(&self.server_cert_domain_san),
            tags: (!self.tags.is_empty()).then(|| self.tags.clone()),
            protocol: non_empty(&self.protocol),
            route_service_url: non_empty(&self.route_service_url),
            availability_zone: non_empty(&self.availability_zone),
            options: self.options.clone(),
            ..RegistryMessage::default()
        }
    }

    fn address(&self) -> (&str, u16) {
        match self.tls_port {
            0 => (&self.host, self.port),
            port => (&self.host, port),
        }
    }
}

impl TcpRoute {
    pub(crate) fn message(
        &self,
        router_group_guid: &str,
        ttl: Duration,
    ) -> wire::routing_api::TcpRoute {
        wire::routing_api::TcpRoute {
            router_group_guid: router_group_guid.to_owned(),
            port: self.external_port,
            backend_ip: self.host.clone(),
            backend_port: self.port,
            backend_tls_port: -1,
            backend_sni_hostname: non_empty(&self.sni_hostname),
            ttl: ttl.as_secs(),
            ..wire::routing_api::TcpRoute::default()
        }
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the time to live of a TCP route. It allows one registration to be lost, as in the original. It is in whole seconds, at
/// least one and at most `max`.
pub(crate) fn ttl(interval: Duration, max: Duration) -> Duration {
    let seconds = interval.mul_f64(2.1).min(max).as_secs();
    Duration::from_secs(seconds.max(1))
}

/// Returns the part of a route that is no longer wanted, or `None` if all of it is. A changed route keeps the uris that it shares
/// with its new form, because they must never be unregistered.
pub(crate) fn unwanted_part(route: &AnyRoute, wanted: &[Registration]) -> Option<AnyRoute> {
    match route {
        AnyRoute::Tcp(_) => {
            let kept = wanted.iter().any(|other| other.route == *route);
            (!kept).then(|| route.clone())
        }
        AnyRoute::Http(route) => {
            let here = wanted.iter().filter_map(|other| match &other.route {
                AnyRoute::Http(other) => (other.address() == route.address()).then_some(other),
                AnyRoute::Tcp(_) => None,
            });
            let kept: Vec<&String> = here.flat_map(|other| &other.uris).collect();
            let uris = route.uris.iter().filter(|uri| !kept.contains(uri));
            let uris: Vec<String> = uris.cloned().collect();
            (!uris.is_empty()).then(|| {
                AnyRoute::Http(HttpRoute {
                    uris,
                    ..route.clone()
                })
            })
        }
    }
}

pub(crate) fn check(registration: &Registration) -> Result<()> {
    anyhow::ensure!(
        !registration.interval.is_zero(),
        "registration interval of route {:?} is 0: set at least 1 s",
        registration.name
    );
    match &registration.route {
        AnyRoute::Http(route) => check_http(route),
        AnyRoute::Tcp(route) => check_tcp(route),
    }
}

fn check_http(route: &HttpRoute) -> Result<()> {
    anyhow::ensure!(
        !route.uris.is_empty(),
        "route to {}: it has no uri; set at least one",
        route.host
    );
    anyhow::ensure!(
        route.port != 0 || route.tls_port != 0,
        "route {:?}: it has neither port nor tls_port; set one of them",
        route.uris
    );
    anyhow::ensure!(
        route.tls_port == 0 || !route.server_cert_domain_san.is_empty(),
        "route {:?}: tls_port needs server_cert_domain_san",
        route.uris
    );
    Ok(())
}

fn check_tcp(route: &TcpRoute) -> Result<()> {
    anyhow::ensure!(
        !route.router_group.is_empty() && route.external_port != 0 && route.port != 0,
        "TCP route to {}: a router group, an external port and a port are needed",
        route.host
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(route: AnyRoute) -> Registration {
        Registration {
            name: String::new(),
            route,
            interval: Duration::from_secs(1),
            health_check: None,
        }
    }

    #[test]
    fn a_changed_route_keeps_its_uris() {
        let route = |uris: &[&str], port| {
            AnyRoute::Http(HttpRoute {
                uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
                host: "h".into(),
                port,
                ..HttpRoute::default()
            })
        };
        let old = route(&["a", "b"], 1);
        let of = |new| unwanted_part(&old, &[wanted(new)]);
        assert_eq!(of(route(&["b", "c"], 1)), Some(route(&["a"], 1)));
        assert_eq!(of(route(&["a", "b"], 2)), Some(old.clone()));
        assert_eq!(of(route(&["b", "a"], 1)), None);
        assert_eq!(unwanted_part(&old, &[]), Some(old.clone()));
    }

    #[test]
    fn a_changed_tcp_route_is_unregistered_as_a_whole() {
        let route = |port| {
            AnyRoute::Tcp(TcpRoute {
                router_group: "default-tcp".into(),
                external_port: 1234,
                host: "h".into(),
                port,
                sni_hostname: String::new(),
            })
        };
        assert_eq!(unwanted_part(&route(1), &[wanted(route(1))]), None);
        assert_eq!(
            unwanted_part(&route(1), &[wanted(route(2))]),
            Some(route(1))
        );
    }

    #[test]
    fn a_ttl_outlives_one_lost_registration() {
        let max = Duration::from_secs(120);
        for (interval, seconds) in [
            (200, 1),
            (1_000, 2),
            (10_000, 21),
            (20_000, 42),
            (90_000, 120),
        ] {
            let interval = Duration::from_millis(interval);
            assert_eq!(ttl(interval, max).as_secs(), seconds, "{interval:?}");
        }
        assert_eq!(ttl(max, Duration::from_millis(300)).as_secs(), 1);
    }

    #[test]
    fn messages_carry_what_a_router_needs() {
        let route = HttpRoute {
            uris: vec!["api.test".into()],
            host: "127.0.0.1".into(),
            port: 8080,
            tags: [("component".to_owned(), "api".to_owned())].into(),
            ..HttpRoute::default()
        };
        let json = serde_json::to_value(route.message("me")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"host": "127.0.0.1", "port": 8080, "uris": ["api.test"], "private_instance_id": "me", "tags": {"component": "api"}})
        );
        let tls = HttpRoute {
            tls_port: 8443,
            server_cert_domain_san: "api".into(),
            ..route
        };
        let json = serde_json::to_value(tls.message("me")).unwrap();
        assert_eq!(
            (&json["tls_port"], &json["server_cert_domain_san"]),
            (&serde_json::json!(8443), &serde_json::json!("api"))
        );
    }
}
