//! A backend's `101 Switching Protocols`: whether it is permitted, and what the connection becomes.

use crate::path::forwarded;
use crate::path::protocol::Upgrade;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http1::{Known, Request, Response, Version};

/// The GUID of RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Turns the backend's head into the client's. Returns whether both sides will speak WebSocket.
pub(crate) fn check(
    request: &Request,
    upgrade: Option<&Upgrade>,
    response: &mut Response,
) -> Result<bool, &'static str> {
    let Some(upgrade) = upgrade else {
        return Err("101 Switching Protocols without a request to switch");
    };
    let requested = request.fields.slice(upgrade.token);
    let token = match response.fields.get(Known::Upgrade) {
        Some(token) if token.eq_ignore_ascii_case(requested) => token.to_vec(),
        _ => return Err("101 Switching Protocols to a protocol that was not requested"),
    };
    // A client of HTTP/2 did not send a key, so it cannot check whether the answer fits.
    if request.version == Version::Http2 && !accepts(request, response) {
        return Err("Sec-WebSocket-Accept does not fit");
    }
    forwarded::apply_to_response(&mut response.fields);
    response.fields.set(Known::Connection, b"Upgrade");
    response.fields.set(Known::Upgrade, &token);
    Ok(token.eq_ignore_ascii_case(b"websocket"))
}

fn accepts(request: &Request, response: &Response) -> bool {
    let key = request.fields.get(Known::SecWebSocketKey);
    let sum = digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        &[key.unwrap_or_default(), GUID].concat(),
    );
    let wanted = BASE64_STANDARD.encode(sum);
    response.fields.get(Known::SecWebSocketAccept) == Some(wanted.as_bytes())
}
