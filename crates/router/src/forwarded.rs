//! Headers that a proxy owes its backend: who asked, how, when; and those that end at a proxy.

use crate::config::{ForwardedClientCert, Settings};
use crate::context::RequestContext;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};
use http::request::Parts;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const PROXY_SIGNATURE: HeaderName = HeaderName::from_static("x-cf-proxy-signature");
/// End at each hop, whether `Connection` lists them or not. `Trailer` announces what we pass on, so it stays.
const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    HeaderName::from_static("transfer-encoding"),
];

/// `returned`: from a route service, which saw what the client said, and which this router trusts.
pub(crate) fn apply(
    context: &RequestContext,
    parts: &mut Parts,
    settings: &Settings,
    returned: bool,
) {
    let headers = &mut parts.headers;
    match settings.forwarded_client_cert {
        ForwardedClientCert::SanitizeSet if returned && context.peer.tls => {}
        ForwardedClientCert::Forward if returned => {
            headers.remove(CLIENT_CERT);
        }
        mode => client_cert(headers, context, mode),
    }
    drop_hop_by_hop(headers, &settings.hop_by_hop_headers_to_filter);
    if returned && headers.contains_key(PROTO) {
        // The client's own, as the first pass left it.
    } else if settings.force_forwarded_proto_https {
        headers.insert(PROTO, HeaderValue::from_static("https"));
    } else if settings.sanitize_forwarded_proto || !headers.contains_key(PROTO) {
        headers.insert(
            PROTO,
            HeaderValue::from_static(if context.peer.tls { "https" } else { "http" }),
        );
    }
    forwarded_for(headers, &context.peer.addr.ip().to_string());
    if !headers.contains_key(REQUEST_START) {
        let millis = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis());
        headers.insert(
            REQUEST_START,
            HeaderValue::from(u64::try_from(millis).unwrap_or(u64::MAX)),
        );
    }
}

/// Who may say what certificate the client has.
fn client_cert(headers: &mut HeaderMap, context: &RequestContext, mode: ForwardedClientCert) {
    let seen = &context.peer.certificate;
    match (mode, seen) {
        (ForwardedClientCert::AlwaysForward, _) | (ForwardedClientCert::Forward, Some(_)) => {}
        (ForwardedClientCert::SanitizeSet, Some(certificate)) => {
            headers.insert(CLIENT_CERT, certificate.clone());
        }
        _ => {
            headers.remove(CLIENT_CERT);
        }
    }
}

/// The other way: what a backend's response must not carry to the client.
pub(crate) fn apply_to_response(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers, &[]);
    headers.remove(PROXY_SIGNATURE);
}

/// Several lines become one, and the peer comes last.
fn forwarded_for(headers: &mut HeaderMap, peer: &str) {
    let mut chain = String::new();
    for line in headers.get_all(FOR) {
        if let Ok(line) = line.to_str() {
            let _ = write!(chain, "{line}, ");
        }
    }
    chain.push_str(peer);
    if let Ok(chain) = HeaderValue::from_str(&chain) {
        headers.insert(FOR, chain);
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap, kept: &[String]) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !kept.iter().any(|kept| kept == name.as_str()))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(UPGRADE);
    if headers
        .get(TE)
        .is_some_and(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        headers.remove(TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn a_client_cannot_make_us_drop_what_we_add() {
        let mut map = HeaderMap::new();
        for (name, value) in [
            ("connection", "x-mine, X-Forwarded-For"),
            ("connection", "close"),
            ("x-mine", "1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("keep-alive", "5"),
            ("accept", "*/*"),
        ] {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        drop_hop_by_hop(&mut map, &["x-forwarded-for".to_owned()]);
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-forwarded-for"]);
    }

    #[test]
    fn chains_grow_at_the_end() {
        let mut map = headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2")]);
        map.append(FOR, HeaderValue::from_static("3.3.3.3"));
        forwarded_for(&mut map, "4.4.4.4");
        assert_eq!(
            map.get_all(FOR).iter().collect::<Vec<_>>(),
            ["1.1.1.1, 2.2.2.2, 3.3.3.3, 4.4.4.4"]
        );
    }
}
