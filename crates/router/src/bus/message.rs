//! The step from a register or unregister message to what the registry needs (as gorouter `mbus/subscriber.go`).

use crate::config::Lasting;
use http::HeaderName;
use route_table::registry::{
    Balancing, EndpointSpec, ModificationTag, PolicyScope, PolicySource, Protocol, RouteOptions,
    RoutePolicy,
};
use serde_json::{Map, Value};
use std::time::Duration;
use wire::lrp_routes::{ROUTE_POLICY_SCOPE, ROUTE_POLICY_SOURCES};
use wire::router::RegistryMessage;

/// A valid message.
#[derive(Debug)]
pub(crate) struct ValidMessage {
    pub(crate) uris: Vec<String>,
    pub(crate) spec: EndpointSpec,
    pub(crate) updated_at_ns: Option<i64>,
    /// The time at which the change was published. Repetitions have none.
    pub(crate) emitted_at_ns: Option<u64>,
    /// The emitter's name and its number of the change. An original emitter sends neither.
    pub(crate) emitter: Option<String>,
    pub(crate) sequence: Option<u64>,
    /// Whether the app does not want what is unregistered any more, so that no other instance is expected there.
    pub(crate) withdrawn: bool,
}

/// The longest registration in bytes. NATS itself accepts no longer message by default.
const LONGEST: usize = 1 << 20;

/// The reason why a message is ignored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    Invalid(String),
    /// The message is for routers of another isolation segment.
    OtherSegment,
}

pub(crate) fn parse(payload: &[u8], settings: &Lasting) -> Result<ValidMessage, Ignored> {
    if payload.len() > LONGEST {
        return Err(Ignored::Invalid(format!("longer than {LONGEST} bytes")));
    }
    let message: RegistryMessage =
        serde_json::from_slice(payload).map_err(|error| Ignored::Invalid(error.to_string()))?;
    let route_service_url = message.route_service_url.unwrap_or_default();
    if !route_service_url.is_empty() && !route_service_url.starts_with("https") {
        return Err(Ignored::Invalid(format!(
            "route_service_url {route_service_url:?} does not begin with https"
        )));
    }
    let isolation_segment = message.isolation_segment.unwrap_or_default();
    if !settings.sharding.takes(&isolation_segment) {
        return Err(Ignored::OtherSegment);
    }
    let tls_port = message.tls_port.filter(|port| *port != 0);
    let protocol = match message.protocol.as_deref() {
        Some("http2") if settings.http2 => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let options = message
        .options
        .as_ref()
        .map_or_else(RouteOptions::default, |given| options(given, &message.uris));
    Ok(ValidMessage {
        uris: message.uris,
        spec: EndpointSpec {
            host: without_brackets(message.host),
            port: tls_port.unwrap_or(message.port),
            tls: tls_port.is_some(),
            protocol,
            app_id: message.app.unwrap_or_default(),
            instance_id: message.private_instance_id.unwrap_or_default(),
            instance_index: message.private_instance_index.unwrap_or_default(),
            server_cert_domain_san: message.server_cert_domain_san.unwrap_or_default(),
            tags: message.tags.unwrap_or_default(),
            route_service_url,
            isolation_segment,
            availability_zone: message.availability_zone.unwrap_or_default(),
            stale_threshold: message
                .stale_threshold_in_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map_or(Duration::ZERO, Duration::from_secs),
            options,
            modification_tag: ModificationTag::default(),
            generation: message.generation.unwrap_or_default(),
        },
        updated_at_ns: message.endpoint_updated_at_ns,
        emitted_at_ns: message.emitted_at_ns,
        emitter: message.emitter,
        sequence: message.sequence,
        withdrawn: message.withdrawn,
    })
}

/// Removes the brackets of an IPv6 address, which some emitters write. An endpoint's host is stored without them.
fn without_brackets(host: String) -> String {
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    match inner.filter(|h| h.contains(':')) {
        Some(inner) => inner.to_owned(),
        None => host,
    }
}

/// Reads the options of a route. An invalid option is logged and costs only itself.
fn options(given: &Map<String, Value>, uris: &[String]) -> RouteOptions {
    let log = |why: String| tracing::error!(why, ?uris, "invalid-route-option");
    RouteOptions {
        balancing: balancing(given).unwrap_or_else(|why| {
            log(why);
            None
        }),
        policy: policy(given).unwrap_or_else(|why| {
            log(why);
            // An operator who meant to restrict a route must not open it by a typing error.
            Some(RoutePolicy::default())
        }),
    }
}

fn text<'a>(options: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{key} {other} is not a text")),
    }
}

