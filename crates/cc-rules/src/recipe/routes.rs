//! The `routes` of a desired LRP: raw JSON by router kind, which the route-emitter reads.

use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use wire::bbs::ProtoRoutes;
use wire::lrp_routes::{CF_ROUTER, CfRoute, INTERNAL_ROUTER, InternalRoute, TCP_ROUTER, TcpRoute};

/// All routes that lead to one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes {
    pub http: Vec<HttpRoute>,
    pub tcp: Vec<TcpRoute>,
    /// The host names on internal domains.
    pub internal: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpRoute {
    /// The host, domain and path: `app.example.com/v2`.
    pub uri: String,
    /// The port of the destination inside the container.
    pub port: u16,
    /// The protocol: `http1` or `http2`.
    pub protocol: Option<String>,
    /// The options: `{"loadbalancing": "least-connection"}`.
    pub options: Option<Map<String, Value>>,
    pub route_service_url: Option<String>,
    /// The number of the last change of this destination of the route, if it is known.
    pub generation: Option<u64>,
}

/// Returns the routes. All three keys are always present, `cf-router` has one entry per route, and absent values are `null`.
pub fn routes_json(routes: &Routes, isolation_segment: Option<&str>) -> ProtoRoutes {
    let http: Vec<_> = routes
        .http
        .iter()
        .map(|route| CfRoute {
            hostnames: vec![route.uri.clone()],
            port: route.port.into(),
            route_service_url: route.route_service_url.clone(),
            isolation_segment: isolation_segment.map(str::to_owned),
            protocol: route.protocol.clone(),
            options: route.options.clone(),
            generation: route.generation,
        })
        .collect();
    let internal: Vec<_> = routes
        .internal
        .iter()
        .map(|hostname| InternalRoute {
            hostname: hostname.clone(),
        })
        .collect();
    ProtoRoutes {
        routes: BTreeMap::from([
            (CF_ROUTER.to_owned(), json(&http)),
            (TCP_ROUTER.to_owned(), json(&routes.tcp)),
            (INTERNAL_ROUTER.to_owned(), json(&internal)),
        ]),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("routes have string keys only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(pairs: &[(&str, &str)]) -> Map<String, Value> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).into()))
            .collect()
    }

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
                    generation: None,
                },
                HttpRoute {
                    uri: "b.example".into(),
                    port: 9090,
                    protocol: Some("http2".into()),
                    options: Some(options(&[("loadbalancing", "least-connection")])),
                    route_service_url: Some("https://rs.example".into()),
                    generation: Some(7),
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
            parsed(&wire, CF_ROUTER),
            json!([
                {"hostnames": ["a.example/v2"], "port": 8080, "route_service_url": null, "isolation_segment": "iso", "protocol": "http1"},
                {"hostnames": ["b.example"], "port": 9090, "route_service_url": "https://rs.example", "isolation_segment": "iso", "protocol": "http2",
                 "options": {"loadbalancing": "least-connection"}, "generation": 7},
            ])
        );
        assert_eq!(
            parsed(&wire, TCP_ROUTER),
            json!([{"router_group_guid": "G", "external_port": 1024, "container_port": 8080}])
        );
        assert_eq!(
            parsed(&wire, INTERNAL_ROUTER),
            json!([{"hostname": "a.apps.internal"}])
        );

        let none = routes_json(&Routes::default(), None);
        for key in [CF_ROUTER, TCP_ROUTER, INTERNAL_ROUTER] {
            assert_eq!(none.routes[key], b"[]");
        }
    }

    /// The BBS compares a desired LRP's routes as bytes, so a different spelling would update every process once.
    #[test]
    fn the_bytes_have_one_spelling() {
        let mut routes = Routes {
            http: vec![HttpRoute {
                uri: "a.example/v2".into(),
                port: 8080,
                ..HttpRoute::default()
            }],
            internal: vec!["a.apps.internal".into()],
            ..Routes::default()
        };
        let text = |routes: &Routes, segment, key| {
            String::from_utf8(routes_json(routes, segment).routes[key].clone()).unwrap()
        };
        assert_eq!(
            text(&routes, None, CF_ROUTER),
            r#"[{"hostnames":["a.example/v2"],"port":8080,"route_service_url":null,"isolation_segment":null,"protocol":null}]"#
        );
        assert_eq!(
            text(&routes, None, INTERNAL_ROUTER),
            r#"[{"hostname":"a.apps.internal"}]"#
        );
        routes.http[0].protocol = Some("http2".into());
        routes.http[0].options = Some(options(&[("loadbalancing", "hash"), ("hash_header", "x")]));
        routes.http[0].route_service_url = Some("https://rs.example".into());
        assert_eq!(
            text(&routes, Some("iso"), CF_ROUTER),
            r#"[{"hostnames":["a.example/v2"],"port":8080,"route_service_url":"https://rs.example","isolation_segment":"iso","protocol":"http2","options":{"hash_header":"x","loadbalancing":"hash"}}]"#
        );
    }
}
