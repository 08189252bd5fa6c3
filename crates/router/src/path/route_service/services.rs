//! The state that a router keeps for route services: its keys, its TLS towards them, their endpoints, and what the operator
//! permits.

use super::signature::Key;
use crate::backend::tls;
use crate::config::{AddressRange, RouteServices, Serving};
use anyhow::Result;
use http1::{Fields, Known};
use kit::tls::Identity;
use route_table::registry::{Endpoint, EndpointSpec, Pool, Registry, request_host};
use rustls::ClientConfig;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use time::OffsetDateTime;

/// The state that a router needs for route services.
#[derive(Debug)]
pub(crate) struct Services {
    pub(super) settings: RouteServices,
    pub(super) key: Key,
    decrypt_only: Option<Key>,
    pub(crate) tls: Arc<ClientConfig>,
    /// The endpoints of services, by authority, so that connections to them are kept.
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

/// The reason why a note is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InvalidNote {
    Signature,
    Expired,
}

impl Services {
    pub(crate) fn build(settings: &Serving, authorities: &str) -> Result<Option<Self>> {
        let Some(services) = &settings.route_services else {
            return Ok(None);
        };
        let identity = services.identity.as_ref();
        let identity = Identity {
            cert_pem: identity.map_or_else(String::new, |i| i.cert_pem.clone()),
            key_pem: identity.map_or_else(String::new, |i| i.key_pem.clone()),
            ca_pem: authorities.to_owned(),
        };
        let system_cas = settings.system_backend_cas;
        let terms = &services.tls_terms;
        let tls = tls::backend_config(&identity, system_cas, terms, &["http/1.1"])?;
        let tls = if services.skip_ssl_validation {
            tls::unverified(&tls)
        } else {
            tls
        };
        let decrypt_only = services.secret_decrypt_only.as_deref();
        Ok(Some(Self {
            key: Key::derive(&services.secret)?,
            decrypt_only: decrypt_only.map(Key::derive).transpose()?,
            settings: services.clone(),
            tls,
            endpoints: Mutex::default(),
        }))
    }

    /// Returns whether a service must not have this address.
    pub(crate) fn blocks(&self, ip: IpAddr) -> bool {
        self.settings
            .egress_blocklist
            .iter()
            .any(|range| range.contains(ip))
    }

    /// Returns the url that a note was sealed for, while the note is valid.
    pub(super) fn noted(&self, fields: &Fields) -> Result<String, InvalidNote> {
        let bytes = |name: Known| fields.get(name).unwrap_or_default();
        let note = bytes(Known::XCfProxySignature);
        let metadata = bytes(Known::XCfProxyMetadata);
        let (url, at) = self
            .key
            .open(note, metadata)
            .or_else(|| self.decrypt_only.as_ref()?.open(note, metadata))
            .ok_or(InvalidNote::Signature)?;
        if OffsetDateTime::now_utc() - at > self.settings.timeout {
            return Err(InvalidNote::Expired);
        }
        Ok(url)
    }

    /// Checks that the note was sealed for the route that the request is for.
    pub(super) fn check(
        &self,
        registry: &Registry,
        fields: &Fields,
        pool: &Pool,
    ) -> Result<(), InvalidNote> {
        let url = self.noted(fields)?;
        let place = url.split_once("://").map_or("", |(_, place)| place);
        let (host, path) = place.split_at(place.find(['/', '?']).unwrap_or(place.len()));
        let meant = registry.lookup(host, path);
        if meant.is_some_and(|meant| meant.uri() == pool.uri()) {
            Ok(())
        } else {
            Err(InvalidNote::Signature)
        }
    }

    /// Returns the endpoint of a service, which is the same for all requests to it.
    pub(super) fn endpoint(&self, registry: &Registry, authority: &str) -> Arc<Endpoint> {
        let mut endpoints = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = endpoints.get(authority) {
            return endpoint.clone();
        }
        let port = authority
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        let host = request_host(authority).to_owned();
        let spec = EndpointSpec {
            server_cert_domain_san: host.clone(),
            host,
            port: port.unwrap_or(443),
            tls: true,
            ..EndpointSpec::default()
        };
        let endpoint = registry.endpoint(spec);
        // Services change over time; a thousand names is more than any foundation uses at once.
        if endpoints.len() >= 1000 {
            endpoints.clear();
        }
        endpoints.insert(authority.to_owned(), endpoint.clone());
        endpoint
    }

    pub(super) fn may_hairpin(&self, host: &str) -> bool {
        let allowed = &self.settings.hairpinning_allowlist;
        self.settings.hairpinning
            && (allowed.is_empty() || allowed.iter().any(|name| matches(name, host)))
    }
}

/// Returns whether the pattern covers the host; `*.` stands for one label.
fn matches(allowed: &str, host: &str) -> bool {
    match allowed.strip_prefix("*.") {
        Some(domain) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
        None => allowed.eq_ignore_ascii_case(host),
    }
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

    fn contains(&self, ip: IpAddr) -> bool {
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
    fn one_label_for_a_star() {
        for (allowed, host, matched) in [
            ("rs.test", "RS.test", true),
            ("*.apps.test", "rs.apps.test", true),
            ("*.apps.test", "a.rs.apps.test", false),
            ("*.apps.test", "apps.test", false),
        ] {
            assert_eq!(matches(allowed, host), matched, "{allowed} {host}");
        }
    }

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
