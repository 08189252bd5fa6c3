//! Reads the payload of `router.register` and `router.unregister` as Go reads JSON into a struct.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, de};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// The payload of `router.register` and `router.unregister`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RegistryMessage {
    pub host: String,
    pub port: u16,
    /// The port with TLS. If it is not zero, it replaces `port`, and the endpoint uses TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
    pub uris: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The guid of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_instance_index: Option<String>,
    /// The name that the backend's certificate must carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cert_domain_san: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation_segment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_threshold_in_seconds: Option<i64>,
    /// The time of the endpoint's last update in Unix nanoseconds, only in messages about newly added endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_updated_at_ns: Option<i64>,
    /// The tags. A tag that is `null` is read as an empty text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// The options of the route, kept raw. An option that does not parse is skipped; the message is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Map<String, Value>>,
    /// The number of the last change of the route. A field of our own: an original router ignores it, and an original emitter does
    /// not send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The time at which a change was published, in Unix nanoseconds. Another field of our own, which only the first message of a
    /// change has: routers confirm it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emitted_at_ns: Option<u64>,
    /// The name of the emitter, and the number of the change that made the registration what it is. These are fields of our own as
    /// well; repetitions have the same ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emitter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Whether the app does not want what an unregistration removes any more: it lost the route, or wants fewer instances. Otherwise
    /// an instance ended, and routers may expect the next one. This is a field of our own, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

/// Reads a message as Go's `encoding/json` does, because senders and gorouter use it. Unknown keys are skipped, and the case of a
/// key's letters does not matter. When a key occurs twice the last value counts; in `tags` and `options` this holds for each key
/// in them. `null` leaves a field as it was, except that it clears lists and `tags`.
impl<'de> Deserialize<'de> for RegistryMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = RegistryMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<RegistryMessage, A::Error> {
        let mut to = RegistryMessage::default();
        while let Some(key) = from.next_key::<Key>()? {
            match key {
                Key::Host => set(&mut from, &mut to.host)?,
                Key::Port => set(&mut from, &mut to.port)?,
                Key::TlsPort => set_some(&mut from, &mut to.tls_port)?,
                Key::Uris => to.uris = from.next_value::<Option<_>>()?.unwrap_or_default(),
                Key::Protocol => set_some(&mut from, &mut to.protocol)?,
                Key::App => set_some(&mut from, &mut to.app)?,
                Key::RouteServiceUrl => set_some(&mut from, &mut to.route_service_url)?,
                Key::PrivateInstanceId => set_some(&mut from, &mut to.private_instance_id)?,
                Key::PrivateInstanceIndex => set_some(&mut from, &mut to.private_instance_index)?,
                Key::ServerCertDomainSan => set_some(&mut from, &mut to.server_cert_domain_san)?,
                Key::IsolationSegment => set_some(&mut from, &mut to.isolation_segment)?,
                Key::StaleThresholdInSeconds => {
                    set_some(&mut from, &mut to.stale_threshold_in_seconds)?;
                }
                Key::EndpointUpdatedAtNs => set_some(&mut from, &mut to.endpoint_updated_at_ns)?,
                Key::AvailabilityZone => set_some(&mut from, &mut to.availability_zone)?,
                Key::Generation => to.generation = lenient(&mut from)?,
                Key::EmittedAtNs => to.emitted_at_ns = lenient(&mut from)?,
                Key::Sequence => to.sequence = lenient(&mut from)?,
                Key::Withdrawn => to.withdrawn = from.next_value::<Value>()? == true,
                Key::Emitter => match from.next_value()? {
                    Value::String(emitter) => to.emitter = Some(emitter),
                    _ => to.emitter = None,
                },
                Key::Tags => match from.next_value::<Option<BTreeMap<_, Option<String>>>>()? {
                    None => to.tags = None,
                    Some(tags) => to
                        .tags
                        .get_or_insert_default()
                        .extend(tags.into_iter().map(|(k, v)| (k, v.unwrap_or_default()))),
                },
                Key::Options => {
                    if let Some(options) = from.next_value::<Option<Map<_, _>>>()? {
                        to.options.get_or_insert_default().extend(options);
                    }
                }
                Key::Unknown => drop(from.next_value::<de::IgnoredAny>()?),
            }
        }
        Ok(to)
    }
}

fn set<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    from: &mut A,
    to: &mut T,
) -> Result<(), A::Error> {
    if let Some(value) = from.next_value()? {
        *to = value;
    }
    Ok(())
}

fn set_some<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    from: &mut A,
    to: &mut Option<T>,
) -> Result<(), A::Error> {
    if let Some(value) = from.next_value()? {
        *to = Some(value);
    }
    Ok(())
}

/// Reads a field of our own. A value of another kind is from a sender that means something else by this key, and an original router
/// accepts its message.
fn lenient<'de, A: MapAccess<'de>>(from: &mut A) -> Result<Option<u64>, A::Error> {
    Ok(from.next_value::<Value>()?.as_u64())
}

