//! The input: what the components show about one route and one of its instances.

use serde_json::Value;
use wire::bbs::ActualLrp;
use wire::router::RegistryMessage;

/// The value that a component shows. The error names the reason why the component could not be read.
pub type Read<T> = Result<T, String>;

/// Everything that was read about one route. A component that could not be read does not keep the others from being compared.
#[derive(Clone, Debug)]
pub struct Observations {
    /// The route: a host name without a path.
    pub route: String,
    /// The Cloud Controller's answer to `GET /v3/routes` for this route.
    pub routes: Read<Value>,
    /// The BBS's actual LRPs, at least those of the route's app.
    pub actual_lrps: Read<Vec<ActualLrp>>,
    /// The text of the page `/config_dump` of the instance's Envoy.
    pub envoy_config: Read<String>,
    /// The names in the instance's certificate, as `openssl x509 -ext subjectAltName` prints them.
    pub certificate: Read<String>,
    /// The rules of the cell's nat table, as `iptables -t nat -S` prints them.
    pub nat_rules: Read<String>,
    /// The last `router.register` message that names the route. It is `None` if no such message was seen.
    pub registration: Read<Option<RegistryMessage>>,
    /// The router's table: a list of endpoints for each route, as its `GET /routes` returns it.
    pub table: Read<Value>,
    /// The status of the answer to a client's request for the route.
    pub answer: Read<u16>,
}
