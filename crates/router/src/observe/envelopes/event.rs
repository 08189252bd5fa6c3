//! The two kinds of events of a request. The receiver's event (`Server`) covers the time from the request's arrival to the end of
//! the answer. The sender's event (`Client`), one for each attempt, covers the time from its sending to the answer's head. The
//! module is pure.

use crate::observe::record::{FinishedRequest, Origin};
use clients::metron::nanoseconds;
use http1::{Fields, Framing, Known, Response};
use route_table::registry::Endpoint;
use std::borrow::Cow;
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

/// Fills the event as gorouter `handlers/httpstartstop.go` makes it: without the app, which is in the tags.
pub(super) fn server(event: &mut HttpStartStop, finished: &FinishedRequest<'_>) {
    let FinishedRequest {
        record,
        request,
        host,
        ..
    } = *finished;
    let origin = finished.origin();
    common(
        event,
        &origin,
        PeerType::Server,
        host,
        request.received_target(),
    );
    event.status_code = record.status.into();
    event.content_length = i64::try_from(record.sent).unwrap_or(i64::MAX);
    if finished.went_out() {
        // The last address is the client itself, which this router has added.
        event.forwarded.pop();
    }
}

/// Fills the event as dropsonde's instrumented round tripper makes it.
pub(super) fn client(event: &mut HttpStartStop, attempt: &Attempt<'_>) {
    let request = attempt.origin.request;
    let host = request.fields.get(Known::Host).unwrap_or_default();
    let to_head = request.is("HEAD");
    common(
        event,
        &attempt.origin,
        PeerType::Client,
        host,
        request.target(),
    );
    event.status_code = attempt
        .response
        .map_or(0, |response| response.status.into());
    event.content_length = attempt.response.map_or(0, |r| content_length(r, to_head));
    let endpoint = attempt.endpoint;
    event.application_id = endpoint.and_then(|endpoint| uuid(endpoint.app_id()));
    event.instance_index = endpoint.and_then(|endpoint| endpoint.instance_index().parse().ok());
    match endpoint {
        None => event.instance_id = None,
        Some(endpoint) => {
            let instance_id = event.instance_id.get_or_insert_default();
            endpoint.instance_id().clone_into(instance_id);
        }
    }
}

fn common(
    event: &mut HttpStartStop,
    origin: &Origin<'_>,
    peer: PeerType,
    host: &[u8],
    target: &[u8],
) {
    let fields = &origin.request.fields;
    let id = fields.get_text(Known::XVcapRequestId).and_then(uuid);
    event.start_timestamp = nanoseconds(origin.began);
    event.stop_timestamp = nanoseconds(origin.began + origin.took);
    event.request_id = id.unwrap_or_default();
    event.peer_type = peer as i32;
    event.method = method(origin.request.method());
    event.uri.clear();
    event
        .uri
        .push_str(if origin.tls { "https" } else { "http" });
    event.uri.push_str("://");
    push(&mut event.uri, host);
    push(&mut event.uri, &path(target));
    origin.client.clone_into(&mut event.remote_address);
    event.user_agent.clear();
    let user_agent = fields.get(Known::UserAgent).unwrap_or_default();
    push(&mut event.user_agent, user_agent);
    forwarded(&mut event.forwarded, fields);
}

/// Appends bytes to a text. Those that are no text become U+FFFD.
fn push(text: &mut String, bytes: &[u8]) {
    text.push_str(&String::from_utf8_lossy(bytes));
}

fn uuid(text: &str) -> Option<Uuid> {
    let id = uuid::Uuid::try_parse(text).ok()?;
    Some(Uuid::from_bytes(id.into_bytes()))
}

/// Replaces a list by every address in every `X-Forwarded-For`.
fn forwarded(list: &mut Vec<String>, fields: &Fields) {
    let lines = fields.get_all(Known::XForwardedFor);
    let addresses = lines.flat_map(|line| line.split(|&byte| byte == b','));
    let mut count = 0;
    for address in addresses {
        if list.len() == count {
            list.push(String::new());
        }
        list[count].clear();
        push(&mut list[count], address.trim_ascii());
        count += 1;
    }
    list.truncate(count);
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
fn path(target: &[u8]) -> Cow<'_, [u8]> {
    let path = target.split(|&byte| byte == b'?').next();
    let mut path = path.unwrap_or_default();
    if let Some(scheme) = path.windows(3).position(|part| part == b"://")
        && !path.starts_with(b"/")
    {
        let rest = &path[scheme + 3..];
        let host = rest.iter().take_while(|&&byte| byte != b'/').count();
        path = &rest[host..];
    }
    if !path.contains(&b'%') {
        return path.into();
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
    decoded.into()
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
            assert_eq!(&*path(target.as_bytes()), wanted.as_bytes(), "{target}");
        }
    }

    #[test]
    fn an_event_that_is_filled_again_has_nothing_of_the_one_before() {
        let mut list = vec![String::from("old"), String::from("older")];
        let mut fields = Fields::default();
        forwarded(&mut list, &fields);
        assert_eq!(list, Vec::<String>::new());
        fields.append(Known::XForwardedFor, b"10.0.0.1, 10.0.0.2");
        fields.append(Known::XForwardedFor, b"10.0.0.3");
        list.push("old".into());
        forwarded(&mut list, &fields);
        assert_eq!(list, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
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
