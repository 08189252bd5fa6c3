//! The answer of a router to a question about one URL: what a request to it would meet. It is a page of ours, and the answer to a
//! question on the message bus; an original gorouter has only `/routes`.

use super::null_as_default;
use serde::{Deserialize, Serialize};

/// The path of the page on the router's operator listener.
pub const VIEW_PATH: &str = "/route";

/// The path of the page with the last failing requests to all hosts, on the same listener.
pub const FAILURES_PATH: &str = "/failures";

/// The last requests that a router itself answered with an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailuresPage {
    /// The router's id, as in `router.start`. Numbers of another router mean nothing here.
    pub router: String,
    /// The number of the newest request.
    pub last: u64,
    /// The number of requests after the reader's number that are not kept any more.
    pub missed: u64,
    /// The requests after the reader's number, oldest first.
    pub failures: Vec<FailureView>,
}

/// The payload of `route-views.ask`. Every router answers with a [`RouteView`] on the reply's subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewQuestion {
    pub url: String,
}

/// The state of one URL in a router. Ages are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteView {
    /// The router's id, as in `router.start`.
    pub router: String,
    /// The addresses at which clients reach the router without and with TLS; empty if it has no such listener or does not report it.
    pub http_address: String,
    pub https_address: String,
    /// The router's clock, in seconds since 1970.
    pub now: i64,
    /// Whether `/health` is 200; it is not while the router starts or drains. `None` if the router does not report it.
    pub is_healthy: Option<bool>,
    /// Whether the router is connected to the message bus; `None` if it does not report it.
    pub bus_is_connected: Option<bool>,
    /// The time since the last message about any route; `None` if it does not report it.
    pub last_message_age: Option<f64>,
    /// The seconds after which emitters repeat their messages; 0 if the router does not report it.
    pub register_interval: f64,
    /// The isolation segments whose routes the router accepts; `None`: all.
    pub segments: Option<Vec<String>>,
    /// The most requests that an endpoint may have at a time; 0: no limit.
    pub max_connections: u32,
    /// The route that serves the URL; `None` if the table has none.
    pub route: Option<String>,
    /// Whether the table expects the first instance of the route.
    pub is_starting: bool,
    /// The route service to which the route is bound; empty: none.
    pub route_service_url: String,
    pub endpoints: Vec<EndpointView>,
    /// The last requests to the host that the router itself answered with an error, newest first.
    pub failures: Vec<FailureView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointView {
    pub address: String,
    pub tls: bool,
    pub server_cert_domain_san: String,
    #[serde(rename = "private_instance_id")]
    pub instance_guid: String,
    #[serde(deserialize_with = "null_as_default")]
    pub isolation_segment: String,
    /// The kind of the sender of the registration, such as `route-emitter` for apps; empty if it names none.
    pub component: String,
    /// The generation of the change with which the endpoint was registered; 0 if it has none.
    pub generation: u64,
    /// The time since the last registration; `None` if the router does not report it.
    pub message_age: Option<f64>,
    /// Whether requests have failed at the endpoint recently, so that others are preferred.
    pub has_failed: bool,
    pub in_flight: u32,
}

/// A request that the router itself answered with an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureView {
    pub age: f64,
    pub status: u16,
    /// The value of `X-Cf-RouterError`.
    pub error: String,
    pub request_id: String,
    pub host: String,
    /// The path without the query.
    pub path: String,
    /// The endpoint that was tried last; empty: none.
    pub endpoint: String,
}
