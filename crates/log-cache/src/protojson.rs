//! Envelopes as the read API's JSON: protobuf's mapping with the original field names. Clients refuse unknown fields, so no field
//! is added. 64-bit integers are strings, bytes are base64. The functions are pure.

use crate::store::{Kept, Meta};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use wire::loggregator::{LogType, Message};

pub(crate) fn read_response(source_id: &str, batch: &[Kept]) -> Value {
    json!({ "envelopes": { "batch": batch.iter().map(|kept| envelope(source_id, kept)).collect::<Vec<_>>() } })
}

fn envelope(source_id: &str, kept: &Kept) -> Value {
    let (field, message) = message(&kept.message);
    let mut envelope = Map::new();
    envelope.insert("timestamp".into(), json!(kept.timestamp.to_string()));
    envelope.insert("source_id".into(), json!(source_id));
    envelope.insert("instance_id".into(), json!(kept.instance_id));
    envelope.insert("deprecated_tags".into(), json!({}));
    envelope.insert("tags".into(), json!(*kept.tags));
    envelope.insert(field.into(), message);
    Value::Object(envelope)
}

fn message(message: &Message) -> (&'static str, Value) {
    match message {
        Message::Log(log) => {
            let kind = if log.kind == LogType::Err as i32 {
                "ERR"
            } else {
                "OUT"
            };
            (
                "log",
                json!({ "payload": STANDARD.encode(&log.payload), "type": kind }),
            )
        }
        Message::Counter(counter) => (
            "counter",
            json!({ "name": counter.name, "delta": counter.delta.to_string(), "total": counter.total.to_string() }),
        ),
        Message::Gauge(gauge) => {
            let metrics: BTreeMap<_, _> = gauge
                .metrics
                .iter()
                .map(|(name, value)| {
                    (
                        name,
                        json!({ "unit": value.unit, "value": double(value.value) }),
                    )
                })
                .collect();
            ("gauge", json!({ "metrics": metrics }))
        }
        Message::Timer(timer) => (
            "timer",
            json!({ "name": timer.name, "start": timer.start.to_string(), "stop": timer.stop.to_string() }),
        ),
        Message::Event(event) => ("event", json!({ "title": event.title, "body": event.body })),
    }
}

/// Converts a number. JSON has no notation for NaN and the infinities, so these three are strings.
fn double(value: f64) -> Value {
    match value {
        value if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    }
}

pub(crate) fn meta_response(meta: &BTreeMap<String, Meta>) -> Value {
    let one = |meta: &Meta| {
        json!({
            "count": meta.count.to_string(), "expired": meta.expired.to_string(),
            "oldestTimestamp": meta.oldest.to_string(), "newestTimestamp": meta.newest.to_string(),
        })
    };
    json!({ "meta": meta.iter().map(|(id, meta)| (id.clone(), one(meta))).collect::<Map<_, _>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wire::loggregator::{Gauge, GaugeValue, Log};

    #[test]
    fn a_log_line_has_exactly_these_fields() {
        let tags = Arc::new(BTreeMap::from([(
            "source_type".to_owned(),
            "STG".to_owned(),
        )]));
        let kept = |message| Kept {
            timestamp: 1_700_000_000_000_000_001,
            instance_id: "0".into(),
            tags_size: 0,
            tags: tags.clone(),
            message,
        };
        assert_eq!(
            read_response(
                "app",
                &[kept(Message::Log(Log {
                    payload: b"hi".to_vec(),
                    kind: 1
                }))]
            ),
            json!({"envelopes": {"batch": [{
                "timestamp": "1700000000000000001", "source_id": "app", "instance_id": "0", "deprecated_tags": {},
                "tags": {"source_type": "STG"}, "log": {"payload": "aGk=", "type": "ERR"},
            }]}})
        );
        let metrics = [(
            "cpu".to_owned(),
            GaugeValue {
                unit: "percentage".into(),
                value: f64::NAN,
            },
        )]
        .into();
        let gauge = read_response("app", &[kept(Message::Gauge(Gauge { metrics }))]);
        assert_eq!(
            gauge["envelopes"]["batch"][0]["gauge"],
            json!({"metrics": {"cpu": {"unit": "percentage", "value": "NaN"}}})
        );
        assert_eq!(
            read_response("app", &[]),
            json!({"envelopes": {"batch": []}})
        );
    }
}
