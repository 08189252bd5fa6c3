//! Identity-aware routing (RFC-0055): whether a client may ask for a host on its connection. Whether it may reach a
//! route is decided where an endpoint is picked.

use crate::config::MtlsDomain;
use crate::context::RequestContext;
use crate::front_tls::{ClientTls, covers};
use crate::rejection::Rejection;
use http1::Request;
use routing::registry::request_host;

/// Whether the request may come on this connection.
pub(crate) fn check(context: &RequestContext<'_>, request: &Request) -> Result<(), Rejection> {
    let domains = &context.worker.shared.settings.front_tls.domains;
    let host = request_host(request.fields.text(context.host));
    if is_misdirected(domains, host, context.peer.client.as_deref()) {
        return Err(Rejection::Misdirected);
    }
    Ok(())
}

/// The name in the handshake decided which certificate was demanded, so the name in the request must be of the same
/// domain: otherwise a client could ask for a guarded host on an unguarded connection.
fn is_misdirected(domains: &[MtlsDomain], host: &str, client: Option<&ClientTls>) -> bool {
    if domains.is_empty() {
        return false;
    }
    let host = host.to_ascii_lowercase();
    let exact = domains.iter().find(|domain| domain.name == host);
    let wanted = exact.or_else(|| domains.iter().find(|domain| covers(&domain.name, &host)));
    let shaken = client.and_then(|client| client.domain.as_ref());
    wanted.map(|domain| domain.name.as_str()) != shaken.map(|domain| domain.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ForwardedClientCert, XfccFormat};
    use std::sync::Arc;

    fn domain(name: &str) -> MtlsDomain {
        MtlsDomain {
            name: name.into(),
            client_cas: String::new(),
            forwarded_client_cert: ForwardedClientCert::SanitizeSet,
            xfcc_format: XfccFormat::Raw,
        }
    }

    #[test]
    fn host_and_handshake_agree_both_ways() {
        let domains = [domain("*.apps.identity"), domain("one.test")];
        let shaken = |n: usize| ClientTls {
            domain: Some(Arc::new(domains[n].clone())),
            ..ClientTls::default()
        };
        let plain = ClientTls::default();
        for (host, client, misdirected) in [
            ("a.apps.identity", Some(&shaken(0)), false),
            ("A.Apps.Identity", Some(&shaken(0)), false),
            ("b.apps.identity", Some(&shaken(0)), false),
            ("a.apps.identity", Some(&plain), true),
            ("a.apps.identity", None, true),
            ("a.apps.identity", Some(&shaken(1)), true),
            ("other.test", Some(&shaken(0)), true),
            ("other.test", Some(&plain), false),
            ("other.test", None, false),
        ] {
            assert_eq!(
                is_misdirected(&domains, host, client),
                misdirected,
                "{host}"
            );
        }
        assert!(!is_misdirected(&[], "a", None));
    }
}