/// Reads the route's policy; `None`: the options contain none.
fn policy(options: &Map<String, Value>) -> Result<Option<RoutePolicy>, String> {
    let (scope, sources) = (
        text(options, ROUTE_POLICY_SCOPE)?,
        text(options, ROUTE_POLICY_SOURCES)?,
    );
    if scope.is_empty() && sources.is_empty() {
        return Ok(None);
    }
    let source = |text: &str| {
        PolicySource::parse(text)
            .ok_or_else(|| format!("route_policy_sources has {text:?}: want cf:any, cf:app:GUID, cf:space:GUID or cf:org:GUID"))
    };
    let sources = sources.split(',').map(str::trim).filter(|s| !s.is_empty());
    Ok(Some(RoutePolicy {
        scope: PolicyScope::parse(scope)
            .ok_or_else(|| format!("route_policy_scope {scope:?} is none of any, org, space"))?,
        sources: sources.map(source).collect::<Result<_, _>>()?,
    }))
}

/// Reads the route's balancing; `None`: the options contain none.
fn balancing(options: &Map<String, Value>) -> Result<Option<Balancing>, String> {
    match text(options, "loadbalancing")? {
        "" => Ok(None),
        "round-robin" => Ok(Some(Balancing::RoundRobin)),
        "least-connection" => Ok(Some(Balancing::LeastConnection)),
        "hash" => {
            let header = text(options, "hash_header")?;
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

    fn of(json: &str) -> Result<ValidMessage, Ignored> {
        parse(json.as_bytes(), &Lasting::default())
    }

    #[test]
    fn an_ipv6_address_has_brackets_once() {
        for host in ["::1", "[::1]"] {
            let json = format!(r#"{{"host":"{host}","port":80,"uris":["a.b"]}}"#);
            let spec = of(&json).unwrap().spec;
            assert_eq!((&*spec.host, &*spec.address()), ("::1", "[::1]:80"));
        }
    }

    #[test]
    fn the_tls_port_wins() {
        let registration = of(r#"{"host":"1.2.3.4","port":80,"tls_port":443,"uris":["a.b"],"tags":null,"unknown":[1],"options":{"loadbalancing":"least-connection"}}"#).unwrap();
        assert_eq!((registration.spec.port, registration.spec.tls), (443, true));
        assert_eq!(registration.spec.address(), "1.2.3.4:443");
        assert_eq!(
            registration.spec.options.balancing,
            Some(Balancing::LeastConnection)
        );
        let registration = of(r#"{"host":"1.2.3.4","port":80,"tls_port":0,"uris":null,"options":{"loadbalancing":7}}"#).unwrap();
        assert_eq!((registration.spec.port, registration.spec.tls), (80, false));
        assert_eq!(
            registration.spec.options.balancing, None,
            "a bad option does not cost the message"
        );
    }

    #[test]
    fn a_tag_that_is_null_is_empty() {
        let registration = of(r#"{"host":"a","uris":["b"],"tags":{"x":null,"y":"z"}}"#).unwrap();
        let tags = [("x", ""), ("y", "z")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(registration.spec.tags, tags.into());
    }

    #[test]
    fn an_original_emitter_sends_no_generation() {
        for (json, generation) in [
            (r#"{"host":"a","uris":["b"],"generation":17}"#, 17),
            (r#"{"host":"a","uris":["b"]}"#, 0),
            (r#"{"host":"a","uris":["b"],"generation":"x"}"#, 0),
        ] {
            assert_eq!(of(json).unwrap().spec.generation, generation, "{json}");
        }
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
    fn policies() {
        let of = |options: serde_json::Value| policy(options.as_object().unwrap());
        let json = serde_json::json!({"route_policy_scope": "org", "route_policy_sources": "cf:app:a, cf:space:s"});
        assert_eq!(
            of(json).unwrap(),
            Some(RoutePolicy {
                scope: PolicyScope::Org,
                sources: vec![
                    PolicySource::App("a".into()),
                    PolicySource::Space("s".into())
                ],
            })
        );
        assert_eq!(of(serde_json::json!({})).unwrap(), None);
        for bad in [
            serde_json::json!({"route_policy_scope": "orgs"}),
            serde_json::json!({"route_policy_scope": 1}),
            serde_json::json!({"route_policy_sources": "cf:any,app:x"}),
        ] {
            let bad = bad.as_object().unwrap();
            assert!(policy(bad).is_err(), "{bad:?}");
            let policy = options(bad, &[]).policy.unwrap();
            assert!(policy.sources.is_empty(), "closed, not open");
        }
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
            assert!(matches!(of(json), Err(Ignored::Invalid(_))), "{json}");
        }
    }

    #[test]
    fn segments() {
        let settings = |sharding| Lasting {
            sharding,
            ..Lasting::default()
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
