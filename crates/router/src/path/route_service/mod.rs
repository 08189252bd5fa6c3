//! Route services. A request for a route that is bound to a service goes there first, with a sealed note of its original url;
//! when it returns with the note, it goes to the app.
//!
//! ```text
//!  client ──▶ router ──signed──▶ route service ──▶ router ──stripped──▶ app
//!              leg: Out                              leg: Returned
//! ```
//!
//! A service that is itself an app of this foundation is reached through the router's own table (hairpinning), if the operator
//! permits its name.

mod signature;

use crate::backend::failure::Fault;
use crate::backend::tls;
use crate::config::{AddressRange, RouteServices, Serving};
use crate::path::answer::Answer;
use crate::path::context::RequestContext;
use crate::path::exchange::Exchange;
use crate::path::forward::report::Failed;
use crate::path::forward::{self, Outgoing};
use crate::path::lookup::Target;
use crate::path::rejection::Rejection;
use crate::worker::Shared;
use anyhow::Result;
use http::Uri;
use http::uri::PathAndQuery;
use http1::{Fields, Known, Request};
use kit::tls::Identity;
use routing::registry::{Endpoint, EndpointSpec, Pool, Within, request_host};
use rustls::ClientConfig;
use signature::Key;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use time::OffsetDateTime;

/// The state that a router needs for route services.
#[derive(Debug)]
pub(crate) struct Services {
    settings: RouteServices,
    key: Key,
    decrypt_only: Option<Key>,
    pub(crate) tls: Arc<ClientConfig>,
    /// The endpoints of services, by authority, so that connections to them are kept.
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

/// The part of its way that a request is on.
#[derive(Debug)]
pub(crate) enum Leg {
    /// The route has no service.
    Straight,
    /// The request goes to the service.
    Out(Out),
    /// The request returns from the service and goes to the app.
    Returned,
}

#[derive(Debug)]
pub(crate) struct Out {
    authority: String,
    path: PathAndQuery,
}

/// The reason why a note is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalid {
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
    fn noted(&self, fields: &Fields) -> Result<String, Invalid> {
        let bytes = |name: Known| fields.get(name).unwrap_or_default();
        let note = bytes(Known::XCfProxySignature);
        let metadata = bytes(Known::XCfProxyMetadata);
        let (url, at) = self
            .key
            .open(note, metadata)
            .or_else(|| self.decrypt_only.as_ref()?.open(note, metadata))
            .ok_or(Invalid::Signature)?;
        if OffsetDateTime::now_utc() - at > self.settings.timeout {
            return Err(Invalid::Expired);
        }
        Ok(url)
    }

    fn check(&self, shared: &Shared, fields: &Fields, pool: &Pool) -> Result<(), Invalid> {
        let url = self.noted(fields)?;
        let place = url.split_once("://").map_or("", |(_, place)| place);
        let (host, path) = place.split_at(place.find(['/', '?']).unwrap_or(place.len()));
        let meant = shared.registry.lookup(host, path);
        if meant.is_some_and(|meant| meant.uri() == pool.uri()) {
            Ok(())
        } else {
            Err(Invalid::Signature)
        }
    }

    /// Returns the endpoint of a service, which is the same for all requests to it.
    fn endpoint(&self, shared: &Shared, authority: &str) -> Arc<Endpoint> {
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
        let endpoint = shared.registry.endpoint(spec);
        // Services change over time; a thousand names is more than any foundation uses at once.
        if endpoints.len() >= 1000 {
            endpoints.clear();
        }
        endpoints.insert(authority.to_owned(), endpoint.clone());
        endpoint
    }

    fn may_hairpin(&self, host: &str) -> bool {
        let allowed = &self.settings.hairpinning_allowlist;
        self.settings.hairpinning
            && (allowed.is_empty() || allowed.iter().any(|name| matches(name, host)))
    }
}

/// A key and a note that it has sealed, for the fuzz test.
#[cfg(test)]
pub(crate) struct Soundness {
    key: Key,
    sealed: signature::Sealed,
}

#[cfg(test)]
impl Soundness {
    pub(crate) fn new() -> Self {
        let key = Key::derive("secret").unwrap();
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let sealed = key.seal("https://a.test/", now).unwrap();
        Self { key, sealed }
    }

