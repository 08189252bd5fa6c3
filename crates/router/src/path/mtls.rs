//! Identity-aware routing (RFC-0055): whether a client may ask for a host on its connection, and which endpoints of a route it
//! may reach. This is decided before an endpoint is picked, so that no caller is denied by chance.

use crate::config::MtlsDomain;
use crate::listen::front_tls::{ClientTls, covers};
use crate::path::context::RequestContext;
use crate::path::rejection::Rejection;
use http1::Request;
use route_table::registry::{Caller, Endpoint, Pool, Within, request_host};
use std::sync::Arc;

/// Checks whether the request is permitted on this connection.
pub(crate) fn check(context: &RequestContext<'_>, request: &Request) -> Result<(), Rejection> {
    let domains = &context.worker.shared.settings.front_tls.domains;
    let host = request_host(request.fields.text(context.host));
    if is_misdirected(domains, host, context.peer.client.as_deref()) {
        return Err(Rejection::Misdirected);
    }
    Ok(())
}

/// Returns which of the route's endpoints the caller may reach. A caller is denied if the policy does not name it or if its
/// identity is unknown.
pub(crate) fn admit<'a>(
    context: &mut RequestContext<'a>,
    pool: &Pool,
) -> Result<Within<'a>, Rejection> {
    let Some(policy) = pool.policy() else {
        return Ok(Within::Anywhere);
    };
    let peer = context.peer;
    let caller = peer.client.as_ref();
    let caller = caller.and_then(|client| client.caller.as_ref());
    let caller = caller.map(|caller| Caller {
        app: &caller.app,
        space: &caller.space,
        org: &caller.organization,
    });
    let admitted = caller.filter(|caller| policy.lists(caller));
    let admitted = admitted.map(|caller| policy.within(&caller));
    let admitted = admitted.filter(|within| reaches_any(pool, within));
    let verdict = if admitted.is_some() {
        "allowed"
    } else {
        "denied"
    };
    context.record.route_policy(verdict);
    admitted.ok_or(Rejection::PolicyDenied)
}

/// Returns whether the caller may reach any endpoint. A caller that may reach none gets the answer "denied" instead of "no
/// endpoints".
fn reaches_any(pool: &Pool, within: &Within<'_>) -> bool {
    let lives = |tag: &str, guid: &str| {
        let here = |endpoint: &Arc<Endpoint>| endpoint.tag(tag) == guid;
        !guid.is_empty() && pool.endpoints().iter().any(here)
    };
    match within {
        Within::Anywhere => true,
        Within::Org(guid) => lives("organization_id", guid),
        Within::Space(guid) => lives("space_id", guid),
    }
}

/// Returns whether the host of the request lies in another domain than the name of the handshake. That name decided which
/// certificate was demanded; otherwise a client could ask for a guarded host on an unguarded connection.
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
