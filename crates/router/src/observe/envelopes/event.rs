//! The two kinds of events of a request. The receiver's event (`Server`) covers the time from the request's arrival to the end of
//! the answer. The sender's event (`Client`), one for each attempt, covers the time from its sending to the answer's head. The
//! module is pure.

use crate::observe::record::{FinishedRequest, Origin};
use clients::metron::nanoseconds;
use http1::{Fields, Framing, Known, Response};
use route_table::registry::Endpoint;
use wire::dropsonde::{HttpStartStop, PeerType, Uuid, method};

/// An attempt at a backend.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) origin: Origin<'a>,
    /// The endpoint; `None`: a route service.
    pub(crate) endpoint: Option<&'a Endpoint>,
    /// The response; `None`: there was none.
    pub(crate) response: Option<&'a Response>,
}

/// Returns the event as gorouter `handlers/httpstartstop.go` makes it: without the app, which is in the tags.
pub(super) fn server(finished: &FinishedRequest<'_>) -> HttpStartStop {
    let FinishedRequest {
        record,
        request,
        host,
        ..
    } = *finished;
    let mut forwarded = forwarded(&request.fields);
    if finished.went_out() {
        // The last address is the client itself, which this router has added.
        forwarded.pop();
    }
    HttpStartStop {
        status_code: record.status.into(),
        content_length: i64::try_from(record.sent).unwrap_or(i64::MAX),
        forwarded,
        ..common(
            &finished.origin(),
            PeerType::Server,
            host,
            request.received_target(),
        )
    }
}

/// Returns the event as dropsonde's instrumented round tripper makes it.
pub(super) fn client(attempt: &Attempt<'_>) -> HttpStartStop {
    let request = attempt.origin.request;
    let host = request.fields.get(Known::Host).unwrap_or_default();
    let to_head = request.is("HEAD");
    let mut event = HttpStartStop {
        status_code: attempt
            .response
            .map_or(0, |response| response.status.into()),
        content_length: attempt.response.map_or(0, |r| content_length(r, to_head)),
        forwarded: forwarded(&request.fields),
        ..common(&attempt.origin, PeerType::Client, host, request.target())
    };
    if let Some(endpoint) = attempt.endpoint {
        event.application_id = uuid(endpoint.app_id());
        event.instance_index = endpoint.instance_index().parse().ok();
        event.instance_id = Some(endpoint.instance_id().to_owned());
    }
    event
}

fn common(origin: &Origin<'_>, peer: PeerType, host: &[u8], target: &[u8]) -> HttpStartStop {
    let fields = &origin.request.fields;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let scheme = if origin.tls { "https" } else { "http" };
    let id = fields.get_text(Known::XVcapRequestId).and_then(uuid);
    HttpStartStop {
        start_timestamp: nanoseconds(origin.began),
        stop_timestamp: nanoseconds(origin.began + origin.took),
        request_id: id.unwrap_or_default(),
        peer_type: peer as i32,
        method: method(origin.request.method()),
        uri: format!("{scheme}://{}{}", text(host), text(&path(target))),
        remote_address: origin.client.to_owned(),
        user_agent: text(fields.get(Known::UserAgent).unwrap_or_default()),
        ..HttpStartStop::default()
    }
}

fn uuid(text: &str) -> Option<Uuid> {
    let id = uuid::Uuid::try_parse(text).ok()?;
    Some(Uuid::from_bytes(id.into_bytes()))
}

/// Returns every address in every `X-Forwarded-For`.
fn forwarded(fields: &Fields) -> Vec<String> {
    let lines = fields.get_all(Known::XForwardedFor);
    let addresses = lines.flat_map(|line| line.split(|&byte| byte == b','));
    addresses
        .map(|address| String::from_utf8_lossy(address.trim_ascii()).into_owned())
        .collect()
}

/// Returns the length of the body; -1: only its end will show it.
fn content_length(response: &Response, to_head: bool) -> i64 {
    let stated = || {
        let length = response.fields.get_text(Known::ContentLength)?;
        length.parse().ok()
    };
    match response.framing {
        Framing::Length(length) => i64::try_from(length).unwrap_or(i64::MAX),
        Framing::None if to_head => stated().unwrap_or(-1),
        Framing::None => 0,
        Framing::Chunked | Framing::UntilClose => -1,
    }
}

/// Returns the path without the query and with percent-encoding decoded. For a whole URL it returns the path alone.
fn path(target: &[u8]) -> Vec<u8> {
    let path = target.split(|&byte| byte == b'?').next();
    let mut path = path.unwrap_or_default();
    if let Some(scheme) = path.windows(3).position(|part| part == b"://")
        && !path.starts_with(b"/")
    {
        let rest = &path[scheme + 3..];
        let host = rest.iter().take_while(|&&byte| byte != b'/').count();
        path = &rest[host..];
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let encoded = (byte == b'%').then(|| after.get(..2)).flatten();
        let encoded = encoded.and_then(|digits| std::str::from_utf8(digits).ok());
        let encoded = encoded.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match encoded.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_queries_left_out() {
        for (target, wanted) in [
            ("/a%2Fb%20c?d=%20", "/a/b c"),
            ("*", "*"),
            ("http://a.test/b?c", "/b"),
            ("/http://a.test/b", "/http://a.test/b"),
            ("/%", "/%"),
            ("/%zz%4", "/%zz%4"),
            ("/%+1", "/%+1"),
        ] {
            assert_eq!(path(target.as_bytes()), wanted.as_bytes(), "{target}");
        }
    }

    #[test]
    fn lengths_are_those_that_the_head_states() {
        let mut response = Response::default();
        for (framing, to_head, wanted) in [
            (Framing::Length(7), false, 7),
            (Framing::None, false, 0),
            (Framing::None, true, -1),
            (Framing::Chunked, false, -1),
            (Framing::UntilClose, false, -1),
        ] {
            response.framing = framing;
            assert_eq!(content_length(&response, to_head), wanted);
        }
        response.framing = Framing::None;
        response.fields.append(Known::ContentLength, b"12");
        assert_eq!(content_length(&response, true), 12);
    }
}
