//! The envelopes of dropsonde (package `events`, "v1"), which a gorouter sends to the metron agent of its machine, one envelope
//! in one UDP datagram (default port 3457).

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use std::collections::BTreeMap;

/// The largest datagram that UDP carries over IPv4, in bytes.
pub const LARGEST: usize = 65_507;
/// The number of the field [`Envelope::tags`].
const TAGS: u32 = 17;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The component that sends the envelope: `gorouter`.
    #[prost(string, required, tag = "1")]
    pub origin: String,
    #[prost(enumeration = "EventType", required, tag = "2")]
    pub event_type: i32,
    /// The time in Unix nanoseconds.
    #[prost(int64, optional, tag = "6")]
    pub timestamp: Option<i64>,
    #[prost(string, optional, tag = "13")]
    pub deployment: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub job: Option<String>,
    #[prost(string, optional, tag = "15")]
    pub index: Option<String>,
    #[prost(string, optional, tag = "16")]
    pub ip: Option<String>,
    #[prost(btree_map = "string, string", tag = "17")]
    pub tags: BTreeMap<String, String>,
    /// The event. On the wire it is six optional fields, of which `event_type` names the one that is present.
    #[prost(oneof = "Event", tags = "7, 8, 9, 10, 11, 12")]
    pub event: Option<Event>,
}

impl Envelope {
    /// Makes an envelope. `timestamp` is in Unix nanoseconds.
    pub fn new(origin: &str, timestamp: i64, event: Event) -> Self {
        Self {
            origin: origin.to_owned(),
            event_type: event.kind() as i32,
            timestamp: Some(timestamp),
            event: Some(event),
            ..Self::default()
        }
    }
}

/// Appends a tag to an encoded envelope. The result is the envelope that also has this tag in [`Envelope::tags`], but no map with
/// copies of all names and values is made for it.
pub fn append_tag(encoded: &mut Vec<u8>, name: &str, value: &str) {
    let texts = [(1, name), (2, value)];
    let length = texts.map(|(_, text)| 1 + encoded_len_varint(text.len() as u64) + text.len());
    encode_key(TAGS, WireType::LengthDelimited, encoded);
    encode_varint(length.iter().sum::<usize>() as u64, encoded);
    for (field, text) in texts {
        encode_key(field, WireType::LengthDelimited, encoded);
        encode_varint(text.len() as u64, encoded);
        encoded.extend_from_slice(text.as_bytes());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    HttpStartStop = 4,
    LogMessage = 5,
    ValueMetric = 6,
    CounterEvent = 7,
    Error = 8,
    ContainerMetric = 9,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Event {
    #[prost(message, tag = "7")]
    HttpStartStop(HttpStartStop),
    #[prost(message, tag = "8")]
    LogMessage(LogMessage),
    #[prost(message, tag = "9")]
    ValueMetric(ValueMetric),
    #[prost(message, tag = "10")]
    CounterEvent(CounterEvent),
    #[prost(message, tag = "11")]
    Error(Error),
    #[prost(message, tag = "12")]
    ContainerMetric(ContainerMetric),
}

impl Event {
    pub fn kind(&self) -> EventType {
        match self {
            Self::HttpStartStop(_) => EventType::HttpStartStop,
            Self::LogMessage(_) => EventType::LogMessage,
            Self::ValueMetric(_) => EventType::ValueMetric,
            Self::CounterEvent(_) => EventType::CounterEvent,
            Self::Error(_) => EventType::Error,
            Self::ContainerMetric(_) => EventType::ContainerMetric,
        }
    }
}

/// A request from its beginning to its end, reported by the peer that sent it or by the one that received it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpStartStop {
    /// The time of the beginning in Unix nanoseconds.
    #[prost(int64, required, tag = "1")]
    pub start_timestamp: i64,
    #[prost(int64, required, tag = "2")]
    pub stop_timestamp: i64,
    #[prost(message, required, tag = "3")]
    pub request_id: Uuid,
    #[prost(enumeration = "PeerType", required, tag = "4")]
    pub peer_type: i32,
    /// The number of the method, as [`method`] returns it.
    #[prost(int32, required, tag = "5")]
    pub method: i32,
    #[prost(string, required, tag = "6")]
    pub uri: String,
    #[prost(string, required, tag = "7")]
    pub remote_address: String,
    #[prost(string, required, tag = "8")]
    pub user_agent: String,
    /// The status of the response; 0 means that there was none.
    #[prost(int32, required, tag = "9")]
    pub status_code: i32,
    /// The length of the response in bytes; -1 means that it is not yet known.
    #[prost(int64, required, tag = "10")]
    pub content_length: i64,
    #[prost(message, optional, tag = "12")]
    pub application_id: Option<Uuid>,
    #[prost(int32, optional, tag = "13")]
    pub instance_index: Option<i32>,
    #[prost(string, optional, tag = "14")]
    pub instance_id: Option<String>,
    /// The addresses in `X-Forwarded-For`.
    #[prost(string, repeated, tag = "15")]
    pub forwarded: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum PeerType {
    /// The reporting peer sent the request.
    Client = 1,
    /// The reporting peer received the request.
    Server = 2,
}

/// The methods that have a number. The number is the position in this list, beginning with 1.
const METHODS: [&str; 44] = [
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "ACL",
    "BASELINE_CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DEBUG",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SHOWMETHOD",
    "SPACEJUMP",
    "TEXTSEARCH",
    "TRACE",
    "TRACK",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION_CONTROL",
];

/// Returns the number of a method, or 0 if it has none, which is what an original sends then.
pub fn method(name: &str) -> i32 {
    let same = |known: &&str| {
        known.len() == name.len()
            && known
                .bytes()
                .zip(name.bytes())
                .all(|(a, b)| a == b || a == b'_' && b == b'-')
    };
    let at = METHODS.iter().position(same);
    at.and_then(|at| i32::try_from(at + 1).ok()).unwrap_or(0)
}

/// Returns the name of a method by its number, or an empty name if there is none.
pub fn method_name(number: i32) -> &'static str {
    let at = usize::try_from(number).ok().and_then(|n| n.checked_sub(1));
    at.and_then(|at| METHODS.get(at)).copied().unwrap_or("")
}

/// A UUID: its 16 bytes as two numbers, each little-endian.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Uuid {
    #[prost(uint64, required, tag = "1")]
    pub low: u64,
    #[prost(uint64, required, tag = "2")]
    pub high: u64,
}

