//! The stations of both lines.

use serde::Serialize;

/// A component on the way of a route. The order is that of the first line, on which a route becomes reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Station {
    Bbs,
    Auctioneer,
    Cell,
    Container,
    Envoy,
    Dnat,
    RouteEmitter,
    Nats,
    Router,
}
