//! Traces as OTLP carries them over HTTP (OpenTelemetry's protocol, its JSON encoding): as much of it as a sender of spans needs.
//!
//! Names are the protocol's. Ids are hexadecimal digits, and integers of 64 bits are texts, as the encoding prescribes.

use serde::{Deserialize, Serialize};

/// The path of a receiver for traces.
pub const TRACES_PATH: &str = "/v1/traces";

/// The body of a request: `ExportTraceServiceRequest`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traces {
    pub resource_spans: Vec<ResourceSpans>,
}

/// The spans of one sender.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSpans {
    pub resource: Resource,
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resource {
    pub attributes: Vec<Attribute>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScopeSpans {
    pub scope: Scope,
    pub spans: Vec<Span>,
}

/// The code that made the spans.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scope {
    pub name: String,
    pub version: String,
}

/// A part of a trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The id of the span that this one is a part of; empty: none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub parent_span_id: String,
    pub name: String,
    pub kind: Kind,
    /// The nanoseconds since 1970.
    pub start_time_unix_nano: String,
    pub end_time_unix_nano: String,
    pub attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// The part that the sender of a span plays in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "u8")]
pub enum Kind {
    Internal,
    Server,
    Client,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        }
    }
}

/// The outcome of a span that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub code: u8,
    pub message: String,
}

impl Status {
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            code: 2,
            message: message.into(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attribute {
    pub key: String,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "intValue")]
    Integer(String),
    #[serde(rename = "boolValue")]
    Flag(bool),
    #[serde(rename = "doubleValue")]
    Number(f64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(number.to_string())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl Attribute {
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self {
            key: key.to_owned(),
            value: value.into(),
        }
    }
}

/// The body of an answer with status 200: `ExportTraceServiceResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Accepted {
    pub partial_success: Option<PartialSuccess>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PartialSuccess {
    pub error_message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_have_the_protocol_s_json() {
        let span = Span {
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
            span_id: "00f067aa0ba902b7".into(),
            parent_span_id: String::new(),
            name: "GET".into(),
            kind: Kind::Server,
            start_time_unix_nano: "1600000000000000001".into(),
            end_time_unix_nano: "1600000000000000002".into(),
            attributes: vec![
                Attribute::new("a", "x"),
                Attribute::new("b", 7_u64),
                Attribute::new("c", true),
                Attribute::new("d", 0.5),
            ],
            status: Some(Status::error("gone")),
        };
        let traces = Traces {
            resource_spans: vec![ResourceSpans {
                resource: Resource {
                    attributes: vec![Attribute::new("service.name", "gorouter")],
                },
                scope_spans: vec![ScopeSpans {
                    scope: Scope {
                        name: "s".into(),
                        version: "1".into(),
                    },
                    spans: vec![span],
                }],
            }],
        };
        assert_eq!(
            serde_json::to_value(traces).unwrap(),
            json!({"resourceSpans": [{
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "gorouter"}}]},
                "scopeSpans": [{"scope": {"name": "s", "version": "1"}, "spans": [{
                    "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "00f067aa0ba902b7", "name": "GET", "kind": 2,
                    "startTimeUnixNano": "1600000000000000001", "endTimeUnixNano": "1600000000000000002",
                    "attributes": [
                        {"key": "a", "value": {"stringValue": "x"}}, {"key": "b", "value": {"intValue": "7"}},
                        {"key": "c", "value": {"boolValue": true}}, {"key": "d", "value": {"doubleValue": 0.5}},
                    ],
                    "status": {"code": 2, "message": "gone"},
                }]}],
            }]})
        );
    }
}