impl Uuid {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        Self {
            low: number as u64,
            high: (number >> 64) as u64,
        }
    }

    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_le_bytes()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LogMessage {
    #[prost(bytes = "vec", required, tag = "1")]
    pub message: Vec<u8>,
    #[prost(enumeration = "MessageType", required, tag = "2")]
    pub message_type: i32,
    /// The time in Unix nanoseconds.
    #[prost(int64, required, tag = "3")]
    pub timestamp: i64,
    #[prost(string, optional, tag = "4")]
    pub app_id: Option<String>,
    /// The type of the source: `RTR`, `APP`, `STG`, …
    #[prost(string, optional, tag = "5")]
    pub source_type: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub source_instance: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MessageType {
    Out = 1,
    Err = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueMetric {
    #[prost(string, required, tag = "1")]
    pub name: String,
    #[prost(double, required, tag = "2")]
    pub value: f64,
    /// The unit: `ms`, `ns`, `seconds`, `file`, …
    #[prost(string, required, tag = "3")]
    pub unit: String,
}

/// The growth of a counter since its last report.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CounterEvent {
    #[prost(string, required, tag = "1")]
    pub name: String,
    #[prost(uint64, required, tag = "2")]
    pub delta: u64,
    #[prost(uint64, optional, tag = "3")]
    pub total: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Error {
    #[prost(string, required, tag = "1")]
    pub source: String,
    #[prost(int32, required, tag = "2")]
    pub code: i32,
    #[prost(string, required, tag = "3")]
    pub message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ContainerMetric {
    /// The guid of the app.
    #[prost(string, required, tag = "1")]
    pub application_id: String,
    #[prost(int32, required, tag = "2")]
    pub instance_index: i32,
    /// The percentage of one core.
    #[prost(double, required, tag = "3")]
    pub cpu_percentage: f64,
    #[prost(uint64, required, tag = "4")]
    pub memory_bytes: u64,
    #[prost(uint64, required, tag = "5")]
    pub disk_bytes: u64,
    #[prost(uint64, optional, tag = "6")]
    pub memory_bytes_quota: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    pub disk_bytes_quota: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    /// The expected bytes are written by hand from the field numbers.
    #[test]
    fn a_counter_on_the_wire() {
        let event = Event::CounterEvent(CounterEvent {
            name: "ab".into(),
            delta: 300,
            total: None,
        });
        let mut envelope = Envelope::new("r", 1, event);
        envelope.tags.insert("k".into(), "v".into());
        let bytes = [
            &b"\x0a\x01r"[..],     // 1: origin
            b"\x10\x07",           // 2: counter event
            b"\x30\x01",           // 6: timestamp
            b"\x8a\x01\x06",       // 17: tags
            b"\x0a\x01k\x12\x01v", //
            b"\x52\x07\x0a\x02ab", // 10: counter event, 1: name
            b"\x10\xac\x02",       // 2: delta
        ]
        .concat();
        let written = envelope.encode_to_vec();
        assert_eq!(written.len(), bytes.len());
        assert_eq!(Envelope::decode(&bytes[..]).unwrap(), envelope);
        assert_eq!(Envelope::decode(&written[..]).unwrap(), envelope);
    }

    #[test]
    fn an_appended_tag_equals_one_of_the_map() {
        let envelope = |tags: &[(&str, &str)]| {
            let mut envelope = Envelope::new("r", 1, Event::CounterEvent(CounterEvent::default()));
            let owned = tags.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            envelope.tags = owned.collect();
            envelope
        };
        let long = "x".repeat(300);
        let tags = [("app", "a"), ("space", ""), ("url", long.as_str())];
        let mut encoded = envelope(&[]).encode_to_vec();
        for (name, value) in tags {
            append_tag(&mut encoded, name, value);
        }
        assert_eq!(Envelope::decode(&encoded[..]).unwrap(), envelope(&tags));
    }

    #[test]
    fn a_uuid_is_two_little_endian_numbers() {
        let id = u128::from_str_radix("f47ac10b58cc4372a5670e02b2c3d479", 16).unwrap();
        let uuid = Uuid::from_bytes(id.to_be_bytes());
        assert_eq!(
            (uuid.low, uuid.high),
            (0x7243_cc58_0bc1_7af4, 0x79d4_c3b2_020e_67a5)
        );
        assert_eq!(uuid.to_bytes(), id.to_be_bytes());
    }

    #[test]
    fn methods_have_numbers() {
        for (name, number) in [
            ("GET", 1),
            ("HEAD", 5),
            ("ACL", 6),
            ("OPTIONS", 24),
            ("TRACE", 36),
            ("VERSION-CONTROL", 44),
            ("NONE", 0),
        ] {
            assert_eq!(method(name), number, "{name}");
        }
        assert_eq!((method_name(26), method_name(0)), ("PATCH", ""));
    }
}
