//! The input of [`crate::explain`]: what each component showed about one URL, and when.

use std::collections::BTreeMap;
use wire::cc::StoredRoute;
use wire::rep::{InspectedCertificate, Inspection};
use wire::router::RouteView;

/// The value that a component showed. The error names the reason why the component could not be read.
pub type Answer<T> = Result<T, String>;

/// Everything that was read about one URL.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The host and the path: `app.example.com/path`.
    pub url: String,
    /// The clock of the machine that asked, in seconds since 1970.
    pub now: i64,
    /// The route that the Cloud Controller stores; `None` if no route serves the URL.
    pub route: Answer<Option<StoredRoute>>,
    /// The desired LRPs that carry the route, and those of its destinations.
    pub desired: Answer<Vec<Desired>>,
    /// The actual LRPs of these desired LRPs.
    pub actual: Answer<Vec<Actual>>,
    /// The ids of the cells that are present.
    pub cells: Answer<Vec<String>>,
    /// The answers of the reps, by instance guid.
    pub inspections: BTreeMap<String, Answer<Inspection>>,
    /// The server of the message bus that accepted the foundation's user; `None` if the bus was not asked.
    pub bus: Option<Answer<String>>,
    /// The addresses to which the host's name leads on the machine that asked, and where connections are accepted; `None` if that does not
    /// matter.
    pub name: Option<Answer<Vec<String>>>,
    /// The routers that were asked. It may be empty, if the caller has no right to ask them.
    pub routers: Vec<Router>,
}

/// A desired LRP.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    pub process_guid: String,
    pub instances: u32,
    pub routes: Vec<DesiredRoute>,
}

/// A host and path that a desired LRP carries, and the port of the app to which it leads.
#[derive(Clone, Debug, Default)]
pub struct DesiredRoute {
    pub url: String,
    pub port: u16,
    pub isolation_segment: String,
    /// The number of the last change that the desired LRP has; 0 if it has none.
    pub generation: u64,
}

/// An actual LRP.
#[derive(Clone, Debug, Default)]
pub struct Actual {
    pub process_guid: String,
    pub index: i32,
    pub instance_guid: String,
    pub cell_id: String,
    /// Whether the instance stays only until another cell has replaced it.
    pub is_evacuating: bool,
    /// The state as the BBS names it: `UNCLAIMED`, `CLAIMED`, `RUNNING` or `CRASHED`.
    pub state: String,
    /// Whether the instance receives requests; `None` if the rep reports no readiness.
    pub routable: Option<bool>,
    pub placement_error: String,
    pub crash_count: i32,
    pub crash_reason: String,
    /// The time of the last change of the state, in seconds since 1970.
    pub since: i64,
    /// The address of the cell.
    pub address: String,
    pub ports: Vec<Port>,
}

/// A port of an app. A port that is 0 is not mapped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Port {
    /// The port on which the app listens.
    pub app: u16,
    /// The cell's port that leads to it without TLS.
    pub host: u16,
    /// The port on which Envoy accepts requests for it.
    pub proxy: u16,
    /// The cell's port that leads to Envoy.
    pub host_proxy: u16,
}

/// A router, its page about the URL, and a request through it.
#[derive(Clone, Debug)]
pub struct Router {
    /// The name for people: an address.
    pub name: String,
    pub view: Answer<RouteView>,
    /// The result of a request; `None` if none was made.
    pub probe: Option<Answer<Probe>>,
    /// The certificate that the router presents to clients for the host; `None` if it was not asked.
    pub front: Option<Answer<InspectedCertificate>>,
}

/// The answer to a request through a router.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    pub status: u16,
    /// The value of `X-Cf-RouterError`; empty if the answer is not the router's own.
    pub router_error: String,
    pub request_id: String,
    pub milliseconds: u64,
}