#[derive(Clone, Copy)]
enum Key {
    Host,
    Port,
    TlsPort,
    Uris,
    Protocol,
    App,
    RouteServiceUrl,
    PrivateInstanceId,
    PrivateInstanceIndex,
    ServerCertDomainSan,
    IsolationSegment,
    StaleThresholdInSeconds,
    EndpointUpdatedAtNs,
    Tags,
    AvailabilityZone,
    Options,
    Generation,
    EmittedAtNs,
    Emitter,
    Sequence,
    Withdrawn,
    Unknown,
}

impl Key {
    /// Returns the key of a name in lower case.
    fn of(name: &str) -> Self {
        match name {
            "host" => Self::Host,
            "port" => Self::Port,
            "tls_port" => Self::TlsPort,
            "uris" => Self::Uris,
            "protocol" => Self::Protocol,
            "app" => Self::App,
            "route_service_url" => Self::RouteServiceUrl,
            "private_instance_id" => Self::PrivateInstanceId,
            "private_instance_index" => Self::PrivateInstanceIndex,
            "server_cert_domain_san" => Self::ServerCertDomainSan,
            "isolation_segment" => Self::IsolationSegment,
            "stale_threshold_in_seconds" => Self::StaleThresholdInSeconds,
            "endpoint_updated_at_ns" => Self::EndpointUpdatedAtNs,
            "tags" => Self::Tags,
            "availability_zone" => Self::AvailabilityZone,
            "options" => Self::Options,
            "generation" => Self::Generation,
            "emitted_at_ns" => Self::EmittedAtNs,
            "emitter" => Self::Emitter,
            "sequence" => Self::Sequence,
            "withdrawn" => Self::Withdrawn,
            _ => Self::Unknown,
        }
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(Name)
    }
}

struct Name;

impl Visitor<'_> for Name {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Key, E> {
        Ok(match Key::of(name) {
            Key::Unknown if name.bytes().any(|b| b.is_ascii_uppercase()) => {
                Key::of(&name.to_ascii_lowercase())
            }
            key => key,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> RegistryMessage {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let message = of(
            r#"{"host":"a","port":1,"host":"b","uris":["x","y"],"uris":["z"],
            "tags":{"t":"1","u":"1"},"tags":{"t":"2"},
            "options":{"loadbalancing":"hash","hash_header":"h"},"options":{"loadbalancing":"round-robin"}}"#,
        );
        assert_eq!(
            (message.host.as_str(), message.uris),
            ("b", vec!["z".to_owned()])
        );
        let tags = [("t", "2"), ("u", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(message.tags, Some(tags.into()));
        let options = message.options.expect("options");
        assert_eq!(
            (&options["loadbalancing"], &options["hash_header"]),
            (&"round-robin".into(), &"h".into())
        );
    }

    #[test]
    fn null_changes_only_lists_and_tags() {
        let message = of(
            r#"{"host":"a","host":null,"app":"g","app":null,"port":null,"uris":["x"],"uris":null,
            "tags":{"t":"1"},"tags":null,"options":{"loadbalancing":"hash"},"options":null}"#,
        );
        assert_eq!((message.host.as_str(), message.port), ("a", 0));
        assert_eq!(message.app.as_deref(), Some("g"));
        assert_eq!((message.uris, message.tags), (vec![], None));
        assert!(message.options.is_some());
    }

    #[test]
    fn the_case_of_a_key_does_not_count() {
        let message =
            of(r#"{"Host":"a","TLS_Port":7,"URIs":["x"],"unknown":{"host":[1]},"hosts":"b"}"#);
        assert_eq!((message.host.as_str(), message.tls_port), ("a", Some(7)));
        assert_eq!(message.uris, ["x"]);
    }

    #[test]
    fn written_messages_can_be_read() {
        let message = RegistryMessage {
            host: "1.2.3.4".into(),
            tls_port: Some(61001),
            uris: vec!["a.b".into()],
            tags: Some([("k".to_owned(), "v".to_owned())].into()),
            ..RegistryMessage::default()
        };
        let json = serde_json::to_string(&message).expect("json");
        assert_eq!(
            json,
            r#"{"host":"1.2.3.4","port":0,"tls_port":61001,"uris":["a.b"],"tags":{"k":"v"}}"#
        );
        assert_eq!(of(&json), message);
    }

    #[test]
    fn a_generation_of_another_kind_does_not_cost_the_message() {
        assert_eq!(of(r#"{"generation":7}"#).generation, Some(7));
        for json in [
            r#"{"host":"a","generation":"7"}"#,
            r#"{"host":"a","generation":-1}"#,
            r#"{"host":"a","generation":{"x":[1]}}"#,
            r#"{"host":"a","generation":null}"#,
            r#"{"host":"a","emitter":7,"sequence":"x","emitted_at_ns":[]}"#,
        ] {
            let message = of(json);
            assert_eq!((message.host.as_str(), message.generation), ("a", None));
        }
    }

    #[test]
    fn a_value_of_another_kind_is_an_error() {
        for json in [
            r#"{"port":70000}"#,
            r#"{"host":1}"#,
            r#"{"uris":"a"}"#,
            r#"{"tags":{"a":1}}"#,
            r#"{"options":[]}"#,
            "[]",
            "{}x",
        ] {
            assert!(
                serde_json::from_str::<RegistryMessage>(json).is_err(),
                "{json}"
            );
        }
    }
}
