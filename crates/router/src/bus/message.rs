//! From a register or unregister message to what the registry wants to know (as gorouter `mbus/subscriber.go`).

use crate::config::Settings;
use http::HeaderName;
use routing::registry::{Balancing, EndpointSpec, Protocol};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use wire::router::RegistryMessage;

/// A valid message.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) uris: Vec<String>,
    pub(super) spec: EndpointSpec,
    pub(super) balancing: Option<Balancing>,
    pub(super) updated_at_ns: Option<i64>,
}

impl Registration {
    pub(super) fn component(&self) -> &str {
        self.spec.tags.get("component").map_or("", String::as_str)
    }

    /// `host:port`, as [`routing::registry::Endpoint::address`].
    pub(super) fn address(&self) -> String {
        let EndpointSpec { host, port, .. } = &self.spec;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

/// Why a message is not applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Invalid(String),
    /// For routers of another isolation segment.
    OtherSegment,
}

pub(super) fn parse(payload: &[u8], settings: &Settings) -> Result<Registration, Rejected> {
    let message: RegistryMessage =
        serde_json::from_slice(payload).map_err(|error| Rejected::Invalid(error.to_string()))?;
    let route_service_url = message.route_service_url.unwrap_or_default();
    if !route_service_url.is_empty() && !route_service_url.starts_with("https") {
        return Err(Rejected::Invalid(format!(
            "route_service_url {route_service_url:?} does not begin with https"
        )));
    }
    let isolation_segment = message.isolation_segment.unwrap_or_default();
    if !settings.sharding.takes(&isolation_segment) {
        return Err(Rejected::OtherSegment);
    }
    let tls_port = message.tls_port.filter(|port| *port != 0);
    let protocol = match message.protocol.as_deref() {
        Some("http2") if settings.http2 => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let balancing = message.options.as_ref().and_then(|options| {
        let read = balancing(options);
        if let Err(why) = &read {
            tracing::error!(why, uris = ?message.uris, "invalid-route-option");
        }
        read.unwrap_or_default()
    });
    Ok(Registration {
        uris: message.uris,
        spec: EndpointSpec {
            host: message.host,
            port: tls_port.unwrap_or(message.port),
            tls: tls_port.is_some(),
            protocol,
            app_id: message.app.unwrap_or_default(),
            instance_id: message.private_instance_id.unwrap_or_default(),
            instance_index: message.private_instance_index.unwrap_or_default(),
            server_cert_domain_san: message.server_cert_domain_san.unwrap_or_default(),
            tags: Arc::new(message.tags.unwrap_or_default()),
            route_service_url,
            isolation_segment,
            availability_zone: message.availability_zone.unwrap_or_default(),
            stale_threshold: message
                .stale_threshold_in_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(Duration::ZERO, Duration::from_secs),
        },
        balancing,
        updated_at_ns: message.endpoint_updated_at_ns,
    })
}

/// `None`: the options say nothing of it. What is wrong costs only itself.
fn balancing(options: &serde_json::Map<String, Value>) -> Result<Option<Balancing>, String> {
    let text = |key: &str| match options.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(format!("{key} {other} is not a text")),
    };
    match text("loadbalancing")? {
        "" => Ok(None),
        "round-robin" => Ok(Some(Balancing::RoundRobin)),
        "least-connection" => Ok(Some(Balancing::LeastConnection)),
        "hash" => {
            let header = text("hash_header")?;
            if HeaderName::from_bytes(header.as_bytes()).is_err() {
                return Err(format!("hash_header {header:?} is not a header name"));
            }
            let balance = match options.get("hash_balance") {
                None | Some(Value::Null) => Some(0.0),
                Some(Value::String(text)) => text.parse().ok(),
                Some(other) => other.as_f64(),
            };
            let balance = balance.filter(|balance| balance.is_finite() && *balance >= 0.0);
            Ok(Some(Balancing::Hash {
                header: header.to_ascii_lowercase(),
                balance: balance.ok_or("hash_balance is not a number of 0 or more")?,
            }))
        }
        other => Err(format!(
            "loadbalancing {other:?} is none of round-robin, least-connection, hash"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sharding;

    fn of(json: &str) -> Result<Registration, Rejected> {
        parse(json.as_bytes(), &Settings::default())
    }

    #[test]
    fn the_tls_port_wins() {
        let registration = of(r#"{"host":"1.2.3.4","port":80,"tls_port":443,"uris":["a.b"],"tags":null,"unknown":[1],"options":{"loadbalancing":"least-connection"}}"#).unwrap();
        assert_eq!((registration.spec.port, registration.spec.tls), (443, true));
        assert_eq!(registration.address(), "1.2.3.4:443");
        assert_eq!(registration.balancing, Some(Balancing::LeastConnection));
        let registration = of(r#"{"host":"1.2.3.4","port":80,"tls_port":0,"uris":null,"options":{"loadbalancing":7}}"#).unwrap();
        assert_eq!((registration.spec.port, registration.spec.tls), (80, false));
        assert_eq!(
            registration.balancing, None,
            "a bad option does not cost the message"
        );
    }

    #[test]
    fn hash_options() {
        let of = |options: serde_json::Value| balancing(options.as_object().unwrap());
        let hash = |balance| Balancing::Hash {
            header: "x-tenant".into(),
            balance,
        };
        let json = serde_json::json!({"loadbalancing": "hash", "hash_header": "X-Tenant", "hash_balance": "1.2"});
        assert_eq!(of(json).unwrap(), Some(hash(1.2)));
        let json = serde_json::json!({"loadbalancing": "hash", "hash_header": "X-Tenant"});
        assert_eq!(of(json).unwrap(), Some(hash(0.0)));
        assert!(of(serde_json::json!({"loadbalancing": "hash"})).is_err());
        assert_eq!(of(serde_json::json!({"other": 1})).unwrap(), None);
    }

    #[test]
    fn bad_messages_are_refused_whole() {
        for json in [
            "",
            "{",
            r#"{"host":"a","uris":["b"],"tags":{"x":1}}"#,
            r#"{"host":"a","port":70000,"uris":["b"]}"#,
            r#"{"host":"a","port":1,"uris":["b"],"route_service_url":"http://x"}"#,
        ] {
            assert!(matches!(of(json), Err(Rejected::Invalid(_))), "{json}");
        }
    }

    #[test]
    fn segments() {
        let settings = |sharding| Settings {
            sharding,
            ..Settings::default()
        };
        let taken = |segment: &str, sharding| {
            parse(
                format!(r#"{{"host":"a","isolation_segment":{segment:?}}}"#).as_bytes(),
                &settings(sharding),
            )
            .is_ok()
        };
        assert!(taken("x", Sharding::All));
        assert!(!taken("", Sharding::Segments(vec!["x".into()])));
        assert!(taken("", Sharding::SharedAndSegments(vec!["x".into()])));
        assert!(!taken("y", Sharding::SharedAndSegments(vec!["x".into()])));
    }
}
