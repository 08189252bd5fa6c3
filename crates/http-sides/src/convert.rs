//! Conversion between HTTP/2's heads and ours. Nothing that could have another meaning in HTTP/1 passes. [`::http2::Check`] has
//! marked names and values that HTTP does not permit, and the library has refused fields about connections; the rest is refused
//! here.

use crate::Side;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri};
use http1::{
    Fields, Framing, Known, Limits, Refusal, Request, Response, Version, request::is_host,
};

/// Converts a client's head to our form. `:authority` becomes `Host`; cookie crumbs become one cookie.
pub fn request_from_http2<B>(
    head: &http::Request<B>,
    ended: bool,
    limits: &Limits,
    request: &mut Request,
) -> Result<(), Refusal> {
    let extended = head.extensions().get::<h2::ext::Protocol>();
    if head.method() == Method::CONNECT && extended.is_none() {
        return Err(Refusal::Connect);
    }
    let method = match extended {
        Some(_) => "GET",
        None => head.method().as_str(),
    };
    let path = head.uri().path_and_query();
    let path = path.map_or("/", PathAndQuery::as_str).as_bytes();
    // If a client has written this field itself, its value is checked like any target.
    let target = head.headers().get(::http2::TARGET);
    let target = target.map_or(path, HeaderValue::as_bytes);
    request.begin(method, target, Version::Http2);
    request.keep_alive = true;
    let whole_server = target == b"*" && head.method() == Method::OPTIONS;
    if !is_target(target) && !whole_server {
        return Err(Refusal::Target);
    }
    host(head, request)?;
    for (name, value) in head.headers() {
        if *name == ::http2::MALFORMED {
            return Err(Refusal::FieldValue);
        }
        if *name != HOST && *name != COOKIE && *name != ::http2::TARGET {
            let fields = &mut request.fields;
            fields.append_spelled(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let crumbs: Vec<&[u8]> = head
        .headers()
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if !crumbs.is_empty() {
        let cookie = crumbs.join(&b"; "[..]);
        request.fields.append_spelled(b"cookie", &cookie);
    }
    if request.fields.len() > limits.fields {
        return Err(Refusal::TooManyFields);
    }
    request.framing = match content_length(head.headers())? {
        _ if ended => Framing::None,
        _ if extended.is_some() => Framing::None,
        Some(0) => Framing::None,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    if let Some(protocol) = extended {
        extended_connect(protocol.as_str(), request)?;
    }
    Ok(())
}

/// Returns whether the target is a path and query that HTTP/1 permits.
fn is_target(target: &[u8]) -> bool {
    let bytes = |byte: &u8| matches!(byte, b'!'..=b'~' | 0x80..) && *byte != b'#';
    target.starts_with(b"/") && target.iter().all(bytes) && std::str::from_utf8(target).is_ok()
}

fn host<B>(head: &http::Request<B>, request: &mut Request) -> Result<(), Refusal> {
    let mut hosts = head.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Refusal::DuplicateHost);
    }
    let authority = head.uri().authority().map(Authority::as_str);
    let host = host.map(HeaderValue::as_bytes);
    match (authority, host) {
        (Some(authority), Some(host)) if !host.eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Refusal::HostDisagrees);
        }
        _ => {}
    }
    let name = authority.map(str::as_bytes).or(host);
    let name = name.ok_or(Refusal::MissingHost)?;
    if !is_host(name) {
        return Err(Refusal::Host);
    }
    request.fields.append_spelled(b"host", name);
    Ok(())
}

/// Converts an extended CONNECT (RFC 8441) for a WebSocket into the upgrade request of HTTP/1.1.
fn extended_connect(protocol: &str, request: &mut Request) -> Result<(), Refusal> {
    use base64::Engine as _;
    let token = protocol.bytes();
    if protocol.is_empty()
        || !token
            .clone()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./+".contains(&b))
    {
        return Err(Refusal::FieldValue);
    }
    request.upgrade = true;
    request.fields.remove(Known::ContentLength);
    request.fields.set(Known::Connection, b"Upgrade");
    request.fields.set(Known::Upgrade, protocol.as_bytes());
    let key: [u8; 16] = rand::random();
    let key = base64::prelude::BASE64_STANDARD.encode(key);
    request.fields.set(Known::SecWebSocketKey, key.as_bytes());
    Ok(())
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::ContentLengthsDiffer);
    }
    let digits = value.as_bytes();
    if digits.is_empty() {
        return Err(Refusal::ContentLengthEmpty);
    }
    let number = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    match number {
        Some(length) if digits.iter().all(u8::is_ascii_digit) && length <= i64::MAX as u64 => {
            Ok(Some(length))
        }
        _ => Err(Refusal::ContentLength),
    }
}

