//! The configuration of one route.

use crate::HealthCheck;
use crate::route::{AnyRoute, HttpRoute, Registration, TcpRoute};
use go_values::duration;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RouteSection {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    host: String,
    port: Option<u16>,
    tls_port: Option<u16>,
    sni_port: Option<u16>,
    protocol: String,
    uris: Vec<String>,
    tags: BTreeMap<String, String>,
    router_group: String,
    external_port: Option<u16>,
    registration_interval: String,
    route_service_url: String,
    server_cert_domain_san: String,
    sni_routable_san: String,
    prepend_instance_index: bool,
    health_check: Option<HealthCheckSection>,
    options: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct HealthCheckSection {
    name: String,
    script_path: PathBuf,
    timeout: String,
}

impl RouteSection {
    pub(super) fn is_tcp(&self) -> bool {
        self.kind == "tcp" || self.is_sni()
    }

    pub(super) fn is_sni(&self) -> bool {
        self.kind == "sni"
    }

    /// Checks the section. `host`, `zone` and `index` are the machine's. An error lists everything that is wrong, by key.
    pub(super) fn registration(
        &self,
        host: &str,
        zone: &str,
        index: Option<u32>,
    ) -> Result<Registration, Vec<String>> {
        let mut wrong = Vec::new();
        let interval = duration::parse(&self.registration_interval).filter(|i| !i.is_zero());
        if interval.is_none() {
            wrong.push(format!(
                "registration_interval {:?} is not a duration above 0: write e.g. 20s",
                self.registration_interval
            ));
        }
        let interval = interval.unwrap_or_default();
        let host = if self.host.is_empty() {
            host
        } else {
            &self.host
        };
        let route = match self.kind.as_str() {
            "" | "http" => AnyRoute::Http(self.http(host, zone, index, &mut wrong)),
            "tcp" | "sni" => AnyRoute::Tcp(self.tcp(host, &mut wrong)),
            other => {
                wrong.push(format!("type {other:?} is unknown: write http, tcp or sni"));
                return Err(wrong);
            }
        };
        let health_check = self.health_check(interval, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Registration {
            name: self.name.clone(),
            route,
            interval,
            health_check,
        })
    }

    fn http(
        &self,
        host: &str,
        zone: &str,
        index: Option<u32>,
        wrong: &mut Vec<String>,
    ) -> HttpRoute {
        let (port, tls_port) = (self.port.unwrap_or(0), self.tls_port.unwrap_or(0));
        if port == 0 && tls_port == 0 {
            wrong.push("port is missing, and tls_port as well: set one of them".into());
        }
        if tls_port != 0 && self.server_cert_domain_san.is_empty() {
            wrong.push("server_cert_domain_san is missing: tls_port needs it".into());
        }
        if self.uris.is_empty() || self.uris.iter().any(String::is_empty) {
            wrong.push(
                "uris has no entry or an empty one: set at least one, e.g. api.example.com".into(),
            );
        }
        let url = &self.route_service_url;
        if !url.is_empty() && !url.starts_with("https://") {
            wrong.push(format!(
                "route_service_url {url:?} does not begin with https://"
            ));
        }
        if !matches!(self.protocol.as_str(), "" | "http1" | "http2") {
            wrong.push(format!(
                "protocol {:?} is neither http1 nor http2",
                self.protocol
            ));
        }
        let uris = match index {
            Some(index) if self.prepend_instance_index => {
                let uris = self.uris.iter();
                uris.map(|uri| format!("{index}-{uri}")).collect()
            }
            _ => self.uris.clone(),
        };
        if self.prepend_instance_index && index.is_none() {
            wrong.push("prepend_instance_index is true, but the file has no index: set this machine's number as index beside host".into());
        }
        HttpRoute {
            uris,
            host: host.to_owned(),
            port,
            tls_port,
            server_cert_domain_san: self.server_cert_domain_san.clone(),
            tags: self.tags.clone(),
            protocol: self.protocol.clone(),
            route_service_url: url.clone(),
            availability_zone: zone.to_owned(),
            options: self.options.clone(),
        }
    }

    /// Returns the TCP route. A route of type `sni` is one of type `tcp` with a name, as in the original.
    fn tcp(&self, host: &str, wrong: &mut Vec<String>) -> TcpRoute {
        let (key, port, san) = if self.is_sni() {
            ("sni_port", self.sni_port, &self.sni_routable_san)
        } else {
            ("port", self.port, &self.server_cert_domain_san)
        };
        let mut required = |key: &str, port: Option<u16>, what: &str| {
            let port = port.unwrap_or(0);
            if port == 0 {
                wrong.push(format!(
                    "{key} is missing or 0: routes of type {} need it, {what}",
                    self.kind
                ));
            }
            port
        };
        let port = required(key, port, "the port of this machine");
        let external_port = required("external_port", self.external_port, "the TCP routers' port");
        if self.router_group.is_empty() {
            wrong.push(format!(
                "router_group is missing: routes of type {} need it, e.g. default-tcp",
                self.kind
            ));
        }
        TcpRoute {
            router_group: self.router_group.clone(),
            external_port,
            host: host.to_owned(),
            port,
            sni_hostname: san.clone(),
        }
    }

    fn health_check(&self, interval: Duration, wrong: &mut Vec<String>) -> Option<HealthCheck> {
        let check = self.health_check.as_ref();
        let check = check.filter(|check| !check.script_path.as_os_str().is_empty())?;
        let timeout = if check.timeout.is_empty() {
            Some(interval / 2)
        } else {
            duration::parse(&check.timeout).filter(|t| !t.is_zero() && *t < interval)
        };
        if timeout.is_none() {
            wrong.push(format!(
                "health_check.timeout {:?} is not a duration above 0 and below registration_interval",
                check.timeout
            ));
        }
        Some(HealthCheck {
            name: check.name.clone(),
            script: check.script_path.clone(),
            timeout: timeout.unwrap_or_default(),
        })
    }
}
