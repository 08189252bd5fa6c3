//! The protocol of NATS, as far as a subscriber needs it (pure): it parses what a server sends, and formats what we send.
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The length above which a line is an error. `INFO` lists a cluster's servers; all other lines are short.
const LONGEST_LINE: usize = 1 << 20;
/// The largest payload. No server accepts more from its publishers.
const LONGEST_PAYLOAD: usize = 64 << 20;

/// A message of the server's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerMessage {
    Info(Info),
    Message(Message),
    Ping,
    Pong,
    /// `-ERR`, with the text without its quotes.
    Error(String),
    /// The acknowledgement `+OK`.
    Ok,
}

/// The part of `INFO` that this crate uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The addresses of the cluster's servers, as `address:port`.
    #[serde(deserialize_with = "null_as_none")]
    pub connect_urls: Vec<String>,
    pub tls_required: bool,
    pub tls_available: bool,
}

fn null_as_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A message as it came: one piece of the bytes that were read, without a copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The bytes from `MSG` up to the line end of the payload, which is not included.
    whole: Bytes,
    subject: Range<u32>,
    /// The subject of the answer; empty if no answer is expected.
    reply: Range<u32>,
    payload: u32,
}

impl Message {
    /// Returns the subject. It is empty, which no real subject is, if it is not UTF-8.
    pub fn subject(&self) -> &str {
        self.text(&self.subject).unwrap_or_default()
    }

    /// Returns the subject at which an answer is expected.
    pub fn reply(&self) -> Option<&str> {
        self.text(&self.reply).filter(|reply| !reply.is_empty())
    }

    pub fn payload(&self) -> &[u8] {
        &self.whole[self.payload as usize..]
    }

    /// Returns the number of bytes that the message holds.
    pub(super) fn size(&self) -> usize {
        self.whole.len()
    }

    fn text(&self, range: &Range<u32>) -> Option<&str> {
        std::str::from_utf8(&self.whole[range.start as usize..range.end as usize]).ok()
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.subject())
            .field("payload", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// Parses and removes the first complete message of the protocol among the received bytes. `Ok(None)` means that more bytes must
/// come; the buffer then has room for those that are known to be missing. An error contains the text that is not NATS.
pub fn parse(received: &mut BytesMut) -> Result<Option<ServerMessage>, String> {
    let searched = received.len().min(LONGEST_LINE);
    let Some(end) = memchr::memchr(b'\n', &received[..searched]) else {
        return if searched == LONGEST_LINE {
            Err(not_nats(received))
        } else {
            Ok(None)
        };
    };
    let line = received[..end]
        .strip_suffix(b"\r")
        .unwrap_or(&received[..end]);
    let name = line.split(|b| is_blank(*b)).next().unwrap_or_default();
    let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    let rest = line[name.len()..].trim_ascii();
    let message = if is("MSG") {
        return message(received, end + 1);
    } else if is("PING") {
        ServerMessage::Ping
    } else if is("PONG") {
        ServerMessage::Pong
    } else if is("+OK") {
        ServerMessage::Ok
    } else if is("-ERR") {
        let text = String::from_utf8_lossy(rest);
        ServerMessage::Error(text.trim_matches('\'').to_owned())
    } else if is("INFO") {
        ServerMessage::Info(
            serde_json::from_slice(rest).map_err(|e| format!("its INFO is not JSON: {e}"))?,
        )
    } else {
        return Err(not_nats(line));
    };
    received.advance(end + 1);
    Ok(Some(message))
}

/// Parses `MSG <subject> <sid> [reply] <bytes>` and, from `from` on, the payload and a line end.
fn message(received: &mut BytesMut, from: usize) -> Result<Option<ServerMessage>, String> {
    let bad = |received: &[u8]| Err(not_nats(&received[..from]));
    let mut fields = [0..0, 0..0, 0..0, 0..0, 0..0];
    let mut count = 0;
    let mut at = 0;
    let line = &received[..from];
    while at < line.len() {
        let begin = at;
        while at < line.len() && !is_blank(line[at]) {
            at += 1;
        }
        if begin < at {
            let Some(field) = fields.get_mut(count) else {
                return bad(received);
            };
            *field = begin..at;
            count += 1;
        }
        at += 1;
    }
    let (reply, length) = match count {
        4 => (0..0, fields[3].clone()),
        5 => (fields[3].clone(), fields[4].clone()),
        _ => return bad(received),
    };
    let length = std::str::from_utf8(&line[length])
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse::<usize>().ok())
        .filter(|length| *length <= LONGEST_PAYLOAD);
    let Some(length) = length else {
        return bad(received);
    };
    let end = from + length;
    if received.len() < end + 2 {
        received.reserve(end + 2 - received.len());
        return Ok(None);
    }
    if received[end..end + 2] != *b"\r\n" {
        return bad(received);
    }
    let whole = received.split_to(end).freeze();
    received.advance(2);
    // The line is at most `LONGEST_LINE` bytes long.
    let short = |range: &Range<usize>| range.start as u32..range.end as u32;
    Ok(Some(ServerMessage::Message(Message {
        subject: short(&fields[1]),
        reply: short(&reply),
        payload: from as u32,
        whole,
    })))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Returns the error for text that is not NATS. It shows the beginning of the text.
fn not_nats(message: &[u8]) -> String {
    let start = String::from_utf8_lossy(&message[..message.len().min(80)]);
    format!("the peer is not a NATS server: it sent {start:?}")
}

/// The fields of `CONNECT`, with which this process introduces itself.
#[derive(Serialize)]
pub(super) struct Connect<'a> {
    pub(super) verbose: bool,
    pub(super) pedantic: bool,
    pub(super) tls_required: bool,
    /// The name that appears in the server's list of connections.
    pub(super) name: &'a str,
    pub(super) lang: &'a str,
    pub(super) version: &'a str,
    /// The version of the protocol; 1 allows the server to send `INFO` at any time.
    pub(super) protocol: u8,
    /// Whether we support headers. With false, messages come without them.
    pub(super) headers: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) pass: &'a str,
}