/// Converts our head for a backend that speaks HTTP/2; `None`: HTTP/2 cannot express it.
pub fn request_to_http2(request: &Request, scheme: Scheme) -> Option<http::Request<()>> {
    let host = request.fields.get(Known::Host)?;
    let target = PathAndQuery::try_from(request.target())
        .or_else(|_| PathAndQuery::try_from(encoded(request.target())))
        .ok()?;
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(target)
        .build()
        .ok()?;
    let mut head = http::Request::new(());
    *head.method_mut() = Method::from_bytes(request.method().as_bytes()).ok()?;
    *head.uri_mut() = uri;
    *head.version_mut() = http::Version::HTTP_2;
    copy(&request.fields, head.headers_mut())?;
    head.headers_mut().remove(HOST);
    Some(head)
}

/// Returns the target with all bytes percent-encoded that a URI may not contain: the library sends no others.
fn encoded(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len() + 16);
    for byte in target {
        if matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{'..=b'}') {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Converts a backend's head to our form.
pub(crate) fn response_from_http2(head: &http::Response<()>, response: &mut Response) {
    let reason = head.status().canonical_reason().unwrap_or_default();
    response.begin(head.status().as_u16(), reason);
    for (name, value) in head.headers() {
        let fields = &mut response.fields;
        fields.append_spelled(name.as_str().as_bytes(), value.as_bytes());
    }
    response.keep_alive = true;
}

/// Returns the length of the body that a backend's head announces by HTTP/2.
pub(crate) fn length(response: &Response) -> Framing {
    let text = response.fields.get_text(Known::ContentLength);
    match text.and_then(|text| text.parse().ok()) {
        Some(length) if length > 0 => Framing::Length(length),
        _ => Framing::UntilClose,
    }
}

/// Converts our head for a client that speaks HTTP/2.
pub(crate) fn response_to_http2(response: &Response) -> Option<http::Response<()>> {
    let mut head = http::Response::new(());
    *head.status_mut() = StatusCode::from_u16(response.status).ok()?;
    copy(&response.fields, head.headers_mut())?;
    Some(head)
}

/// Copies all fields except those about a connection.
fn copy(fields: &Fields, headers: &mut HeaderMap) -> Option<()> {
    for (name, value) in fields.iter() {
        let name = HeaderName::from_bytes(name).ok()?;
        if !ends_here(Known::by_name(name.as_str().as_bytes())) {
            // The map has a maximum size.
            let value = HeaderValue::from_bytes(value).ok()?;
            headers.try_append(name, value).ok()?;
        }
    }
    Some(())
}

fn ends_here(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Ends `to`'s body with the end of `from`'s, including its trailers.
pub(crate) fn end_body(from: &mut Side, to: &mut Side) -> Result<(), Refusal> {
    match (from, to) {
        (Side::Http1(from), Side::Http1(to)) => to.end_body(from.take_trailers()?.as_ref()),
        (Side::Http1(from), Side::Http2(to)) => {
            let trailers = from.take_trailers()?.and_then(|fields| {
                let mut headers = HeaderMap::new();
                copy(&fields, &mut headers).map(|()| headers)
            });
            to.end_body(trailers);
        }
        (Side::Http2(from), Side::Http1(to)) => {
            let trailers = from.take_trailers().map(|headers| {
                let mut fields = Fields::default();
                for (name, value) in &headers {
                    if http1::chunked::may_trail(name.as_str().as_bytes()) {
                        fields.append_spelled(name.as_str().as_bytes(), value.as_bytes());
                    }
                }
                fields
            });
            to.end_body(trailers.as_ref());
        }
        (Side::Http2(from), Side::Http2(to)) => to.end_body(from.take_trailers()),
    }
    Ok(())
}
