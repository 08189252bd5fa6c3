//! The JSON of the Routing API: routes, TCP routes and router groups, and the paths of the API.

use serde::{Deserialize, Serialize};

pub mod path {
    pub const ROUTES: &str = "/routing/v1/routes";
    /// The path of server-sent events named [`super::UPSERT`] and [`super::DELETE`], each with a [`super::Route`].
    pub const EVENTS: &str = "/routing/v1/events";
    /// The path of router groups, which accepts `?name=`.
    pub const ROUTER_GROUPS: &str = "/routing/v1/router_groups";
    pub const TCP_ROUTES_CREATE: &str = "/routing/v1/tcp_routes/create";
    pub const TCP_ROUTES_DELETE: &str = "/routing/v1/tcp_routes/delete";
}

/// The names of events.
pub const UPSERT: &str = "Upsert";
pub const DELETE: &str = "Delete";

/// An HTTP route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The uri: `host` or `host/path`.
    pub route: String,
    pub port: u16,
    pub ip: String,
    /// The time to live in seconds.
    pub ttl: Option<i64>,
    pub log_guid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    pub modification_tag: ModificationTag,
}

/// The version of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModificationTag {
    pub guid: String,
    pub index: u32,
}

impl From<ModificationTag> for route_table::registry::ModificationTag {
    fn from(tag: ModificationTag) -> Self {
        Self {
            guid: tag.guid,
            index: tag.index,
        }
    }
}

/// A port of a router group, with a backend behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TcpRoute {
    pub router_group_guid: String,
    pub backend_port: u16,
    /// The backend's port with TLS; -1 means that the backend uses no TLS, or terminates it itself.
    pub backend_tls_port: i32,
    pub backend_ip: String,
    /// The host name in clients' TLS handshakes. If it is set, the port is shared, and this name distinguishes the backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_sni_hostname: Option<String>,
    pub instance_id: String,
    /// The port of the router.
    pub port: u16,
    pub modification_tag: ModificationTag,
    /// The time to live in seconds.
    pub ttl: u64,
    pub isolation_segment: String,
}

/// A group of routers with ports of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterGroup {
    pub guid: String,
    pub name: String,
}

/// The body of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// The name of the error: `UnauthorizedError`, `ResourceNotFoundError` …
    pub name: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_as_the_routing_api_writes_it() {
        let json = r#"{"route":"a.test/x","port":8080,"ip":"10.0.0.1","ttl":120,"log_guid":"app","modification_tag":{"guid":"g","index":4}}"#;
        let route: Route = serde_json::from_str(json).unwrap();
        assert_eq!((route.port, route.ttl), (8080, Some(120)));
        assert_eq!(route.modification_tag.index, 4);
        assert_eq!(serde_json::to_string(&route).unwrap(), json);
        let bare: Route =
            serde_json::from_str(r#"{"route":"a","ttl":null,"created_at":"x"}"#).unwrap();
        assert_eq!((bare.ttl, bare.route_service_url), (None, None));
    }

    #[test]
    fn a_tcp_route_as_the_routing_api_reads_it() {
        let route = TcpRoute {
            router_group_guid: "g".into(),
            backend_port: 6263,
            backend_tls_port: -1,
            backend_ip: "10.0.0.1".into(),
            port: 1234,
            ttl: 21,
            ..TcpRoute::default()
        };
        let json = serde_json::to_value(&route).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"router_group_guid": "g", "backend_port": 6263, "backend_tls_port": -1, "backend_ip": "10.0.0.1",
                "instance_id": "", "port": 1234, "modification_tag": {"guid": "", "index": 0}, "ttl": 21, "isolation_segment": ""})
        );
    }
}
