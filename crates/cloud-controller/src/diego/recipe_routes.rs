//! The `routes` of a desired LRP: raw JSON by router kind. The route-emitter reads it.

use serde::Serialize;
use std::collections::BTreeMap;
use wire::bbs::ProtoRoutes;

pub const HTTP: &str = "cf-router";
pub const TCP: &str = "tcp-router";
pub const INTERNAL: &str = "internal-router";
pub const SSH: &str = "diego-ssh";

/// Everything that leads to one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    pub http: Vec<HttpRoute>,
    pub tcp: Vec<TcpRoute>,
    /// Host names on internal domains.
    pub internal: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRoute {
    /// Host, domain and path: `app.example.com/v2`.
    pub uri: String,
    /// The destination's port inside the container.
    pub port: u16,
    /// `http1` or `http2`.
    pub protocol: Option<String>,
    /// `{"loadbalancing": "least-connection"}`.
    pub options: Option<serde_json::Value>,
    pub route_service_url: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TcpRoute {
    pub router_group_guid: String,
    pub external_port: u16,
    pub container_port: u16,
}

/// All three keys are always there; one `cf-router` entry per route; what is absent is `null`.
pub fn routes_json(routes: &Routes, isolation_segment: Option<&str>) -> ProtoRoutes {
    let http: Vec<_> = routes
        .http
        .iter()
        .map(|route| CfRoute {
            hostnames: [&route.uri],
            port: route.port,
            route_service_url: route.route_service_url.as_deref(),
            isolation_segment,
            protocol: route.protocol.as_deref(),
            options: route.options.as_ref(),
        })
        .collect();
    let internal: Vec<_> = routes
        .internal
        .iter()
        .map(|hostname| InternalRoute { hostname })
        .collect();
    ProtoRoutes {
        routes: BTreeMap::from([
            (HTTP.to_owned(), json(&http)),
            (TCP.to_owned(), json(&routes.tcp)),
            (INTERNAL.to_owned(), json(&internal)),
        ]),
    }
}

#[derive(Serialize)]
struct CfRoute<'a> {
    hostnames: [&'a str; 1],
    port: u16,
    route_service_url: Option<&'a str>,
    isolation_segment: Option<&'a str>,
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<&'a serde_json::Value>,
}

#[derive(Serialize)]
struct InternalRoute<'a> {
    hostname: &'a str,
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("routes have string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_stands_under_its_key() {
        let routes = Routes {
            http: vec![
                HttpRoute {
                    uri: "a.example/v2".into(),
                    port: 8080,
                    protocol: Some("http1".into()),
                    options: None,
                    route_service_url: None,
                },
                HttpRoute {
                    uri: "b.example".into(),
                    port: 9090,
                    protocol: Some("http2".into()),
                    options: Some(json!({"loadbalancing": "least-connection"})),
                    route_service_url: Some("https://rs.example".into()),
                },
            ],
            tcp: vec![TcpRoute {
                router_group_guid: "G".into(),
                external_port: 1024,
                container_port: 8080,
            }],
            internal: vec!["a.apps.internal".into()],
        };
        let parsed = |routes: &ProtoRoutes, key| {
            serde_json::from_slice::<serde_json::Value>(&routes.routes[key]).unwrap()
        };
        let wire = routes_json(&routes, Some("iso"));
        assert_eq!(
            parsed(&wire, HTTP),
            json!([
                {"hostnames": ["a.example/v2"], "port": 8080, "route_service_url": null, "isolation_segment": "iso", "protocol": "http1"},
                {"hostnames": ["b.example"], "port": 9090, "route_service_url": "https://rs.example", "isolation_segment": "iso", "protocol": "http2",
                 "options": {"loadbalancing": "least-connection"}},
            ])
        );
        assert_eq!(
            parsed(&wire, TCP),
            json!([{"router_group_guid": "G", "external_port": 1024, "container_port": 8080}])
        );
        assert_eq!(
            parsed(&wire, INTERNAL),
            json!([{"hostname": "a.apps.internal"}])
        );

        let none = routes_json(&Routes::default(), None);
        for key in [HTTP, TCP, INTERNAL] {
            assert_eq!(none.routes[key], b"[]");
        }
    }
}
