//! The router's NATS messages: subjects and JSON.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub mod subject {
    pub const REGISTER: &str = "router.register";
    pub const UNREGISTER: &str = "router.unregister";
    pub const GREET: &str = "router.greet";
    pub const START: &str = "router.start";
    /// Of ours: instances of these routes are on their way. An original router hears it with its subscription to `router.*`,
    /// can parse it, and ignores every subject but the first two; an original emitter and registrar do not hear it.
    pub const STARTING: &str = "router.starting";
}

/// Payload of `router.register` and `router.unregister`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RegistryMessage {
    #[serde(default, deserialize_with = "null_as_default")]
    pub host: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub port: u16,
    /// Non-zero wins over `port`: the endpoint speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub uris: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// App guid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_instance_index: Option<String>,
    /// The name that the backend's certificate must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cert_domain_san: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_segment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_threshold_in_seconds: Option<i64>,
    /// Unix nanoseconds, only on newly added endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_updated_at_ns: Option<i64>,
    /// A tag that is `null` is an empty text.
    #[serde(
        default,
        deserialize_with = "tags",
        skip_serializing_if = "Option::is_none"
    )]
    pub tags: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Per-route options, kept raw: an option that does not parse is skipped, not the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Map<String, serde_json::Value>>,
}

fn tags<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let tags = Option::<BTreeMap<String, Option<String>>>::deserialize(deserializer)?;
    let text = |(name, tag): (String, Option<String>)| (name, tag.unwrap_or_default());
    Ok(tags.map(|tags| tags.into_iter().map(text).collect()))
}

/// Go's emitters write `null` for an empty list, and take it for the absence of a value everywhere.
fn null_as_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Payload of `router.starting`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartingMessage {
    #[serde(default, deserialize_with = "null_as_default")]
    pub uris: Vec<String>,
}

/// Payload of `router.start` and of the answer to `router.greet`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartMessage {
    pub id: String,
    pub hosts: Vec<String>,
    #[serde(rename = "minimumRegisterIntervalInSeconds")]
    pub minimum_register_interval_in_seconds: u64,
    #[serde(rename = "pruneThresholdInSeconds")]
    pub prune_threshold_in_seconds: u64,
}

/// One element of a desired LRP's `cf-router` routes (raw JSON array in [`crate::bbs::ProtoRoutes`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CfRoute {
    pub hostnames: Vec<String>,
    pub port: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation_segment: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<serde_json::Map<String, serde_json::Value>>,
}
