//! The names of the components on the path of a route.

use serde::Serialize;
use std::fmt;

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
