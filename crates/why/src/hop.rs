//! The output: hops as data.

use serde::Serialize;
use std::fmt;

/// The path of one route through all components.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The route: a host name without a path.
    pub route: String,
    /// The hops, in the order in which a route becomes reachable. The list is always complete.
    pub hops: Vec<Hop>,
}

impl Walk {
    /// Returns the first problem on the path. `None` means that all components agree.
    pub fn problem(&self) -> Option<&str> {
        self.hops.iter().find_map(|hop| hop.outcome.problem())
    }
}

/// One value on the path of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The component that the value belongs to.
    pub component: Component,
    /// The name of the value within its component, such as `listener` or `table`.
    pub part: &'static str,
    /// The interface at which the value was read.
    pub source: Source,
    /// The value that was looked for, made of values of earlier hops. It is `None` if these lack such a value.
    pub sought: Option<String>,
    /// The value that was found, or the reason why there is none.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The result of a comparison at a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The component shows what was looked for.
    Agrees {
        /// The value that it shows.
        found: String,
    },
    /// The component shows something else, or nothing.
    Differs {
        /// The value that it shows instead, if it shows one.
        found: Option<String>,
        /// The difference, as a sentence for people.
        problem: String,
    },
    /// The component could not be read.
    Unread {
        /// The reason.
        problem: String,
    },
    /// Earlier hops lack the values to compare with. The first of them names the problem.
    NotCompared,
}

impl Outcome {
    /// Returns whether the component shows what was looked for.
    pub fn agrees(&self) -> bool {
        matches!(self, Self::Agrees { .. })
    }

    /// Returns the value that the component shows.
    pub fn found(&self) -> Option<&str> {
        match self {
            Self::Agrees { found } => Some(found),
            Self::Differs { found, .. } => found.as_deref(),
            Self::Unread { .. } | Self::NotCompared => None,
        }
    }

    /// Returns the problem that shows at this hop.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Differs { problem, .. } | Self::Unread { problem } => Some(problem),
            Self::Agrees { .. } | Self::NotCompared => None,
        }
    }
}

/// The components on the path of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// The Cloud Controller, which has the route and its destinations.
    CloudController,
    /// Diego's BBS, which has the instances.
    Bbs,
    /// The auctioneer, which places instances on cells.
    Auctioneer,
    /// The rep of the instance's cell.
    Rep,
    /// The part of the cell that has the container.
    Garden,
    /// The app itself, in its container.
    App,
    /// The Envoy of the instance.
    Envoy,
    /// The cell's firewall, which translates a port of the cell to the container's.
    Iptables,
    /// The route-emitter of the instance's cell.
    RouteEmitter,
    /// The message bus between emitters and routers.
    Nats,
    /// The router, which has the endpoint.
    Router,
    /// The route service to which the route is bound.
    RouteService,
    /// The program that requests the route.
    Client,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CloudController => "cloud-controller",
            Self::Bbs => "bbs",
            Self::Auctioneer => "auctioneer",
            Self::Rep => "rep",
            Self::Garden => "garden",
            Self::App => "app",
            Self::Envoy => "envoy",
            Self::Iptables => "iptables",
            Self::RouteEmitter => "route-emitter",
            Self::Nats => "NATS",
            Self::Router => "router",
            Self::RouteService => "route service",
            Self::Client => "client",
        })
    }
}

/// The interfaces at which values are read, one for each field of [`crate::Observations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The Cloud Controller's API, `GET /v3/routes`.
    Routes,
    /// The BBS's list of actual LRPs. It has what the rep reports about cell and container.
    ActualLrps,
    /// The page `/config_dump` of the instance's Envoy.
    EnvoyConfig,
    /// The certificate in the container.
    Certificate,
    /// The cell's nat table.
    NatRules,
    /// The `router.register` messages on NATS.
    Registrations,
    /// The router's page `/routes`.
    Table,
    /// A request through the router.
    Request,
}