    /// Checks signature and metadata, a line each: only what was sealed opens, whole and with its own nonce.
    pub(crate) fn check(&self, bytes: &[u8]) {
        let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
        let [signature, metadata] = [(); 2].map(|()| lines.next().unwrap_or_default());
        assert_eq!(self.key.open(signature, metadata), None);
        let own = (
            self.sealed.signature.as_bytes(),
            self.sealed.metadata.as_bytes(),
        );
        assert_eq!(self.key.open(signature, own.1), None);
        assert_eq!(self.key.open(own.0, metadata), None);
        assert!(self.key.open(own.0, own.1).is_some());
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

/// Returns whether a request is on its way to a route service by this router's own port: it carries a note that a router has
/// sealed for the url that it names.
pub(crate) fn is_on_its_way(shared: &Shared, fields: &Fields) -> bool {
    let Some(services) = &shared.route_services else {
        return false;
    };
    let Some(url) = fields.get(Known::XCfForwardedUrl) else {
        return false;
    };
    fields.contains(Known::XCfProxySignature)
        && services
            .noted(fields)
            .is_ok_and(|noted| noted.as_bytes() == url)
}

/// Decides which part of its way the request is on, and removes the note from a request that has returned.
pub(crate) fn leg(
    shared: &Shared,
    pool: &Pool,
    fields: &mut Fields,
    upgrade: bool,
) -> Result<Leg, Rejection> {
    let signed = fields.contains(Known::XCfProxySignature);
    let Some(url) = pool.route_service_url() else {
        return match &shared.route_services {
            Some(services) if services.settings.strict_signature_validation && signed => {
                match services.check(shared, fields, pool) {
                    Ok(()) => Ok(Leg::Straight),
                    Err(invalid) => Err(Rejection::StrictSignature {
                        expired: invalid == Invalid::Expired,
                    }),
                }
            }
            _ => Ok(Leg::Straight),
        };
    };
    let services = shared.route_services.as_ref();
    let services = services.ok_or(Rejection::RouteServiceUnsupported)?;
    if upgrade && !services.settings.websockets {
        return Err(Rejection::RouteServiceWithoutUpgrade);
    }
    if signed {
        services.check(shared, fields, pool).map_err(|invalid| {
            Rejection::RouteServiceSignature {
                expired: invalid == Invalid::Expired,
            }
        })?;
        for name in [
            Known::XCfProxySignature,
            Known::XCfProxyMetadata,
            Known::XCfForwardedUrl,
        ] {
            fields.remove(name);
        }
        return Ok(Leg::Returned);
    }
    let uri: Uri = url.parse().map_err(|_| Rejection::RouteServiceBroken)?;
    let authority = uri.authority().ok_or(Rejection::RouteServiceBroken)?;
    Ok(Leg::Out(Out {
        authority: authority.as_str().to_owned(),
        path: uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/")),
    }))
}

/// Turns a request for an app into one for its service.
pub(crate) fn sign(
    shared: &Shared,
    context: &RequestContext<'_>,
    out: &Out,
    request: &mut Request,
) -> Result<(), Rejection> {
    let services = shared.route_services.as_ref();
    let services = services.ok_or(Rejection::RouteServiceUnsupported)?;
    let scheme = if services.settings.recommend_https {
        "https"
    } else {
        "http"
    };
    let host = request_host(request.fields.text(context.host));
    let path = String::from_utf8_lossy(request.target());
    let url = format!("{scheme}://{host}{path}");
    let sealed = services.key.seal(&url, OffsetDateTime::now_utc());
    let sealed = sealed.ok_or(Rejection::RouteServiceBroken)?;
    for (name, value) in [
        (Known::XCfForwardedUrl, &url),
        (Known::XCfProxySignature, &sealed.signature),
        (Known::XCfProxyMetadata, &sealed.metadata),
        (Known::Host, &out.authority),
    ] {
        request.fields.set(name, value.as_bytes());
    }
    request.set_target(out.path.as_str().as_bytes());
    Ok(())
}

/// Sends a signed request to the service: through the router's own table, or to an external address.
pub(crate) async fn forward(
    context: &mut RequestContext<'_>,
    exchange: &mut Exchange,
    out: &Out,
    mut outgoing: Outgoing,
) -> Result<Answer, Rejection> {
    let shared = &context.worker.shared;
    let services = shared.route_services.as_ref();
    let services = services.ok_or(Rejection::RouteServiceUnsupported)?;
    let host = request_host(&out.authority);
    if services.may_hairpin(host)
        && let Some(pool) = shared.registry.lookup(host, out.path.path())
    {
        if pool.is_empty() {
            let host = host.to_owned();
            return Err(Rejection::NoEndpoints { host });
        }
        if pool.route_service_url().is_some() {
            // The request would need a note of its own, but it carries that of another route.
            return Err(Rejection::RouteServiceSignature { expired: false });
        }
        let target = Target::any(pool);
        let within = Within::Anywhere;
        let answer = forward::forward(context, exchange, &target, within, outgoing).await;
        let status = answer.as_ref().map_or(0, |_| exchange.response.status);
        shared.metrics.route_services.add(status);
        return answer;
    }
    let endpoint = services.endpoint(shared, &out.authority);
    outgoing.for_route_service();
    let mut now = Instant::now();
    context.record.backend_begins(now);
    exchange.client.mark();
    let mut attempt = 1;
    loop {
        context.record.attempt_without_endpoint(now);
        let tried = forward::attempt(exchange, &endpoint, &mut outgoing, now).await;
        context.record.attempt_ended(outgoing.made, tried.is_err());
        forward::report::attempt(context, exchange, None, tried.is_ok(), now);
        match tried {
            Ok(delivery) => {
                let route = &out.authority;
                shared.metrics.route_services.add(exchange.response.status);
                return forward::accept(context, route, &endpoint, exchange, &outgoing, delivery);
            }
            Err(fault) => {
                let failed = Failed {
                    endpoint: &endpoint,
                    fault: &fault,
                    attempt,
                    made: &outgoing.made,
                    retriable: outgoing.may_repeat(&fault, &exchange.client),
                };
                failed.report_service(context, exchange, &out.authority);
                let blocked = matches!(fault, Fault::Blocked { .. });
                if blocked
                    || attempt >= services.settings.max_attempts
                    || !outgoing.may_repeat(&fault, &exchange.client)
                {
                    shared.metrics.route_services.add(0);
                    return Err(Rejection::Backend(fault));
                }
                attempt += 1;
                now = Instant::now();
            }
        }
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
