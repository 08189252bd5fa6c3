//! Headers that a proxy owes its backend: who sent the request, how, and when; and those that end at a proxy.

use crate::config::{ForwardedClientCert, Serving};
use crate::path::context::RequestContext;
use http1::fields::items;
use http1::{Fields, Known};
use std::collections::HashSet;
use std::io::Write as _;
use std::time::UNIX_EPOCH;

/// The fields that end at each hop, whether `Connection` lists them or not. `Trailer` announces what we forward, so it stays.
const HOP_BY_HOP: [Known; 6] = [
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
    Known::TransferEncoding,
    Known::Upgrade,
];

/// The fields that a client cannot remove by `Connection`: where the body ends, whom it is for, and what the router has set.
const KEPT: [Known; 10] = [
    Known::ContentLength,
    Known::Host,
    Known::XForwardedClientCert,
    Known::XVcapRequestId,
    Known::XB3TraceId,
    Known::XB3SpanId,
    Known::XB3ParentSpanId,
    Known::B3,
    Known::Traceparent,
    Known::Tracestate,
];

/// The number of names up to which they are looked for one by one. A head has room for a hundred thousand.
const FEW: usize = 8;

/// The sender of a request, which decides whether its fields are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    FromClient,
    /// The request comes from a router, by this router's own port, and goes to a route service: its fields are about the client,
    /// not about that router.
    ToService,
    /// The request comes from a route service, which saw the client's fields, and which this router trusts.
    FromService,
}

pub(crate) fn apply(
    context: &RequestContext<'_>,
    fields: &mut Fields,
    settings: &Serving,
    came: Came,
) {
    fields.remove_lookalikes();
    let client = context.peer.client.as_deref();
    let mode = settings.forwarded_client_cert;
    match client.map_or(mode, |client| client.forwarded_client_cert(mode)) {
        _ if came == Came::ToService && client.is_some() => {}
        ForwardedClientCert::SanitizeSet if came == Came::FromService && client.is_some() => {}
        ForwardedClientCert::Forward if came == Came::FromService => {
            fields.remove(Known::XForwardedClientCert);
        }
        mode => client_cert(fields, context, mode),
    }
    drop_hop_by_hop(fields, &settings.hop_by_hop_headers_to_filter);
    if came != Came::FromClient && fields.contains(Known::XForwardedProto) {
        // The value is the client's own, as the first pass left it.
    } else if settings.force_forwarded_proto_https {
        fields.set(Known::XForwardedProto, b"https");
    } else if settings.sanitize_forwarded_proto || !has_value(fields, Known::XForwardedProto) {
        let scheme: &[u8] = if client.is_some() { b"https" } else { b"http" };
        fields.set(Known::XForwardedProto, scheme);
    }
    forwarded_for(fields, context.peer.ip.as_bytes());
    if !fields.contains(Known::XRequestStart) {
        let started = context.record.started_at().duration_since(UNIX_EPOCH);
        let mut millis = [0; 20];
        let mut room = &mut millis[..];
        let _ = write!(room, "{}", started.map_or(0, |d| d.as_millis()));
        let left = room.len();
        fields.append(Known::XRequestStart, &millis[..20 - left]);
    }
}

/// Returns whether the field is present and not empty.
fn has_value(fields: &Fields, name: Known) -> bool {
    fields.get(name).is_some_and(|value| !value.is_empty())
}

/// Keeps, sets or removes the field with the client's certificate, according to `mode`.
fn client_cert(fields: &mut Fields, context: &RequestContext<'_>, mode: ForwardedClientCert) {
    let client = context.peer.client.as_deref();
    let seen = client.and_then(|client| client.xfcc.as_ref());
    match (mode, seen) {
        (ForwardedClientCert::AlwaysForward, _) | (ForwardedClientCert::Forward, Some(_)) => {}
        (ForwardedClientCert::SanitizeSet, Some(certificate)) => {
            fields.set(Known::XForwardedClientCert, certificate.as_bytes());
        }
        _ => {
            fields.remove(Known::XForwardedClientCert);
        }
    }
}

/// Removes the fields of a backend's response that the client must not get.
pub(crate) fn apply_to_response(fields: &mut Fields) {
    drop_hop_by_hop(fields, &[]);
    fields.remove(Known::XCfProxySignature);
}

