//! The state that a router keeps for route services: its keys, its TLS towards them, their endpoints, and what the operator
//! permits.

use super::keys::Keys;
use crate::backend::tls;
use crate::config::{RouteServices, Serving};
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
    pub(super) keys: Keys,
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
            ca_pem: format!("{authorities}\n{}", services.authorities),
        };
        let system_cas = settings.system_backend_cas || services.system_authorities;
        let terms = &services.tls_terms;
        let tls = tls::backend_config(&identity, system_cas, terms, &["http/1.1"])?;
        let tls = if services.skip_ssl_validation {
            tls::unverified(&tls)
        } else {
            tls
        };
        Ok(Some(Self {
            keys: Keys::new(services, OffsetDateTime::now_utc())?,
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
        let now = OffsetDateTime::now_utc();
        let opened = self.keys.open(note, metadata, now);
        let (url, at) = opened.ok_or(InvalidNote::Signature)?;
        if now - at > self.settings.timeout {
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
}