impl Connect<'_> {
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = b"CONNECT ".to_vec();
        serde_json::to_writer(&mut line, self).expect("names and flags are JSON");
        line.extend_from_slice(b"\r\n");
        line
    }
}

pub(super) fn subscribe(subject: &str, number: usize) -> String {
    format!("SUB {subject} {number}\r\n")
}

/// Writes a message. Without a `reply` it expects no answer.
pub(super) fn publish(subject: &str, reply: Option<&str>, payload: &[u8]) -> Vec<u8> {
    let reply = reply.map_or_else(String::new, |reply| format!("{reply} "));
    let mut message = format!("PUB {subject} {reply}{}\r\n", payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message.extend_from_slice(b"\r\n");
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<ServerMessage>, String> {
        let mut received = BytesMut::from(bytes);
        let mut messages = Vec::new();
        while let Some(next) = parse(&mut received)? {
            messages.push(next);
        }
        Ok(messages)
    }

    fn parts(message: &ServerMessage) -> (&str, Option<&str>, &[u8]) {
        match message {
            ServerMessage::Message(message) => {
                (message.subject(), message.reply(), message.payload())
            }
            other => panic!("{other:?}"),
        }
    }

    const DIALOGUE: &[u8] = b"INFO {\"tls_required\":true,\"connect_urls\":[\"a:1\"],\"x\":1}\r\nPING\r\n+OK\r\nMSG router.register 1 5\r\nab\r\nc\r\npong\r\nMSG\trouter.greet  1 _INBOX.x 0\r\n\r\n-ERR 'Authorization Violation'\r\n";

    #[test]
    fn a_dialogue_in_pieces_of_any_size() {
        let whole = all(DIALOGUE).unwrap();
        assert_eq!(whole.len(), 7);
        let info = Info {
            connect_urls: vec!["a:1".into()],
            tls_required: true,
            tls_available: false,
        };
        assert_eq!(whole[0], ServerMessage::Info(info));
        assert_eq!(
            parts(&whole[3]),
            ("router.register", None, b"ab\r\nc".as_slice())
        );
        assert_eq!(
            parts(&whole[5]),
            ("router.greet", Some("_INBOX.x"), b"".as_slice())
        );
        assert_eq!(
            whole[6],
            ServerMessage::Error("Authorization Violation".into())
        );
        for size in 1..DIALOGUE.len() {
            let mut received = BytesMut::new();
            let mut messages = Vec::new();
            for piece in DIALOGUE.chunks(size) {
                received.extend_from_slice(piece);
                while let Some(next) = parse(&mut received).unwrap() {
                    messages.push(next);
                }
            }
            assert_eq!(messages, whole, "pieces of {size}");
        }
    }

    #[test]
    fn bytes_that_are_not_nats_are_reported() {
        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "MSG a 1\r\n",
            "MSG a 1 b c 1\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 +1\r\nx\r\n",
            "MSG a 1 99999999999\r\n",
            "MSG a 1 1\r\nabc\r\n",
            "\r\n",
            "INFO {\r\n",
        ] {
            assert!(all(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(all(&vec![b'x'; LONGEST_LINE]).is_err());
    }

    #[test]
    fn null_lists_no_server() {
        let message = all(b"INFO {\"connect_urls\":null}\r\n").unwrap();
        assert_eq!(message, [ServerMessage::Info(Info::default())]);
    }

    #[test]
    fn an_empty_user_is_left_out() {
        let connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: false,
            name: "router-0",
            lang: "rust",
            version: "1",
            protocol: 1,
            headers: false,
            user: "",
            pass: "",
        };
        let line = String::from_utf8(connect.line()).unwrap();
        assert!(!line.contains("user") && !line.contains("pass"), "{line}");
    }
}