/// Joins several lines to one and appends the peer's address.
fn forwarded_for(fields: &mut Fields, peer: &[u8]) {
    if !fields.contains(Known::XForwardedFor) {
        return fields.append(Known::XForwardedFor, peer);
    }
    let mut chain = Vec::new();
    for line in fields.get_all(Known::XForwardedFor) {
        chain.extend_from_slice(line);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer);
    fields.set(Known::XForwardedFor, &chain);
}

/// Removes the fields that end at a hop. `TE` ends here too, but a client that accepts trailers from us gets those of the
/// backend.
fn drop_hop_by_hop(fields: &mut Fields, kept: &[String]) {
    let trailers =
        items(fields.get_all(Known::Te)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    if fields.contains(Known::Connection) {
        let listed: Vec<String> = items(fields.get_all(Known::Connection))
            .filter_map(|name| std::str::from_utf8(name).ok())
            .filter(|name| !name.eq_ignore_ascii_case("close"))
            .filter(|name| !kept.iter().any(|kept| kept.eq_ignore_ascii_case(name)))
            .filter(|name| !KEPT.contains(&Known::by_name(name.as_bytes())))
            .map(str::to_owned)
            .collect();
        if listed.len() <= FEW {
            for name in &listed {
                fields.remove(name.as_str());
            }
        } else {
            let listed: HashSet<_> = listed.iter().map(|name| name.to_lowercase()).collect();
            fields.retain(|name| {
                let name = std::str::from_utf8(name).unwrap_or_default();
                !listed.contains(&name.to_ascii_lowercase())
            });
        }
        fields.remove(Known::Connection);
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
    if trailers {
        fields.set(Known::Te, b"trailers");
    } else {
        fields.remove(Known::Te);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_make_us_drop_what_we_add() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("connection", "x-mine, X-Forwarded-For, Content-Length"),
            ("connection", "close"),
            ("x-mine", "1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("content-length", "3"),
            ("te", "gzip;q=0.5"),
            ("upgrade", "h2c"),
            ("keep-alive", "5"),
            ("accept", "*/*"),
        ] {
            fields.append_spelled(name.as_bytes(), value.as_bytes());
        }
        drop_hop_by_hop(&mut fields, &["x-forwarded-for".to_owned()]);
        let mut left: Vec<&[u8]> = fields.iter().map(|(name, _)| name).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [&b"accept"[..], b"content-length", b"x-forwarded-for"]
        );
    }

    #[test]
    fn many_names_are_removed_like_few() {
        for count in [1, FEW, FEW + 1, 5000] {
            let mut fields = Fields::default();
            for n in 0..count {
                fields.append(Known::Connection, format!("X-{n}, Host").as_bytes());
                fields.append_spelled(format!("x-{n}").as_bytes(), b"1");
            }
            fields.append(Known::Host, b"h");
            drop_hop_by_hop(&mut fields, &[]);
            let left: Vec<_> = fields.iter().collect();
            assert_eq!(left, [(&b"Host"[..], &b"h"[..])], "{count}");
        }
    }

    #[test]
    fn trailers_pass_whichever_header_lists_te() {
        for (te, connection, left) in [
            ("trailers", "TE", Some("trailers")),
            ("gzip, Trailers", "close, TE", Some("trailers")),
            ("gzip", "TE", None),
        ] {
            let mut fields = Fields::default();
            fields.append(Known::Te, te.as_bytes());
            fields.append(Known::Connection, connection.as_bytes());
            drop_hop_by_hop(&mut fields, &[]);
            assert_eq!(fields.get_text(Known::Te), left, "{te}");
        }
    }

    #[test]
    fn chains_grow_at_the_end() {
        let mut fields = Fields::default();
        for line in ["1.1.1.1, 2.2.2.2", "3.3.3.3"] {
            fields.append(Known::XForwardedFor, line.as_bytes());
        }
        forwarded_for(&mut fields, b"4.4.4.4");
        assert_eq!(
            fields.get_all(Known::XForwardedFor).collect::<Vec<_>>(),
            [b"1.1.1.1, 2.2.2.2, 3.3.3.3, 4.4.4.4"]
        );
    }
}
