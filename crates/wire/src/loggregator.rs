//! The envelopes of loggregator v2 (package `loggregator.v2`), and the path of the ingress service.

use std::collections::BTreeMap;

/// The gRPC method that sends batches: client-streaming [`EnvelopeBatch`] → [`BatchSenderResponse`].
pub const BATCH_SENDER: &str = "/loggregator.v2.Ingress/BatchSender";

#[derive(Clone, PartialEq, prost::Message)]
pub struct EnvelopeBatch {
    #[prost(message, repeated, tag = "1")]
    pub batch: Vec<Envelope>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchSenderResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// The time in Unix nanoseconds.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
    /// The source; for an app its guid.
    #[prost(string, tag = "2")]
    pub source_id: String,
    /// The instance; for an app its index.
    #[prost(string, tag = "8")]
    pub instance_id: String,
    #[prost(btree_map = "string, string", tag = "9")]
    pub tags: BTreeMap<String, String>,
    #[prost(oneof = "Message", tags = "4, 5, 6, 7, 10")]
    pub message: Option<Message>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Message {
    #[prost(message, tag = "4")]
    Log(Log),
    #[prost(message, tag = "5")]
    Counter(Counter),
    #[prost(message, tag = "6")]
    Gauge(Gauge),
    #[prost(message, tag = "7")]
    Timer(Timer),
    #[prost(message, tag = "10")]
    Event(Event),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Log {
    #[prost(bytes = "vec", tag = "1")]
    pub payload: Vec<u8>,
    #[prost(enumeration = "LogType", tag = "2")]
    pub kind: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum LogType {
    Out = 0,
    Err = 1,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Counter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint64, tag = "2")]
    pub delta: u64,
    #[prost(uint64, tag = "3")]
    pub total: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Gauge {
    #[prost(btree_map = "string, message", tag = "1")]
    pub metrics: BTreeMap<String, GaugeValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GaugeValue {
    #[prost(string, tag = "1")]
    pub unit: String,
    #[prost(double, tag = "2")]
    pub value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Timer {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(int64, tag = "2")]
    pub start: i64,
    #[prost(int64, tag = "3")]
    pub stop: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    #[prost(string, tag = "1")]
    pub title: String,
    #[prost(string, tag = "2")]
    pub body: String,
}
